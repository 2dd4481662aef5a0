"""`ilsvrc new-chapter`: the chapter that it lays out passes what every chapter has to pass."""

import os
import shutil
import subprocess
import sys

import pytest

from ilsvrc import paths

pytestmark = [pytest.mark.once, pytest.mark.tools]

# What is asked of every chapter, or counts them, and is quick.
ASKED = "2018_widget or test_widget or every_chapter or share_few_lines or headline_run or in_step"
FILES = [
    "widget",
    "pages",
    "chapters",
    "keys",
    "listing",
    "notebooks",
    "saving",
    "compare",
    "facts",
]
SLOW = "not every_fit and not recipe and not what_the_sheet and not loads_alone"


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """Return a copy of the repository with what the command needs, and a draft in it."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("book", "chapters", "notebooks", "tests", "utils"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(paths.ROOT / name, folder / name, ignore=ignored)
    for name in ("_config.yml", "_toc.yml", "pyproject.toml", ".gitignore"):
        shutil.copy(paths.ROOT / name, folder)
    (folder / "results").symlink_to(paths.RESULTS)
    done = here(folder, "ilsvrc", "new-chapter", "2018", "widget")
    assert done.returncode == 0, done.stderr
    return folder


def here(folder, *words):
    """Run a module of a copy of the course."""
    env = os.environ | {"PYTHONPATH": str(folder / "utils")}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=env, text=True, capture_output=True
    )


@pytest.mark.slow
def test_the_draft_passes_the_tests_of_every_chapter(copy):
    laid_out = ["tests/test_widget.py", "tests/test_keys.py", "notebooks/2018_widget.ipynb"]
    for words in (["check"], ["format", "--check"]):
        linted = here(copy, "ruff", *words, *laid_out)
        assert linted.returncode == 0, linted.stdout
    files = [f"tests/test_{name}.py" for name in FILES]
    done = here(
        copy, "pytest", "-q", "-p", "no:cacheprovider", "-k", f"({ASKED}) and {SLOW}", *files
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "2018_widget" in (copy / "_toc.yml").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["2018", "alexnet"], "2012_alexnet"),
        (["2018", "Two Words"], "lower case"),
        (["1998", "widget"], "from 2010"),
    ],
)
def test_what_will_not_do_is_refused_in_words(words, said):
    from ilsvrc import draft

    with pytest.raises(ValueError, match=said):
        draft.new_chapter(int(words[0]), words[1])


def test_a_list_that_has_changed_is_named_and_nothing_is_written(monkeypatch):
    from ilsvrc import draft

    before = (paths.ROOT / "_toc.yml").read_text()
    monkeypatch.setattr(draft, "LISTED", [draft.LISTED[0], ("_toc.yml", "no such line", "x")])
    with pytest.raises(ValueError, match=r"_toc\.yml has not once 'no such line'"):
        draft.new_chapter(2018, "widget")
    assert (paths.ROOT / "_toc.yml").read_text() == before
    assert not (paths.CHAPTERS / "2018_widget.md").exists()
