import inspect
import subprocess
import sys
import traceback
from types import SimpleNamespace

import numpy as np
import pytest

import ilsvrc
from ilsvrc import backend, chapters, paths, training
from networks import NETWORKS

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


@pytest.mark.parametrize("name", NETWORKS)
def test_every_chapter_loads_alone(name):
    chapters.chapter.cache_clear()
    assert chapters.chapter(name).runs


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_fit_trains_for_a_few_steps(name):
    fits = {}
    for run in chapters.chapter(name).runs:
        fits.setdefault(getattr(run.fit, "func", run.fit), run)
    on_pages = backend.name() == "tensorflow"  # there the notebooks train the headline runs
    for run in (run for run in fits.values() if not (on_pages and run.headline)):
        size, side = run.small_size, round(run.small_size * 256 / 224)
        rng = np.random.default_rng(0)
        images = {
            n: rng.integers(0, 256, (32, side, side, 3), "uint8") for n in ("x_train", "x_val")
        }
        labels = {n: rng.integers(0, 10, 32) for n in ("y_train", "y_val")}
        model = run.small(input_shape=(size, size, 3), classes=10, logits=True)
        given = SimpleNamespace(**images, **labels, size=side, title="noise")
        given = training.feed(given, 16, len(model.outputs))
        # of students taught by students one round is enough
        few = {"rounds": 1} if "rounds" in inspect.signature(run.fit).parameters else {}
        history = run.fit(model, given, 1, [], **few).history
        assert {"loss", "val_loss"} <= set(history), run.name
        assert np.isfinite([values[-1] for values in history.values()]).all(), run.name


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
