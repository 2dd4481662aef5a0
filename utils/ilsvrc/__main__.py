"""`python -m ilsvrc` is the command line, as `ilsvrc` is."""

from ilsvrc.cli import main

main()
