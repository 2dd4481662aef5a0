"""A chapter in one piece: what is in it, what is not, and that it runs by itself."""

import inspect
import sys

import pytest
from click.testing import CliRunner

from ilsvrc import chapters, cli, listing, paths
from networks import NETWORKS

pytestmark = pytest.mark.once

SOURCE = """---
kernelspec: {name: python3, display_name: Python 3, language: python}
---

```{code-cell}
:tags: [model]

import math
import statistics
from functools import cache, partial
```

```{code-cell}
:tags: [model]

# how wide it is
sizes = [1, 2]  # in maps
lines = 0


def scale(x):
    return math.pi * x


@cache
def net(input_shape=(2, 2), logits=False):
    lines = [scale(size) for size in sizes]
    return lines


sizes += [3]


def measured(model):
    return statistics.mean(net())
```

```{code-cell}
:tags: [model]

def fit(model, data, epochs, callbacks):
    return partial(scale, 1)
```

```{code-cell}
print(net())
```
"""
LISTED = """\
# The networks of chapters/1999_small.md, and how they are trained.

import math
from functools import cache, partial

# how wide it is
sizes = [1, 2]  # in maps


def scale(x):
    return math.pi * x


@cache
def net(input_shape=(2, 2), logits=False):
    lines = [scale(size) for size in sizes]
    return lines


sizes += [3]


def fit(model, data, epochs, callbacks):
    return partial(scale, 1)
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CHAPTERS", tmp_path)
    (tmp_path / "1999_small.md").write_text(SOURCE, encoding="utf-8")


def test_it_holds_builders_fit_and_what_these_use(small):
    assert listing.listing("1999_small") == LISTED


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_chapters_listing_runs_by_itself(name):
    alone = {"__name__": "alone"}
    exec(compile(listing.listing(name), name, "exec"), alone)
    whole = chapters.chapter(name)
    for run in (run for run in whole.runs if run.headline):
        small = getattr(run.small, "func", run.small)
        options = getattr(run.small, "keywords", {}) | {"logits": True}
        built = [
            build(*getattr(run.small, "args", ()), **options)
            for build in (small, alone[small.__name__])
        ]
        assert built[0].count_params() == built[1].count_params()
    for thing in vars(whole).values():
        if inspect.isfunction(thing) and thing.__module__ == whole.__name__:
            parameters = inspect.signature(thing).parameters
            if {"input_shape", "callbacks"} & set(parameters):
                assert thing.__name__ in alone
            if "trained" in parameters:  # it measures
                assert thing.__name__ not in alone


@pytest.mark.parametrize(("terminal", "escapes"), [(False, False), (True, True)])
def test_it_is_in_colour_on_a_terminal_alone(small, monkeypatch, terminal, escapes):
    shown = []
    monkeypatch.setattr(cli.click, "echo", lambda text, nl: shown.append(text))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    cli.show.callback("1999_small")
    assert ("\x1b[" in shown[0]) == escapes
    assert shown[0] == LISTED or escapes


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("1999_smal", "Did you mean '1999_small'"),
        ("none", "There are: 1999_small"),
        ("plain", "builds no network"),
    ],
)
def test_a_name_that_will_not_do_is_answered(small, name, said):
    if name == "plain":
        (paths.CHAPTERS / "plain.md").write_text("# No code\n", encoding="utf-8")
    result = CliRunner().invoke(cli.cli, ["show", name])
    assert isinstance(result.exception, ValueError) and said in str(result.exception)


def test_the_help_says_what_is_shown():
    assert "`fit` and its variants" in CliRunner().invoke(cli.cli, ["show", "--help"]).output
