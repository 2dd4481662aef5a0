"""The checks on notebooks can fail: each is given what it must catch."""

import os
import subprocess
import sys

import nbformat
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.tools]


@pytest.fixture
def nbval(tmp_path):
    """Return a function that runs `make test-notebooks`' command on a small notebook."""

    def run(*cells):
        notebook = nbformat.v4.new_notebook(cells=cells)
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, tmp_path / "small.ipynb")
        options = [
            "--nbval-lax",
            "--nbval-current-env",
            "-p",
            "no:randomly",
            "-p",
            "no:cacheprovider",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "--rootdir", tmp_path, *options, "small.ipynb"],
            cwd=tmp_path,
            env=os.environ | {"ILSVRC_PROFILE": "smoke"},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout

    return run


def cell(source, printed=None):
    """Return a code cell; with `printed`, a checked one that once printed it."""
    if printed is None:
        return nbformat.v4.new_code_cell(source)
    output = nbformat.v4.new_output("stream", name="stdout", text=printed)
    tagged = {"tags": ["nbval-check-output"]}
    return nbformat.v4.new_code_cell(source, metadata=tagged, outputs=[output], execution_count=1)


def test_a_true_reference_passes(nbval):
    code, report = nbval(cell("n = 60_965_224"), cell("print(n)", "60965224\n"))
    assert code == 0, report


def test_a_falsified_reference_fails(nbval):
    code, report = nbval(cell("n = 60_965_224"), cell("print(n)", "62378344\n"))
    assert code == 1
    assert "62378344" in report


def test_a_broken_notebook_fails(nbval):
    code, report = nbval(cell("import keras_is_not_spelled_so"))
    assert code == 1
    assert "ModuleNotFoundError" in report


def test_a_reference_that_was_never_run_is_not_compared(nbval):
    """Why `test_only_tagged_cells_hold_outputs` asks for an execution count."""
    never = cell("print(1)", "2\n")
    never.execution_count = None
    never.outputs = []
    assert nbval(never)[0] == 0
