"""Tables that chapters measure: written whole, read back, or named as damaged."""

import pytest
from click.testing import CliRunner

from ilsvrc import chapters, cli, paths, tables

pytestmark = pytest.mark.once

PAGE = """\
---
kernelspec: {name: python3, display_name: Python 3}
---

```{code-cell} ipython3
:tags: [model]

def squares():
    return [{"n": n, "what": "a, b", "square": n * n / 2} for n in range(3)]

def broken():
    raise RuntimeError("half-way")

def nothing():
    return []

measured = {"squares": squares, "broken": broken, "nothing": nothing}
```
"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    """Return a folder for results, in a course whose page `page` measures two tables."""
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "page.md").write_text(PAGE)
    monkeypatch.setattr(paths, "CHAPTERS", tmp_path / "chapters")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    chapters.chapter.cache_clear()
    yield tmp_path / "results"
    chapters.chapter.cache_clear()


def measure(*words):
    return CliRunner().invoke(cli.cli, ["measure", *words])


def test_a_table_is_measured_and_read_back_with_how_it_came_about(course):
    assert tables.read("page", "squares") is None
    done = measure("page", "squares")
    assert done.exit_code == 0 and done.output.strip() == str(course / "page" / "squares.csv")
    table = tables.read("page", "squares")
    assert table.to_dict("list") == {
        "n": [0, 1, 2],
        "what": ["a, b"] * 3,
        "square": [0.0, 0.5, 2.0],
    }
    assert set(table.attrs) == {"commit", "date", "backend", "versions", "device", "seconds"}


def test_what_is_not_measured_is_answered_and_a_failure_leaves_the_old_table(course):
    assert "Did you mean 'squares'" in str(measure("page", "square").exception)
    tables.measure("page", "squares")
    (course / "page" / "squares.csv").rename(course / "page" / "broken.csv")
    before = (course / "page" / "broken.csv").read_bytes()
    with pytest.raises(RuntimeError, match="half-way"):
        tables.measure("page", "broken")
    with pytest.raises(ValueError, match="no row of 'nothing'"):
        tables.measure("page", "nothing")
    assert (course / "page" / "broken.csv").read_bytes() == before
    assert [file.name for file in (course / "page").iterdir()] == ["broken.csv"]


@pytest.mark.parametrize("text", ["", "no first line", "# {\nn,what\n1,2\n", "# {}\n"])
def test_a_damaged_table_is_named_with_the_command_that_mends_it(course, text):
    (course / "page").mkdir(parents=True)
    (course / "page" / "squares.csv").write_text(text)
    with pytest.raises(ValueError, match="ilsvrc measure page squares"):
        tables.read("page", "squares")
