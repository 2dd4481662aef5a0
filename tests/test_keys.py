"""A recipe's key follows what is trained, and nothing else."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pytest

import ilsvrc
from ilsvrc import chapters, keys, paths, profiles, publishing, records
from networks import NETWORKS


def keys_of(module):
    """Return the key of each of a chapter's runs, at the laptop profile."""
    plans = {run.name: profiles.settle(run, profiles.PROFILES["laptop"]) for run in module.runs}
    return {name: keys.recipe(plan, "digest") for name, plan in plans.items()}


def changed(module, planted):
    """Return the runs whose keys differ."""
    before, after = keys_of(module), keys_of(planted)
    assert set(before) == set(after)
    return {name for name in before if before[name] != after[name]}


# A table, a constant or a helper's default that a network or its training uses, and another value.
CHANGES = {
    "2012_alexnet": [
        ("grey_levels = 58", "grey_levels = 57"),
        ("crops=True, colours=True", "crops=True, colours=False"),
        ("k=2.0, n=5", "k=2.0, n=7"),
    ],
    "2013_zfnet": [("grey_levels = 58", "grey_levels = 57"), ("rate=1e-3", "rate=2e-3")],
    "2014_vgg": [
        ("grey_levels = 58", "grey_levels = 57"),
        ('"A": ["3"', '"A": ["33"'),
        ("rate = 2e-3", "rate = 3e-3"),
    ],
    "2014_googlenet": [('3a": (64, 96', '3a": (64, 80'), ("area=0.5", "area=0.4")],
    "2015_inception_v3": [
        ("epsilon=0.1", "epsilon=0.2"),
        ("((64,), (128, 192), 1)", "((64,), (128,), 1)"),
    ],
    "2015_resnet": [("18: (2, 2, 2, 2)", "18: (2, 2, 2, 1)"), ("rate=0.05", "rate=0.04")],
    "2016_resnet_v2": [],
    "2016_inception_v4": [
        ("(0.17, 0.10, 0.20)", "(0.17, 0.10, 0.30)"),
        ('"a": ([(32, 1)]', '"a": ([(33, 1)]'),
    ],
    "2016_resnext": [("20: (1, 1, 2, 2)", "20: (1, 1, 2, 1)"), ("rate=0.025", "rate=0.05")],
    "2016_squeezenet": [("(96, 7, (1, 4, 8))", "(96, 7, (1, 4, 7))"), ("SR=0.125", "SR=0.25")],
    "2017_mobilenet": [
        ("(6, 64, 4, 2)", "(6, 64, 3, 2)"),
        ("rate=0.1", "rate=0.2"),
        ("alike=5", "alike=4"),
    ],
    "2019_efficientnet": [
        ("(6, 5, 1, 112, 3)", "(6, 3, 1, 112, 3)"),
        ("10: (1, 1, 1, 2", "10: (1, 1, 2, 1"),
        ("rate=0.1", "rate=0.2"),
        ("(0.25, 1)", "(0.5, 1)"),
    ],
    "2016_densenet": [("63: (3, 6, 12, 8)", "63: (3, 6, 12, 7)"), ('"k": 8', '"k": 9')],
    "2017_senet": [("name, r=16,", "name, r=8,"), ("26: (2, 2, 2, 2)", "26: (2, 2, 2, 1)")],
}


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("name", NETWORKS)
def test_a_changed_table_constant_or_default_is_another_recipe(name, planted):
    module = chapters.chapter(name)
    for right, wrong in CHANGES[name]:
        assert changed(module, planted(name, right, wrong)), (right, wrong)


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("name", NETWORKS)
def test_comments_and_docstrings_are_no_recipe(name, planted):
    module = chapters.chapter(name)
    other = planted(name, ':\n    """', ':\n    # a remark\n    """Other words. ')
    assert not changed(module, other)


@pytest.mark.once
def test_a_renamed_local_is_the_same_recipe(planted):
    module = chapters.chapter("2012_alexnet")
    source = chapters.code(chapters.path("2012_alexnet"))
    body = re.search(r"def fit\(.*?\n\n", source, re.DOTALL)[0].rstrip()
    for old, new in [("seen", "before"), ("steps", "count"), ("net", "whole")]:
        other = re.sub(rf"(?<![\w.\"]){old}\b(?!=[^=\s])", new, body)
        assert other != body
        assert not changed(module, planted("2012_alexnet", body, other)), old


def plan(build, fit=None):
    run = profiles.Run("one", build, fit or (lambda model, data, epochs, callbacks: None))
    return profiles.settle(run, profiles.PROFILES["gpu"])


TABLE = {"a": [1, 2, np.arange(3)]}


def tabled(input_shape=(8, 8, 3), classes=10, logits=False):
    return TABLE["a"]


def test_data_is_followed_wherever_it_stands(monkeypatch):
    monkeypatch.setattr(tabled, "__module__", "__main__")  # as in a notebook
    before = keys.recipe(plan(tabled), "d")
    monkeypatch.setitem(TABLE, "a", [1, 2, np.arange(3) + 1])
    assert keys.recipe(plan(tabled), "d") != before


