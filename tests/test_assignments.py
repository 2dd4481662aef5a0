"""The assignments: no answer in a student's notebook, the right numbers in the teacher's."""

import importlib.util
import re
import shutil

import nbformat
import numpy as np
import pytest
import yaml
from traitlets.config import Config

from ilsvrc import chapters, paths

pytestmark = [pytest.mark.once, pytest.mark.tools]

# The right answer to each exercise that a program marks, written by hand from question and answer.
RIGHT = {
    "2012_alexnet": {1: [663_936, 1_327_488], 2: 19},
    "2013_zfnet": {1: [614_656, 307_456], 2: [139, 163]},
    "2014_googlenet": {1: [6_379_728, 2_098_176], 2: 28},
    "2014_vgg": {1: [295_168, 819_456], 2: 15_227_688},
    "2015_resnet": {1: [49, 4], 2: [435, 1507]},
    "2016_densenet": {1: [59, 31], 2: [1, 34]},
    "2016_ensemble": {2: 29.0},
    "2016_resnet_v2": {3: 65_536},
    "2016_resnext": {2: [34_426_698, 89_599_818]},
    "2016_squeezenet": {2: [341_248, 346]},
    "2017_mobilenet": {1: [2304, 481], 2: [6.6, 3.8]},
    "2017_senet": {1: [79, 32], 2: [8192, 179_830_784]},
    "2019_efficientnet": {1: [16, 55], 2: 3_135_300},
}


