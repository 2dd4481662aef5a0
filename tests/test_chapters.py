import subprocess
import sys
import traceback

import pytest

import ilsvrc
from ilsvrc import chapters, paths

SOURCE = """---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# Words

```{code-cell} python
raise RuntimeError("a cell without a tag is not executed")
```

```{code-cell} python
:tags: [model]

def three():
    return 3


def broken():
    return 1 / 0
```

```{code-cell} python
:tags: [runs]

runs = [three()]
```
"""


@pytest.fixture
def small_course(tmp_path, monkeypatch):
    (tmp_path / "1999_small.md").write_text(SOURCE, encoding="utf-8")
    monkeypatch.setattr(paths, "CHAPTERS", tmp_path)
    chapters.chapter.cache_clear()
    yield tmp_path / "1999_small.md"
    chapters.chapter.cache_clear()


def test_only_model_and_runs_are_executed(small_course):
    module = ilsvrc.chapter("1999_small")
    assert module.three() == 3
    assert module.runs == [3]


def test_a_traceback_points_at_the_chapters_line(small_course):
    with pytest.raises(ZeroDivisionError) as caught:
        ilsvrc.chapter("1999_small").broken()
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert last.filename == str(small_course)
    assert last.line == "return 1 / 0"


def test_cells_know_where_they_stand(small_course):
    lines = small_course.read_text(encoding="utf-8").splitlines()
    for cell in chapters.cells(small_course):
        assert lines[cell.line - 1] == cell.source.splitlines()[0]


def test_a_wrong_name_is_answered_with_the_right_ones(small_course):
    with pytest.raises(ValueError, match="Did you mean '1999_small'"):
        ilsvrc.chapter("1999_smal")


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in chapters.names() if n[0].isdigit()])
def test_every_chapter_loads_in_a_fresh_process(name):
    code = f"import ilsvrc; m = ilsvrc.chapter({name!r}); assert m.runs, 'no runs'; print(m.runs)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_importing_the_course_imports_no_framework():
    code = (
        "import sys, ilsvrc, ilsvrc.cli; "
        "assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("page", ["_toc.yml", "book/welcome.md", "book/teachers_guide.md"])
def test_every_chapter_is_in_the_contents_the_welcome_and_the_guide(page):
    text = (paths.ROOT / page).read_text(encoding="utf-8")
    assert [name for name in chapters.names() if f"chapters/{name}" not in text] == []
