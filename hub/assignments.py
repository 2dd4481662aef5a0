"""Notebooks without answers, and nbgrader's own form of them: `make assignments`.

From each notebook in `notebooks/` with a list of exercises two are made below `build/assignments`:
`source/NAME/NAME.ipynb` for nbgrader, whose hidden tests hold the right numbers, and
`release/NAME/NAME.ipynb` for students. A notebook without a list is an error, except for
the scoreboard.
"""

import re
import sys
import tomllib
from copy import deepcopy
from html import unescape
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
LIST = re.compile(r"(?:\*\*Exercises\.\*\*|^## Exercises)\n(.*)", re.MULTILINE | re.DOTALL)
NONE = {"scoreboard"}  # the pages without exercises
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
POINTS = {"Count": 2, "Predict, then run": 3, "Design": 3, "Discuss": 3}
HIDDEN = ("### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS")
CHECK = """\
# This cell marks exercise {number}; it needs no change.
import numpy as np

given = np.ravel(answer_{number}).tolist()
assert ... not in given, "Exercise {number} is not answered yet."
assert len(given) == {count}, "answer_{number} is to be {ask}."
plain = all(isinstance(one, (int, float)) for one in given)
assert plain, "answer_{number} is to hold plain numbers such as 1234.5: no quotes, commas or %."
### BEGIN HIDDEN TESTS
for place, (one, right, unit) in enumerate(zip(given, {right}, {units}), 1):
    said = f"Exercise {number} asks for {ask}. Number {{place}} of yours, {{one}}, is not right."
    assert abs(one - right) <= unit, said
### END HIDDEN TESTS"""
ASKED = "{head}\n\nPut into `answer_{number}` {ask}{form}."
PLACE = "*Your answer here, and what you ran for it in cells below.*"


def exercises(notebook) -> dict[int, tuple[str, str]]:
    """Return a notebook's exercises: number -> (kind, such as "Count", and text)."""
    found = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (listed := LIST.search(cell.source)):
            item = re.compile(r"^(\d)\. (?:\*([^*]+)\.\* )?(.*)$", re.MULTILINE)
            found |= {int(number): (kind, text) for number, kind, text in item.findall(listed[1])}
    return found


def answers(cell) -> list[int]:
    """Return which exercises' answers a cell shows; a guess on the page is no exercise."""
    if cell.cell_type != "code":
        return []
    return [int(number) for number in re.findall(r'title="Answer (\d)"', cell.source)]


def shown(notebook) -> dict[int, str]:
    """Return the answers that a notebook has stored with it, as text by exercise."""
    found = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []) if answers(cell) else []:
            text = output.get("data", {}).get("text/html", "")
            for number, answer in re.findall(r"<summary>Answer (\d)</summary><p>(.*?)</p>", text):
                found[int(number)] = unescape(answer)
    return found


def right(answer: str, take: list[int]) -> tuple[list[float], list[float]]:
    """Return the numbers that an answer shows, and how far from them one may round.

    Args:
        answer: its text.
        take: which of its numbers, from 0.

    Raises:
        ValueError: it has not so many numbers.
    """
    numbers = NUMBER.findall(answer)
    if max(take) >= len(numbers):
        raise ValueError(f"no number {max(take)} in the answer {answer!r}")
    texts = [numbers[index].replace(",", "").rstrip(".") for index in take]
    values = [float(text) if "." in text else int(text) for text in texts]
    return values, [0.5000001 * 10 ** -len(text.partition(".")[2]) for text in texts]


def marked(cell, name: str, **of_nbgrader):
    """Return a cell with nbgrader's metadata."""
    kinds = {"grade": False, "solution": False, "task": False, "locked": False}
    cell.id = name.replace("_", "-")
    cell.metadata["nbgrader"] = {"grade_id": name, "schema_version": 3} | kinds | of_nbgrader
    return cell


