"""The form of a chapter: how long its parts are, what it holds, what it shares with others."""

import ast
import re
from collections import defaultdict

import jupytext
import pytest

from ilsvrc import chapters, paths
from networks import NETWORKS, PAGES

pytestmark = pytest.mark.tools

APPENDICES = {"2016_resnet_v2"}  # short: a core alone
HIDDEN = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
GOING_FURTHER = "## Going further"


def cells(name):
    text = chapters.path(name).read_text(encoding="utf-8")
    return jupytext.reads(text, fmt="md:myst").cells


def tags(cell):
    return set(cell.metadata.get("tags", []))


def figure(cell):
    return cell.metadata.get("mystnb", {}).get("figure")


def figures(parts):
    """Return how many figures some cells show; two of them are the package's."""
    own = sum(f"page.{name}(" in cell.source for cell in parts for name in ("own_run", "mistakes"))
    return own + sum(figure(cell) is not None for cell in parts)


def words(parts):
    """Return how many words of prose some cells hold, captions included."""
    text = " ".join(
        cell.source if cell.cell_type == "markdown" else (figure(cell) or {}).get("caption", "")
        for cell in parts
    )
    formula, tag, role = r"\$\$[^$]*\$\$|\$[^$\n]*\$", r"</?\w[^>]*>", r"\{cite\}`[^`]*`"
    text = re.sub(rf"{formula}|{tag}|{role}|^:[^\n]*$", " ", text, flags=re.MULTILINE)
    return len(re.findall(r"[\w'’%-]+", text))


def visible(parts):
    """Return how many lines of code a reader sees."""
    shown = [c for c in parts if c.cell_type == "code" and not tags(c) & HIDDEN]
    return sum(bool(line.strip()) for cell in shown for line in cell.source.splitlines())


def core(parts):
    """Return the cells above "Going further"."""
    for number, cell in enumerate(parts):
        if cell.cell_type == "markdown" and GOING_FURTHER in cell.source:
            above = cell.source.split(GOING_FURTHER)[0]
            return [*parts[:number], type(cell)(cell | {"source": above})]
    return parts


@pytest.mark.parametrize("name", [*PAGES, "modern"])
def test_a_chapter_and_its_core_keep_their_length(name):
    parts = cells(name)
    assert words(core(parts)) <= 1500 and visible(core(parts)) <= 100
    assert words(parts) <= 4000 and visible(parts) <= 250


@pytest.mark.parametrize("name", chapters.names())
def test_no_cell_is_longer_than_a_screen_and_the_network_is_one_cell(name):
    builders = 0
    for cell in (cell for cell in cells(name) if cell.cell_type == "code"):
        builder = any(
            isinstance(node, ast.FunctionDef) and "logits" in {a.arg for a in node.args.args}
            for node in ast.parse(cell.source).body
        )
        builders += builder
        lines = len(cell.source.splitlines())
        assert lines <= (30 if builder else 25), cell.source[:80]
    assert builders or name not in NETWORKS


@pytest.mark.parametrize("name", NETWORKS)
def test_a_chapter_holds_what_every_chapter_holds(name):
    parts = cells(name)
    text = "\n".join(cell.source for cell in parts)
    if name not in APPENDICES:
        assert 8 <= figures(parts) <= 14
        for heading in (GOING_FURTHER, "## Three sentences to remember", "## Train it, break it"):
            assert text.count(f"\n{heading}\n") + text.startswith(heading) == 1, heading
        kinds = re.findall(r"^\d\. \*(Count|Predict, then run|Design|Discuss)\.\*", text, re.M)
        assert len(kinds) == 6 and kinds.count("Count") <= 2, kinds
        assert kinds.count("Predict, then run") == 2
        assert kinds.count("Design") == kinds.count("Discuss") == 1
        for number in range(1, 7):
            assert re.search(rf'title="Answer {number}"', text), number
        three = text.split("## Three sentences to remember")[1].split(GOING_FURTHER)[0]
        assert re.findall(r"^(\d)\. ", three, re.M) == ["1", "2", "3"]
        assert text.count("page.challenge(") == 1
    for furniture in ("page.published(", "page.banner(", "page.which("):
        assert text.count(furniture) == 1, furniture


@pytest.mark.parametrize("name", PAGES)
def test_the_first_thing_a_reader_sees_is_a_picture_or_a_question(name):
    for cell in cells(name)[1:]:
        if cell.cell_type == "code" and tags(cell) & {"remove-cell", "hide-cell"}:
            continue
        question = any(mark in cell.source for mark in ("<details>", "page.answer("))
        if cell.cell_type == "markdown" and not question:
            assert len(cell.source) < 400 or "**Guess first:**" in cell.source, cell.source
            continue
        assert figure(cell) or question, cell.source
        return


@pytest.mark.parametrize("name", [*PAGES, "modern"])
def test_a_picture_that_cannot_be_drawn_says_so(name):
    """What a figure needs is asked of `page.complete`; SqueezeNet misses `real` aloud."""
    for cell in cells(name):
        for node in ast.parse(cell.source).body if figure(cell) else []:
            if isinstance(node, ast.If) and not node.orelse:
                asked = ast.unparse(node.test)
                assert asked.startswith("page.complete(") or asked == "real", cell.source


@pytest.mark.parametrize("name", [*PAGES, "modern"])
def test_terms_are_linked_at_their_first_use(name):
    text = chapters.path(name).read_text(encoding="utf-8")
    linked = re.findall(r"\{term\}`(?:[^`<]*<)?([^`>]+)>?`", text)
    assert len(set(linked)) >= (2 if name in APPENDICES else 4)
    assert len(linked) == len(set(linked)), linked


def test_chapters_share_few_lines():
    """What stands in three chapters or more belongs into the package; header and imports aside."""
    seen = defaultdict(set)
    for name in PAGES:
        for line in chapters.path(name).read_text(encoding="utf-8").splitlines():
            line = line.strip()
            if len(line) >= 25 and not re.match(
                r"from |import |:tags: |:::|<div|profile = |epochs = |claims = ", line
            ):
                seen[line].add(name)
    shared = sorted(line for line, names in seen.items() if len(names) >= 3)
    assert len(shared) <= 30, shared


def test_the_welcome_names_what_a_core_takes():
    for name in ("welcome", "teachers_guide"):
        assert "45 minutes" in (paths.ROOT / "book" / f"{name}.md").read_text(encoding="utf-8")
