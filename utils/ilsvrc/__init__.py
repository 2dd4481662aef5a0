"""The shared code of *The ImageNet Winners*, a course on convolutional networks.

Importing this package imports no framework; its modules load on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "augment",
        "backend",
        "chapters",
        "data",
        "facts",
        "lab",
        "layers",
        "ledger",
        "listing",
        "notebooks",
        "paths",
        "profiles",
        "records",
        "vis",
    ],
    submod_attrs={"chapters": ["chapter"], "lab": ["Lab"], "profiles": ["Run"]},
)