@pytest.fixture(scope="module")
def assignments():
    place = importlib.util.spec_from_file_location("assignments", paths.ROOT / "hub/assignments.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(assignments, tmp_path_factory):
    """Return all notebooks by form and name."""
    folder = tmp_path_factory.mktemp("assignments")
    assignments.write(folder)
    files = sorted(folder.glob("*/*/*.ipynb"))
    return {(file.parts[-3], file.stem): nbformat.read(file, as_version=4) for file in files}


def graded(notebook):
    return {
        cell.metadata.nbgrader.grade_id: cell
        for cell in notebook.cells
        if "nbgrader" in cell.metadata
    }


def check(cells, number, answer):
    exec(cells[f"check_{number}"].source, {f"answer_{number}": answer})


def run(cells, number, answer=None):
    """Execute a check as nbgrader does, behind the cell where the answer stands."""
    if answer is None:
        values = {}
        exec(cells[f"exercise_{number}"].source, values)
        answer = values[f"answer_{number}"]
    check(cells, number, answer)


def test_no_answer_is_left_to_a_student(made):
    names = {name for form, name in made if form == "release"}
    assert names == set(chapters.names()) - {"scoreboard"}
    for name in names:
        notebook = made["release", name]
        whole = nbformat.read(paths.ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        text = "\n".join(cell.source for cell in notebook.cells)
        assert not re.search(r'title="Answer \d|HIDDEN TESTS|SOLUTION', text), name
        assert not [cell for cell in notebook.cells if cell.get("outputs")]
        assert "**Guess" in nbformat.writes(notebook) or "Guess" not in nbformat.writes(whole)
        nbformat.validate(notebook)


def test_every_exercise_is_put_and_counts(made, assignments):
    for (_, name), notebook in made.items():
        whole = nbformat.read(paths.ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        cells = graded(notebook)
        asked = assignments.exercises(whole)
        assert list(asked) == list(range(1, len(asked) + 1)) and len(asked) in (2, 3, 6), name
        for number, (_, text) in asked.items():
            question = cells[f"asked_{number}"]
            assert f"**Exercise {number}.** {text}" in question.source
            assert question.metadata.nbgrader.locked and not question.metadata.nbgrader.solution
            [marked] = [cells[k] for k in (f"check_{number}", f"exercise_{number}")
                        if k in cells and cells[k].metadata.nbgrader.grade]  # fmt: skip
            assert marked.metadata.nbgrader.points > 0
        assert len(cells) == len(
            {cell.id for cell in notebook.cells if "nbgrader" in cell.metadata}
        )


def test_the_numbers_that_are_asked_for_are_the_right_ones(made):
    """A key that is taken from the wrong place of an answer would pass every other test."""
    found = {}
    for (form, name), notebook in made.items():
        cells = graded(notebook)
        for number in [int(key[-1]) for key in cells if key.startswith("check_")]:
            values = {}
            exec(cells[f"exercise_{number}"].source, values)
            if form == "source":
                found.setdefault(name, {})[number] = values[f"answer_{number}"]
    assert found == RIGHT
    assert sum(map(len, RIGHT.values())) == 22


@pytest.mark.parametrize("name", RIGHT)
def test_a_check_takes_the_right_answer_and_no_other(made, name):
    for number, right in RIGHT[name].items():
        with pytest.raises(AssertionError, match="not answered yet"):
            run(graded(made["release", name]), number)
        cells = graded(made["source", name])
        run(cells, number, right)
        several = right if isinstance(right, list) else [right]
        for wrong in ([one * 1.02 + 1 for one in several], several + [1], several[::-1][1:]):
            with pytest.raises(AssertionError):
                run(cells, number, wrong)


def test_alexnets_are_what_its_page_shows(made):
    cells = graded(made["source", "2012_alexnet"])
    assert "answer_1 = [663936, 1327488]" in cells["exercise_1"].source
    run(cells, 2, 18.6)  # it says 19 %
    with pytest.raises(AssertionError):
        run(cells, 2, 18.4)


@pytest.mark.parametrize(
    "given, said",
    [
        (["663,936", "1,327,488"], "no quotes, commas or %"),
        (None, "to be two numbers"),
        ([1_327_488, 663_936], "two numbers: with two groups, and with one. Number 1 "),
        ([663_936, 663_936], "Number 2 of yours, 663936, is not right"),
        ([float("nan"), 1_327_488], "Number 1 "),
        ([663_936, ...], "not answered yet"),
    ],
)
def test_a_wrong_answer_is_told_what_is_wrong_with_it(made, given, said):
    cells = graded(made["source", "2012_alexnet"])
    for right in ((663_936, 1_327_488), np.array([663_936.0, 1_327_488.0])):
        run(cells, 1, right)
    with pytest.raises(AssertionError, match=re.escape(said)):
        check(cells, 1, given)


def test_a_page_without_a_list_of_exercises_is_named(assignments, tmp_path):
    for folder in ("notebooks", "hub"):
        (tmp_path / folder).mkdir()
    (tmp_path / "hub" / "checks.toml").touch()
    shutil.copy(paths.ROOT / "notebooks" / "scoreboard.ipynb", tmp_path / "notebooks")
    assert assignments.write(tmp_path / "made", tmp_path) == []
    empty = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("### Exercise\n\n1. So?")]
    )
    nbformat.write(empty, tmp_path / "notebooks" / "2021_widget.ipynb")
    with pytest.raises(ValueError, match="No exercises found in 2021_widget"):
        assignments.write(tmp_path / "made", tmp_path)


def test_a_table_that_does_not_fit_is_refused(assignments):
    whole = nbformat.read(paths.ROOT / "notebooks" / "2012_alexnet.ipynb", as_version=4)
    for checks, said in [
        ({"1": {"ask": "", "take": [9]}}, "no number 9"),
        ({"3": {"ask": "", "take": [0]}}, "no answer of it is stored"),
    ]:
        with pytest.raises(ValueError, match=said):
            assignments.source(whole, checks)


def test_the_guide_lists_what_is_checked_by_program(assignments):
    guide = (paths.ROOT / "book" / "teachers_guide.md").read_text(encoding="utf-8")
    listed = re.findall(r"`(\w+)` ((?:\d, )*\d)[;.]", guide.split("## Marking")[1])
    assert {name: [int(one) for one in which.split(", ")] for name, which in listed} == {
        name: list(which) for name, which in RIGHT.items()
    }
    assert f"{sum(map(len, RIGHT.values()))} in all" in guide


def test_the_guides_numbers_of_exercises_and_points_are_right(made):
    def points(name, kind):
        cells = [cell.metadata.nbgrader for cell in made["release", name].cells
                 if "nbgrader" in cell.metadata and cell.cell_type == kind]  # fmt: skip
        return [cell.points for cell in cells if cell.grade]

    assert sum(points("2012_alexnet", "code")) == 4
    assert sum(points("2012_alexnet", "markdown")) == 12
    how_many = {name: len(points(name, "code") + points(name, "markdown"))
                for name in chapters.names() if name != "scoreboard"}  # fmt: skip
    others = {"2016_ensemble": 3, "2016_resnet_v2": 3, "compare": 3, "replication": 3,
              "one_photograph": 2}  # fmt: skip
    assert {name: number for name, number in how_many.items() if number != 6} == others


def test_nbgraders_settings_name_the_course_and_the_exchange_of_the_guide():
    settings = Config()
    text = (paths.ROOT / "hub" / "nbgrader" / "nbgrader_config.py").read_text()
    exec(text, {"get_config": lambda: settings})
    address = yaml.safe_load(paths.SETTINGS.read_bytes())["repository"]["url"]
    assert settings.CourseDirectory.course_id == address.rpartition("/")[2]
    guide = (paths.ROOT / "book" / "teachers_guide.md").read_text(encoding="utf-8")
    assert f"install -d -m 1777 {settings.Exchange.root}\n" in guide
    assert settings.CourseDirectory.root.endswith("/grading") and "~/grading/" in guide
    hub = (paths.ROOT / "hub" / "jupyterhub_config.py").read_text()
    assert '"JUPYTER_CONFIG_PATH": str(ROOT / "hub" / "nbgrader")' in hub
    assert "JUPYTER_CONFIG_PATH=$PWD/hub/nbgrader" in guide
