"""Notebooks from the chapters: generated for Colab, JupyterHub and nbval, or executed.

`python -m ilsvrc.notebooks` writes `notebooks/` anew from `chapters/`.
"""

import ast
import hashlib
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import jupytext
import nbformat
import yaml

from ilsvrc import chapters, files, myst, paths, profiles, records
from ilsvrc.hints import did_you_mean

REPOSITORY = yaml.safe_load(paths.SETTINGS.read_bytes())["repository"]["url"]
REFERENCE = "nbval-check-output"  # the tag of a cell whose output is the same on every machine
PLUMBING = {"hide-input", "hide-cell", "remove-cell"}  # the code that the book folds away
FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}  # so does Colab; so does Jupyter
FIRST_CELL = f'''\
# @title Run this first: it fetches the course, or brings it up to date
import importlib.util
import os
import shutil
import site
import subprocess
import sys

# What Keras runs on; empty: what is here. And a folder that keeps your own trainings, from where a
# lost one goes on: on Colab /content/drive/MyDrive/ilsvrc; empty: this machine's cache.
backend = ""  # @param ["", "tensorflow", "jax"]
runs = ""  # @param {{type: "string"}}
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's greetings
os.environ.setdefault("GIT_TERMINAL_PROMPT", "0")  # a wrong address asks for no password
wanted = {{"KERAS_BACKEND": backend, "ILSVRC_RUNS": runs}}
os.environ.update({{name: value for name, value in wanted.items() if value}})
if runs.startswith("/content/drive/") and "google.colab" in sys.modules:
    sys.modules["google.colab"].drive.mount("/content/drive")
script, course = "utils/ilsvrc/install.py", "imagenet-winners"
missing = importlib.util.find_spec("ilsvrc") is None
if os.path.isdir(f"{{course}}/.git"):  # fetched here another day
    pull = ["git", "-C", course, "pull", "--quiet", "--ff-only"]
    if not shutil.which("git") or subprocess.run(pull).returncode:
        print("The course could not be brought up to date: see above why, or there is no git here.")
elif missing:
    around = [place for place in ("..", ".") if os.path.isfile(f"{{place}}/{{script}}")]
    course = around[0] if around else course
    if not around:
        if not shutil.which("git"):
            raise SystemExit("There is no git here: install it, or ask whoever runs this server.")
        source = "{REPOSITORY}"
        source = os.environ.get("ILSVRC_REPOSITORY", source)
        clone = ["git", "clone", "--quiet", "--depth", "1", source, course]
        if subprocess.run(clone).returncode:
            raise SystemExit(f"The course could not be fetched from {{source}}: see above why.")
if missing:
    if subprocess.run([sys.executable, f"{{course}}/{{script}}"]).returncode:
        raise SystemExit("The course is not installed; what stands above says what to do.")
    site.addsitedir(site.getusersitepackages())  # it may be there since a minute ago
    sys.path.insert(0, os.path.abspath(f"{{course}}/utils"))
importlib.import_module("ilsvrc.frameworks").choose()  # Keras runs on what is here'''
METADATA = {
    "accelerator": "GPU",
    "colab": {"gpuType": "T4", "provenance": [], "toc_visible": True},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def generate(root: Path = paths.ROOT, out: Path | None = None) -> list[Path]:
    """Write a notebook for each chapter, and remove those that have none.

    A notebook holds the chapter in plain Markdown; behind its title and first words a cell
    installs the course where it is missing. Code that the book folds away is folded, but for the
    parameters, which a reader changes. Cell ids hang on the content alone, so the same chapter
    gives the same file. Reference outputs of cells tagged `nbval-check-output` are kept if the
    notebook in place has the same code; otherwise they are left empty, for `refresh`.

    Args:
        root: The repository: `chapters/*.md` and `book/references.bib` are read.
        out: Where the notebooks go; default: `root/notebooks`.

    Returns:
        The notebooks' files, in the order of the chapters.

    Raises:
        ValueError: A chapter holds MyST that has no counterpart in a notebook.
    """
    out = out or root / "notebooks"
    out.mkdir(parents=True, exist_ok=True)
    sources = sorted((root / "chapters").glob("*.md"))
    bibliography = root / "book" / "references.bib"
    citations = myst.citations(bibliography) if bibliography.exists() else {}
    names = frozenset(source.stem for source in sources)
    written = []
    for source in sources:
        page = myst.Page(citations, names, REPOSITORY)
        try:
            notebook = _convert(source.read_text(encoding="utf-8"), page)
        except ValueError as error:
            raise ValueError(f"{source.relative_to(root)}: {error}") from error
        file = out / f"{source.stem}.ipynb"
        if file.exists():
            _keep_outputs(nbformat.read(file, as_version=4), notebook)
        _write(notebook, file)
        written.append(file)
    for stale in set(out.glob("*.ipynb")) - set(written):
        stale.unlink()
    return written


def refresh(file: Path) -> bool:
    """Execute a generated notebook at `smoke` if a reference output is missing; return whether."""
    notebook = nbformat.read(file, as_version=4)
    tagged = [cell for cell in notebook.cells if REFERENCE in cell.metadata.get("tags", [])]
    if all(cell.execution_count for cell in tagged):
        return False
    folder = Path(tempfile.mkdtemp(prefix="ilsvrc-"))  # stays after a failure, to be looked at
    os.environ.update(ILSVRC_PROFILE="smoke", XDG_CACHE_HOME=str(folder))
    executed = nbformat.read(_papermill(notebook, folder / file.name, {}), as_version=4)
    _keep_outputs(executed, notebook)
    _write(notebook, file)
    shutil.rmtree(folder)
    return True


def execute(
    chapter: str,
    profile: str | None = None,
    parameters: dict | None = None,
    output: Path | str | None = None,
) -> Path:
    """Execute a chapter as a notebook, with a progress bar.

    Args:
        chapter: Such as "2012_alexnet".
        profile: "smoke", "laptop" or "gpu"; default: `ILSVRC_PROFILE`, else what fits the machine.
        parameters: Values for names of the chapter's parameters cell, such as {"epochs": 3}.
        output: The executed notebook; default: `notebooks/<chapter>.ipynb` in the user's cache.

    Returns:
        The executed notebook's file. After a failure it holds what ran until then.

    Raises:
        ValueError: There is no such chapter, it has no such parameter, or a value means nothing.
        RuntimeError: A cell failed; the message names it.
    """
    notebook = jupytext.read(chapters.path(chapter), fmt="md:myst")
    given = dict(parameters or {})
    if profile is not None:
        given["profile"] = profile
    known = defaults(notebook)
    for name in given:
        if name not in known:
            raise ValueError(
                f"{chapter} has no parameter {name!r}.{did_you_mean(name, known)} "
                f"It has: {', '.join(known)}."
            )
    profiles.check(**given)
    if output and (Path(output).suffix != ".ipynb" or Path(output).is_dir()):
        raise ValueError(
            f"The executed notebook is to be {str(output)!r}: name a file that ends in .ipynb."
        )
    target = Path(output) if output else paths.cache() / "notebooks" / f"{chapter}.ipynb"
    with files.room(target.parent, "The executed notebook is written"):
        if output:
            files.writable(target.parent, "The folder", "Name a notebook in another one.")
        target.parent.mkdir(parents=True, exist_ok=True)
        return _papermill(notebook, target, given)


def defaults(notebook: nbformat.NotebookNode) -> dict:
    """Return the names that a notebook's parameters cell sets, with their values.

    Raises:
        ValueError: A value is no literal, or the cell does something else than set names.
    """
    found = {}
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            for statement in ast.parse(cell.source).body:
                if not isinstance(statement, ast.Assign):
                    raise ValueError(f"The parameters cell may only set names: {cell.source!r}")
                found[statement.targets[0].id] = ast.literal_eval(statement.value)
    return found


def _after(target: Path) -> str:
    """Return, in words, the last cell that a stopped notebook began."""
    try:
        cells = nbformat.read(target, as_version=4).cells
    except (OSError, ValueError):
        return ""
    begun = [cell for cell in cells if cell.metadata.get("papermill", {}).get("start_time")]
    return f" in the cell that begins with {begun[-1].source.splitlines()[0]!r}" if begun else ""


def _papermill(notebook: nbformat.NotebookNode, target: Path, parameters: dict) -> Path:
    """Execute a notebook into a file with papermill."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # the kernel's greetings are no output
    try:
        papermill.execute_notebook(
            notebook,
            target,
            parameters,
            kernel_name="python3",
            shutdown_kernel="immediate",  # TensorFlow takes seconds to say goodbye
        )
    except PapermillExecutionError as error:
        first = error.source.strip().splitlines()[0]
        raise RuntimeError(
            f"Cell {error.cell_index + 1} of {target.stem}, which begins with {first!r}, failed: "
            f"{error.ename}: {error.evalue}\nWhat ran until then is in {target}"
        ) from None
    except (DeadKernelError, CellTimeoutError) as error:
        raise RuntimeError(
            f"The kernel that ran {target.stem} died{_after(target)}. Most often the machine's "
            "memory ran out: close other notebooks, or take a smaller profile, --profile laptop.\n"
            f"What ran until then is in {target}"
        ) from error
    return target


def _convert(text: str, page: myst.Page) -> nbformat.NotebookNode:
    """Return a chapter's text as a notebook for Colab, JupyterHub and nbval."""
    chapter = jupytext.reads(text, fmt="md:myst")
    for _ in range(2):  # the second time all labels are known
        page.counts.clear()
        cells = []
        for cell in chapter.cells:
            if cell.cell_type != "code":
                cells.append(("markdown", myst.plain(cell.source, page), []))
                continue
            cells.append(("code", cell.source, cell.metadata.get("tags", [])))
            figure = cell.metadata.get("mystnb", {}).get("figure", {})
            if "caption" in figure:
                caption = myst.caption(figure["caption"], figure.get("name"), page)
                cells.append(("markdown", caption, []))
    title = next((n for n, (kind, *_) in enumerate(cells) if kind == "code"), len(cells))
    cells.insert(title, ("code", FIRST_CELL, []))
    notebook = nbformat.v4.new_notebook(metadata=METADATA)
    seen = Counter()
    for kind, source, tags in cells:
        if not source:
            continue
        new = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
        digest = hashlib.sha256(f"{kind}\n{source}".encode()).hexdigest()[:8]
        seen[digest] += 1
        name = f"{digest}-{seen[digest]}" if seen[digest] > 1 else digest
        folded = source == FIRST_CELL or (PLUMBING & set(tags) and "parameters" not in tags)
        metadata = ({"tags": tags} if tags else {}) | (FOLDED if folded else {})
        notebook.cells.append(new(source, id=name, metadata=metadata))
    return notebook


def _keep_outputs(old: nbformat.NotebookNode, new: nbformat.NotebookNode) -> None:
    """Copy the outputs of tagged cells from a notebook with the same code behind its first cell."""
    pairs = [[cell for cell in nb.cells if cell.cell_type == "code"] for nb in (old, new)]
    if [cell.source for cell in pairs[0][1:]] != [cell.source for cell in pairs[1][1:]]:
        return
    for number, (was, cell) in enumerate(zip(*pairs, strict=True), start=1):
        if REFERENCE in cell.metadata.get("tags", []) and was.execution_count:
            cell.execution_count = number
            cell.outputs = was.outputs
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = number


def _write(notebook: nbformat.NotebookNode, file: Path) -> None:
    """Write a notebook whole or not at all."""
    text = nbformat.writes(notebook).rstrip("\n") + "\n"  # as nbformat.write ends it
    records.write_whole(file, lambda out: out.write(text.encode()))


def main() -> None:
    """Write `notebooks/` anew and execute what lacks a reference output."""
    try:
        for file in generate():
            print(f"{file.relative_to(paths.ROOT)}{' (executed)' if refresh(file) else ''}")
    except (ValueError, RuntimeError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