def test_lambdas_closures_and_keras_objects_are_told_apart(monkeypatch):
    def closing(width):
        def build(input_shape=(8, 8, 3), classes=10, logits=False):
            return width

        build.__module__ = "__main__"
        return build

    assert keys.recipe(plan(closing(1)), "d") != keys.recipe(plan(closing(2)), "d")
    one, two = (lambda **_: 1), (lambda **_: 2)
    for function in (one, two):
        function.__module__ = "__main__"
    assert keys.recipe(plan(one), "d") != keys.recipe(plan(two), "d")
    given = partial(one, start=keras.initializers.RandomNormal(0, 0.01))
    other = partial(one, start=keras.initializers.RandomNormal(0, 0.02))
    assert keys.recipe(plan(given), "d") == keys.recipe(plan(given), "d")
    assert keys.recipe(plan(given), "d") != keys.recipe(plan(other), "d")


WRITTEN = """
import functools
from functools import cached_property

def scaled(factor):
    def decorate(function):
        return functools.wraps(function)(lambda *args: factor * function(*args))
    return decorate

class Table:
    @cached_property
    def widths(self):
        return [16, 32]

@scaled(2)
def helper(x):
    return x

def build(input_shape=(8, 8, 3), classes=10, logits=False):
    def inner(x, width=16):
        return helper(x) + width

    return inner(Table().widths)
"""


@pytest.mark.once
def test_defaults_within_decorators_and_kept_properties_count(tmp_path):
    def key(source):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.py"
        path.write_text(source)
        names = {"__name__": "__main__"}
        exec(compile(source, path, "exec"), names)
        return keys.recipe(plan(names["build"]), "d")

    before = key(WRITTEN)
    assert key(WRITTEN.replace("inner", "within")) == before
    for right, wrong in [("width=16", "width=17"), ("scaled(2)", "scaled(3)"), ("[16,", "[15,")]:
        assert key(WRITTEN.replace(right, wrong)) != before, wrong


def test_what_has_no_lasting_description_is_refused():
    with pytest.raises(ValueError, match="plain data"):
        keys.recipe(plan(partial(ilsvrc.chapter("2012_alexnet").alexnet, width=object())), "d")


def test_size_epochs_batch_and_data_count():
    base = profiles.settle(chapters.chapter("2012_alexnet").runs[0], profiles.PROFILES["laptop"])
    others = [replace(base, epochs=2), replace(base, size=99), replace(base, batch=7)]
    found = {keys.recipe(one, "d") for one in [base, *others]} | {keys.recipe(base, "other")}
    assert len(found) == 5


@pytest.mark.once
@pytest.mark.slow
def test_keys_are_the_same_in_another_process_and_backend():
    code = (
        "import json, test_keys; from ilsvrc import chapters; "
        "print(json.dumps(test_keys.keys_of(chapters.chapter('2014_vgg'))))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=paths.ROOT / "tests", capture_output=True, text=True
    )
    assert json.loads(out.stdout.splitlines()[-1]) == keys_of(chapters.chapter("2014_vgg"))


# Records of an earlier recipe, whose pages say so; to be trained again.
EARLIER = {
    "2012_alexnet": [
        *("baseline", "images-1000", "images-3000", "no-colour", "no-dropout"),
        *("no-lrn", "no-patches", "pool-2", "sigmoid"),
    ],
    "2013_zfnet": ["baseline", "first-11-2", "first-11-4", "first-7-4"],
    "2014_googlenet": [
        *("baseline", "dense", "no-reductions", "one-size", "seven"),
    ],
    "2015_resnet": ["resnet-34", "resnet-34-b", "resnet-34-c"],
    "2016_resnet_v2": ["original-152", "preactivation-152"],
}


@pytest.mark.parametrize("chapter", NETWORKS)
def test_published_records_are_of_the_present_recipes(chapter):
    """On every Python and backend; see `publishing.migrate` for a chapter that was rewritten."""
    found = [records.read(path) for path in sorted((paths.RESULTS / chapter).glob("*.json"))]
    old = [r["run"] for r in found if publishing.present_key(r) != r["recipe"]["key"]]
    assert sorted(old) == EARLIER.get(chapter, [])


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("chapter", NETWORKS)
def test_what_every_builder_is_given_can_stand_in_a_record(chapter):
    """Else a training would be finished and its record could not be written."""
    for run in chapters.chapter(chapter).runs:
        for profile in ("laptop", "gpu"):
            given = publishing.options(profiles.settle(run, profiles.PROFILES[profile]).build)
            assert json.loads(json.dumps(given)).keys() == given.keys(), run.name


@pytest.mark.once
def test_a_function_with_options_is_told_with_them():
    gate = partial(sorted, key=len, reverse=True)
    told = publishing.options(partial(dict, gate=gate, block=max, width=0.25))
    assert told == {"gate": "sorted(key='len', reverse=True)", "block": "max", "width": 0.25}
