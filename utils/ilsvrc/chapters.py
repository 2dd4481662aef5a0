"""A chapter as code: its cells, and the definitions and runs in them."""

import functools
import linecache
import re
import sys
import types
from pathlib import Path
from typing import NamedTuple

import jupytext

from ilsvrc import paths
from ilsvrc.hints import did_you_mean


class Cell(NamedTuple):
    """One cell of a chapter, and where it stands in the file."""

    kind: str  # "code" or "markdown"
    tags: tuple[str, ...]
    source: str
    line: int  # of its first source line, from 1


def names() -> list[str]:
    """Return the names of all chapters, in the order of `_toc.yml`; those not in it come last."""
    contents = re.findall(r"file: chapters/(\w+)", paths.CONTENTS.read_text(encoding="utf-8"))
    there = sorted(path.stem for path in paths.CHAPTERS.glob("*.md"))
    return sorted(there, key=lambda name: (contents + there).index(name))


def path(name: str) -> Path:
    """Return the file of a chapter.

    Raises:
        ValueError: There is no such chapter; the message lists those that exist.
    """
    if name not in names():
        raise ValueError(
            f"No chapter is called {name!r}.{did_you_mean(name, names())} "
            f"There are: {', '.join(names())}."
        )
    return paths.CHAPTERS / f"{name}.md"


def cells(file: Path) -> list[Cell]:
    """Return the cells of a MyST Markdown notebook, in order."""
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()
    found, at = [], 0
    for cell in jupytext.reads(text, fmt="md:myst").cells:
        first = cell.source.splitlines()[0] if cell.source else ""
        for number in range(at, len(lines)):
            if lines[number] == first:
                at = number
                break
        tags = tuple(cell.metadata.get("tags", ()))
        found.append(Cell(cell.cell_type, tags, cell.source, at + 1))
        at += max(len(cell.source.splitlines()), 1)
    return found


@functools.cache
def chapter(name: str) -> types.ModuleType:
    """Return a chapter's definitions: its builders, its `fit` and its `runs`.

    Only the cells tagged `model` or `runs` are executed, in a module of their own, so a test, the
    command line or another chapter can use a network without running the chapter. Tracebacks point
    at the chapter's lines.

    Args:
        name: Such as "2012_alexnet".

    Raises:
        ValueError: There is no such chapter, or Keras is set to build other networks of it.
    """
    from ilsvrc import backend

    file = path(name)
    backend.check_settings()
    module = types.ModuleType(f"ilsvrc.chapter_{name}")
    module.__file__ = str(file)
    module.runs = []
    sys.modules[module.__name__] = module  # so that its classes can be serialised
    source = code(file)
    lines = source.splitlines(keepends=True)
    linecache.cache[str(file)] = (len(source), None, lines, str(file))  # what tracebacks show
    exec(compile(source, str(file), "exec"), module.__dict__)
    return module


def code(file: Path) -> str:
    """Return the cells tagged `model` or `runs` as one text, each on the lines where it stands."""
    lines = []
    for cell in cells(file):
        if cell.kind == "code" and {"model", "runs"} & set(cell.tags):
            lines += [""] * (cell.line - 1 - len(lines)) + cell.source.splitlines()
    return "\n".join(lines) + "\n"
