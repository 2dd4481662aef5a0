"""Notebooks are in step with their chapters, plain Markdown, and run with parameters."""

import json
import os
import re
import subprocess
import sys

import jupytext
import nbformat
import pytest

from ilsvrc import chapters, notebooks, paths

HEADER = """---
kernelspec: {name: python3, display_name: Python 3, language: python}
---
"""
PARAMETERS = """
```{code-cell}
:tags: [parameters]

profile = None
epochs = None
```
"""
SMALL = (
    HEADER
    + PARAMETERS
    + """
```{code-cell}
:tags: [nbval-check-output]

print("epochs", epochs)
```

```{code-cell}
print("profile", profile)
```
"""
)
BIBLIOGRAPHY = """
@article{one, author = {Last, First}, title = {T}, year = {2001}, doi = {10.1/x}}
@article{many, author = {A, B and C, D and E, F}, title = {T}, year = {2012}, eprint = {1.2}}
"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    """Return a function that writes small chapters into a course of its own."""

    def write(**pages):
        for name, text in pages.items():
            (tmp_path / "chapters" / f"{name}.md").write_text(text, encoding="utf-8")
        return tmp_path

    (tmp_path / "chapters").mkdir()
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "references.bib").write_text(BIBLIOGRAPHY)
    monkeypatch.setattr(paths, "CHAPTERS", tmp_path / "chapters")
    return write


def text_of(course, markdown):
    """Return a chapter's Markdown as its notebook shows it."""
    [file] = notebooks.generate(course(page=HEADER + markdown))
    cells = nbformat.read(file, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def sources(file):
    """Return what a notebook holds beside its outputs."""
    notebook = nbformat.read(file, as_version=4)
    return [(cell.id, cell.cell_type, cell.metadata, cell.source) for cell in notebook.cells]


@pytest.mark.tools
def test_notebooks_are_in_step_with_the_chapters(tmp_path):
    fresh = notebooks.generate(out=tmp_path)
    committed = sorted((paths.ROOT / "notebooks").glob("*.ipynb"))
    assert [file.name for file in fresh] == [file.name for file in committed]
    for new, old in zip(fresh, committed, strict=True):
        assert sources(new) == sources(old), f"{old.name} is out of step: run `make notebooks`"


@pytest.mark.tools
def test_notebooks_are_valid_and_show_no_raw_myst(tmp_path):
    for file in notebooks.generate(out=tmp_path):
        notebook = nbformat.read(file, as_version=4)
        nbformat.validate(notebook)
        assert [cell.source for cell in notebook.cells].count(notebooks.FIRST_CELL) == 1
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                prose = re.sub(r"```.*?```|`[^`]*`", "", cell.source, flags=re.DOTALL)
                assert not re.search(r"\{[\w:-]+\}(?=`)|^:::|^\([\w-]+\)=", prose, re.M), prose
                assert "```{" not in cell.source


def test_a_notebook_opens_with_words_and_folds_the_code_that_the_book_folds():
    for file in (paths.ROOT / "notebooks").glob("*.ipynb"):
        title, first, *rest = nbformat.read(file, as_version=4).cells
        assert title.source.startswith("# ") and first.source == notebooks.FIRST_CELL
        for cell in (first, *(cell for cell in rest if cell.cell_type == "code")):
            tags = set(cell.metadata.get("tags", []))
            folded = cell is first or tags & {"hide-input", "hide-cell", "remove-cell"}
            folded = bool(folded) and "parameters" not in tags
            assert (cell.metadata.get("cellView") == "form") == folded, cell.source
            hidden = cell.metadata.get("jupyter", {}).get("source_hidden", False)
            assert hidden == folded, f"{file.name}: {cell.source[:60]!r}"


def test_only_tagged_cells_hold_outputs():
    for file in (paths.ROOT / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(file, as_version=4).cells:
            if cell.cell_type == "code":
                tagged = notebooks.REFERENCE in cell.metadata.get("tags", [])
                assert bool(cell.execution_count) == tagged, f"{file.name}: {cell.source[:60]!r}"
                assert tagged or not cell.outputs


@pytest.mark.tools
@pytest.mark.parametrize(
    ("myst", "plain"),
    [
        ("```{note}\nA *word*.\n```", "> **Note.**\n>\n> A *word*."),
        (":::{note} At once.\n:::", "> **Note.**\n>\n> At once."),
        ("::::{tip}\n:::{note}\nIn.\n:::\n::::", "> **Tip.**\n>\n> > **Note.**\n> >\n> > In."),
        ("```{admonition} Where it differs\nB\n```", "> **Where it differs.**\n>\n> B"),
        (
            "```{dropdown} The answer\nIt is 7.\n```",
            "<details>\n<summary>The answer</summary>\n\nIt is 7.\n\n</details>",
        ),
        (
            "```{note}\n:class: dropdown\nA\n```",
            "<details>\n<summary>Note</summary>\n\nA\n\n</details>",
        ),
        ("said {cite}`one`.", "said ([Last, 2001](https://doi.org/10.1/x))."),
        ("{cite:t}`many` say", "[A et al. (2012)](https://arxiv.org/abs/1.2) say"),
        (
            "{cite}`one,many`",
            "([Last, 2001](https://doi.org/10.1/x); [A et al., 2012](https://arxiv.org/abs/1.2))",
        ),
        ("a {term}`ReLU` and {term}`maps <feature map>`", "a ReLU and maps"),
        ("see {eq}`e`\n\n$$\nx\n$$ (e)\n\nend", "see (1)\n\n$$\nx \\tag{1}\n$$\n\nend"),
        ("$$x^2$$", "$$\nx^2\n$$"),
        ("```{math}\n:label: e\nx\n```\n{eq}`e`", "$$\nx \\tag{1}\n$$\n(1)"),
        (
            "```{figure} ../book/a.svg\n:name: f\n:alt: A tower\nIt *leans*.\n```\n{numref}`f`",
            "![A tower](../book/a.svg)\n\n**Figure 1.** It *leans*.\nFigure 1",
        ),
        ("(top)=\n# Head\n\n{ref}`top` [](#top)", "# Head\n\nHead Head"),
        ("`{note}` and ``{cite}`one` `` stay", "`{note}` and ``{cite}`one` `` stay"),
        ("```python\n:::{note}\n{cite}`one`\n```", "```python\n:::{note}\n{cite}`one`\n```"),
        ("{doc}`this <page>`, [that](page.md)", "[this](page.ipynb), [that](page.ipynb)"),
        (
            "[words](../book/glossary.md)",
            f"[words]({notebooks.REPOSITORY}/blob/main/book/glossary.md)",
        ),
        ("![A](pic.png){width=50%}", "![A](../chapters/pic.png)"),
        ("H{sub}`2`O {math}`x`", "H<sub>2</sub>O $x$"),
        ("a\n% a comment\nb", "a\nb"),
    ],
)
def test_myst_becomes_plain_markdown(course, myst, plain):
    assert text_of(course, myst) == plain


@pytest.mark.tools
@pytest.mark.parametrize("unknown", ["```{mermaid}\n```", "{guilabel}`x`", "{cite}`nobody`"])
def test_what_has_no_counterpart_is_refused_with_its_chapter(course, unknown):
    with pytest.raises(ValueError, match=r"chapters/page\.md.*(mermaid|guilabel|nobody)"):
        text_of(course, unknown)


@pytest.mark.tools
def test_a_code_cells_caption_follows_it(course):
    figure = (
        "{numref}`waves`\n\n```{code-cell}\n---\nmystnb:\n"
        "  figure:\n    caption: It rises.\n    name: waves\n---\nfig\n```\n"
    )
    assert text_of(course, figure) == "Figure 1\n\n**Figure 1.** It rises."


@pytest.mark.tools
def test_generating_twice_gives_the_same_bytes_and_drops_strays(course, tmp_path):
    root = course(page=SMALL)
    [file] = notebooks.generate(root)
    once = file.read_bytes()
    (root / "notebooks" / "gone.ipynb").write_text("{}")
    assert notebooks.generate(root) == [file]
    assert file.read_bytes() == once
    assert not (root / "notebooks" / "gone.ipynb").exists()
    assert json.loads(once)["cells"][1]["metadata"] == {"tags": ["parameters"]}


@pytest.mark.tools
def test_ids_hang_on_the_cell_alone(course):
    [file] = notebooks.generate(course(page=SMALL))
    before = sources(file)
    [file] = notebooks.generate(
        course(page=SMALL.replace("```{code-cell}\nprint", "New.\n\n```{code-cell}\nprint"))
    )
    assert [cell for cell in sources(file) if cell[3] != "New."] == before


@pytest.mark.tools
def test_reference_outputs_are_kept_until_the_code_changes(course):
    [file] = notebooks.generate(course(page=SMALL))
    assert notebooks.refresh(file)
    outputs = [cell.get("outputs") for cell in nbformat.read(file, as_version=4).cells]
    assert [bool(output) for output in outputs] == [False, False, True, False]
    [file] = notebooks.generate(course(page=SMALL + "\nMore prose.\n"))
    assert not notebooks.refresh(file)
    [file] = notebooks.generate(course(page=SMALL.replace("epochs = None", "epochs = 2")))
    assert notebooks.refresh(file)
    assert nbformat.read(file, as_version=4).cells[2].outputs[0].text == "epochs 2\n"


def test_execute_takes_parameters_of_any_type(course, tmp_path):
    course(page=SMALL)
    file = notebooks.execute("page", "smoke", {"epochs": 3}, tmp_path / "run.ipynb")
    printed = [
        output.text
        for cell in nbformat.read(file, as_version=4).cells
        for output in cell.get("outputs", [])
    ]
    assert printed == ["epochs 3\n", "profile smoke\n"]


def test_execute_refuses_an_undefined_parameter_and_names_those_that_exist(course, tmp_path):
    course(page=SMALL)
    with pytest.raises(ValueError, match=r"'epoch'.*mean 'epochs'.*profile, epochs"):
        notebooks.execute("page", None, {"epoch": 3}, tmp_path / "run.ipynb")
    assert not (tmp_path / "run.ipynb").exists()


def test_execute_names_the_cell_that_fails_and_keeps_what_ran(course, tmp_path):
    course(page=SMALL + "\n```{code-cell}\nbroken = 1 / 0\n```\n")
    with pytest.raises(RuntimeError, match=r"(?s)Cell .*'broken = 1 / 0'.*ZeroDivisionError.*run"):
        notebooks.execute("page", None, {}, tmp_path / "run.ipynb")
    assert "profile None" in (tmp_path / "run.ipynb").read_text()


@pytest.mark.once
@pytest.mark.slow
def test_the_command_runs_a_page_with_parameters_whatever_matplotlibs_screen(tmp_path):
    file = tmp_path / "a.ipynb"
    words = ["run", "scoreboard", "--profile", "smoke", "-p", "epochs", "1", "-p", "seed", "3"]
    call = [sys.executable, "-m", "ilsvrc", *words, "-o", str(file)]
    settings = os.environ | {"MPLBACKEND": "nosuch"}
    done = subprocess.run(call, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    injected = [
        cell.source
        for cell in nbformat.read(file, as_version=4).cells
        if "injected-parameters" in cell.metadata.tags
    ]
    assert len(injected) == 1
    assert {"epochs = 1", "seed = 3", 'profile = "smoke"'} <= set(injected[0].splitlines())


# What holds for every chapter's source


@pytest.fixture(params=chapters.names())
def chapter(request):
    """Return each chapter's notebook in turn."""
    return jupytext.read(chapters.path(request.param), fmt="md:myst")


def code_cells(notebook):
    """Return a notebook's code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_a_chapter_names_its_language(chapter):
    assert chapter.metadata.kernelspec == {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }


def test_a_chapter_defines_every_parameter_that_is_injected(chapter):
    tagged = [cell for cell in code_cells(chapter) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert notebooks.defaults(chapter) == {
        "profile": None,
        "epochs": None,
        "seed": None,
        "claims": False,
    }


def test_a_chapters_figures_have_captions_and_alt_text(chapter):
    for cell in code_cells(chapter):
        shown = cell.metadata.get("mystnb", {})
        if "figure" in shown or "image" in shown:
            if "vis.diagram(" not in cell.source:  # an inline drawing holds its own description
                assert len(shown.get("image", {}).get("alt", "")) > 20, cell.source[:80]
            assert shown.get("figure", {}).get("caption", "").strip().endswith((".", "?", ")"))