def to_do(number: int, kind: str, text: str, check: dict | None, answer: str) -> list:
    """Return the cells in which a student answers one exercise, with the answer hidden in them."""
    code, words = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    head = f"**Exercise {number}.** {text}"
    if check is None:
        mark = {"grade": True, "solution": True, "points": POINTS.get(kind, 2)}
        return [
            marked(words(head), f"asked_{number}", locked=True),
            marked(words(PLACE), f"exercise_{number}", **mark),
        ]
    numbers, units = right(answer, check["take"])
    form = ", in a list in this order" * (len(numbers) > 1)
    asked = ASKED.format(head=head, number=number, ask=check["ask"], form=form)
    value = numbers if len(numbers) > 1 else numbers[0]
    solution = f"### BEGIN SOLUTION\nanswer_{number} = {value}\n### END SOLUTION"
    test = CHECK.format(
        number=number, count=len(numbers), ask=check["ask"], right=numbers, units=units
    )
    return [
        marked(words(asked), f"asked_{number}", locked=True),
        marked(code(solution), f"exercise_{number}", solution=True),
        marked(code(test), f"check_{number}", grade=True, locked=True, points=POINTS["Count"]),
    ]


def source(notebook, checks: dict):
    """Return a notebook in nbgrader's source form, or None where it has no exercises.

    Args:
        notebook: one of `notebooks/`; it stays as it is.
        checks: exercise, as text -> what `checks.toml` says of it.

    Raises:
        ValueError: `checks` names an exercise whose stored answer has not the numbers.
    """
    asked, known = exercises(notebook), shown(notebook)
    if not asked:
        return None
    made = deepcopy(notebook)
    cells = []
    for cell in made.cells:
        if answers(cell):
            continue
        cells.append(cell)
        if cell.cell_type == "markdown" and LIST.search(cell.source):
            for number, (kind, text) in asked.items():
                check = checks.get(str(number))
                if check and number not in known:
                    raise ValueError(f"exercise {number} is checked, and no answer of it is stored")
                cells += to_do(number, kind, text, check, known.get(number, ""))
    made.cells = cells
    for cell in made.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return made


def release(notebook):
    """Return what a student gets of a notebook in source form: no solution, no hidden test."""
    made = deepcopy(notebook)
    for cell in made.cells:
        solved = re.compile(r"### BEGIN SOLUTION.*?### END SOLUTION", re.DOTALL)
        cell.source = solved.sub(_blank, cell.source)
        cell.source = re.sub(rf"\n?{HIDDEN[0]}.*?{HIDDEN[1]}", "", cell.source, flags=re.DOTALL)
    return made


def _blank(solution: re.Match) -> str:
    return re.sub(r" = .*", " = ...  # YOUR CODE HERE", solution[0].splitlines()[1])


def write(folder: Path, root: Path = ROOT) -> list[Path]:
    """Write both forms of each notebook with exercises, and return the students' files.

    Raises:
        ValueError: `hub/checks.toml` does not fit a notebook, or one has no list of exercises; the
            message names it.
    """
    checks = tomllib.loads((root / "hub" / "checks.toml").read_text(encoding="utf-8"))
    files = sorted((root / "notebooks").glob("*.ipynb"))
    if unknown := set(checks) - {file.stem for file in files}:
        raise ValueError(
            f"hub/checks.toml names {', '.join(sorted(unknown))}, and no such notebook"
        )
    written = []
    for file in files:
        try:
            made = source(nbformat.read(file, as_version=4), checks.get(file.stem, {}))
        except ValueError as error:
            raise ValueError(f"hub/checks.toml, {file.stem}: {error}") from error
        if made is None and file.stem not in NONE:
            raise ValueError(
                f"No exercises found in {file.stem}: a numbered list has to follow "
                "**Exercises.** or ## Exercises in the chapter"
            )
        for form, notebook in (("source", made), ("release", made and release(made))):
            if notebook:
                target = folder / form / file.stem / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                nbformat.write(notebook, target)
                written += [target] if form == "release" else []
    return written


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    try:
        written = write(folder)
    except ValueError as error:
        sys.exit(str(error))
    print(
        f"{len(written)} notebooks. No exercises in: {', '.join(sorted(NONE))}.\n"
        f"For students: {folder / 'release'}\n"
        f"For nbgrader: {folder / 'source'}\n"
        "How to give them out and mark them: the book's page For teachers, Marking."
    )
