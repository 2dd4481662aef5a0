"""The nightly's report: one broken chapter is one red cell, and nothing is deployed."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from ilsvrc import notebooks, paths

pytestmark = [pytest.mark.once, pytest.mark.tools]

PAGE = """---
kernelspec: {name: python3, display_name: Python 3, language: python}
---

# A page

```{code-cell} ipython3
:tags: [parameters]

profile = None
```

```{code-cell} ipython3
print(%s)
```
"""


@pytest.fixture
def nightly(monkeypatch):
    """Return the module that writes and reads the notes."""
    monkeypatch.syspath_prepend(str(paths.ROOT / "book" / "_ext"))
    import nightly

    return nightly


def one(chapter, date, green=True, backend="jax"):
    """Return a note."""
    note = {"chapter": chapter, "backend": backend, "profile": "laptop", "date": date}
    return note | {
        "green": green,
        "minutes": 2.5,
        "versions": "jax 1, Keras 3",
        "device": "a <CPU>",
    }


@pytest.mark.slow
def test_a_planted_error_is_one_red_cell_and_the_night_fails(nightly, tmp_path, monkeypatch):
    for name, code in {"2001_whole": "1", "2002_broken": "1 / 0"}.items():
        (tmp_path / f"{name}.md").write_text(PAGE % code)
    monkeypatch.setattr(paths, "CHAPTERS", tmp_path)
    night = tmp_path / "build" / "nights" / "a-job"
    notebooks.execute("2001_whole", "smoke", output=night / "2001_whole.ipynb")
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        notebooks.execute("2002_broken", "smoke", output=night / "2002_broken.ipynb")
    nightly.main("note", night)
    file = tmp_path / "build" / "nightly.json"
    words = [paths.ROOT / "book/_ext/nightly.py", "merge", night.parent, file]
    told = subprocess.check_output([sys.executable, *words], text=True)
    assert [note["green"] for note in json.loads(file.read_text())] == [True, False]
    rows = re.findall(r"<tr><th scope=.row.>(.*?)</th>(.*?)</tr>", told)
    assert [(name, "class=red" in cells) for name, cells in rows] == [
        ("2001_whole", False),
        ("2002_broken", True),
    ]
    assert re.search(r"\d{4}-\d\d-\d\d, [\d.]+ min", rows[0][1]) and "Keras" in rows[0][1]
    assert "last green: never yet" in rows[1][1]


def test_the_last_green_date_lives_on(nightly):
    first = nightly.merge([one("a", "2026-01-01"), one("b", "2026-01-01")], [])
    second = nightly.merge([one("a", "2026-01-02", green=False)], first)
    third = nightly.merge([one("a", "2026-01-03", green=False)], second)
    assert [note["last_green"] for note in third] == ["2026-01-01", "2026-01-01"]
    told = nightly.table(third)
    assert told.count("class=red") == 1 and "failed on 2026-01-03" in told
    assert "a &lt;CPU&gt;" in told
    fourth = nightly.merge([one("a", "2026-01-04")], third)
    assert "class=red" not in nightly.table(fourth) and "2026-01-04, 2.5 min" in nightly.table(
        fourth
    )


def test_a_chapter_without_a_note_is_a_dash(nightly):
    state = nightly.merge(
        [one("a", "2026-01-01"), one("b", "2026-01-01", backend="tensorflow")], []
    )
    assert nightly.table(state).count("<td>–</td>") == 2


def test_nothing_is_deployed_unless_everything_before_it_passed():
    publish = yaml.safe_load((paths.ROOT / ".github/workflows/publish.yml").read_text())
    [job] = publish["jobs"].values()
    assert "conclusion == 'success'" in job["if"]  # of the tests, or of the whole night
    steps = [step.get("run", step.get("uses", "")) for step in job["steps"]]
    deploy = next(n for n, step in enumerate(steps) if step.startswith("actions/deploy-pages@"))
    assert {"make book", "make check-book"} <= set(steps[:deploy])
    assert not any("if" in step or step.get("continue-on-error") for step in job["steps"])


@pytest.mark.parametrize("failing", [False, True])
def test_a_run_leaves_its_note_and_fails_where_a_chapter_failed(failing, tmp_path):
    """`make run` with programs that only write down what they are asked."""
    (tmp_path / "bin").mkdir()
    for name, code in {"ilsvrc": int(failing), "python": 0}.items():
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\necho {name} "$@"\nexit {code}\n')
        (tmp_path / "bin" / name).chmod(0o755)
    words = ["make", "-f", paths.ROOT / "Makefile", "run", f"BIN={tmp_path}/bin", "CHAPTER=x"]
    (tmp_path / ".venv").mkdir()
    for name in (".venv/ready", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    (tmp_path / ".venv/ready").touch()
    words += ["-o", ".venv/ready"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert "python book/_ext/nightly.py note build/executed" in done.stdout
    assert (done.returncode != 0) == failing, done.stderr
