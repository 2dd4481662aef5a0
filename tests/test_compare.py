"""The page that compares networks: its counts, its fronts, and what it says of the records."""

import gc
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ilsvrc import chapters, facts, ledger, paths, records
from networks import NETWORKS

pytestmark = pytest.mark.once

UNLISTED = {  # counted, and without an error of their own
    "alexnet_ungrouped": ("2012_alexnet", "alexnet", {"groups": 1}),
    "googlenet_auxiliary": ("2014_googlenet", "googlenet", {}),
}


@pytest.fixture(scope="module")
def compare():
    """Return what the page defines."""
    return chapters.chapter("compare")


@pytest.fixture(scope="module")
def heads():
    """Return the headline runs with the same validation images, and their labels."""
    runs = [r for r in records.all_of(paths.RESULTS) if r["headline"]]
    labels = runs[0].arrays["labels"]
    return [r for r in runs if np.array_equal(r.arrays["labels"], labels)], labels


@pytest.mark.usefixtures("counted")
@pytest.mark.slow
@pytest.mark.parametrize("key", facts.networks().activation_bytes.dropna().index)
def test_what_the_sheet_says_of_a_network_is_counted(compare, key):
    name, builder, options = (compare.built | UNLISTED)[key]
    totals = ledger.totals(getattr(chapters.chapter(name), builder)(**options))
    row = facts.networks().loc[key]
    assert totals["parameters"] == row.parameters
    assert totals["activation_bytes"] == pytest.approx(row.activation_bytes, rel=5e-3)
    assert np.isnan(row.macs) or totals["macs"] == pytest.approx(row.macs, rel=5e-3)
    gc.collect()


def test_every_network_of_the_course_is_on_the_sheet(compare):
    shown = facts.networks().dropna(subset=["top1_error"])
    known = facts.networks().activation_bytes.dropna().index
    assert set(shown.index) <= set(compare.built)
    assert set(compare.built) <= set(known)
    assert set(compare.timed) <= set(compare.built) and set(compare.timed) <= set(shown.index)


def test_every_headline_run_stands_for_a_network(compare):
    heads = [run.name for n in NETWORKS for run in chapters.chapter(n).runs if run.headline]
    assert set(heads) <= set(compare.stands_for)
    shown = facts.networks().dropna(subset=["top1_error"]).index
    assert {key for key in compare.stands_for.values() if key} <= set(shown)


def beaten(row, table):
    """Return whether another row costs no more and errs no more, and one of the two is less."""
    return ((table <= row).all(axis=1) & (table < row).any(axis=1)).any()


@pytest.mark.parametrize("column", ["parameters", "macs", "activation_bytes"])
def test_on_the_front_is_what_none_beats(compare, column):
    table = facts.networks()[[column, "top1_error"]].dropna()
    front = compare.front(table[column], table.top1_error)
    assert set(front) == {key for key, row in table.iterrows() if not beaten(row, table)}
    assert list(front) == list(table.loc[front, column].sort_values().index)
    assert not set(front) & set(compare.VGG)  # "at none"


def test_of_equals_on_the_front_one_is_named_and_gaps_are_left_out(compare):
    cost = pd.Series({"a": 1.0, "b": 1.0, "c": 2.0, "d": np.nan, "e": 3.0})
    error = pd.Series({"a": 5.0, "b": 6.0, "c": 5.0, "d": 0.0, "e": 1.0})
    assert list(compare.front(cost, error)) == ["a", "e"]


def test_information_density_is_nearly_size():
    table = facts.networks().dropna(subset=["top1_error"])
    density = (100 - table.top1_error) / table.parameters
    assert (1 + stats.kendalltau(density, -table.parameters).statistic) / 2 > 0.9
    assert all(key.startswith("vgg") for key in density.nsmallest(5).index)


def test_a_run_is_read_at_any_epoch(compare, heads):
    record = heads[0][0]
    errors = 100 - 100 * record.by_epoch("val_accuracy").mean(0)
    assert compare.after(record, 0) == pytest.approx(90)
    assert compare.after(record, 3) == pytest.approx(errors[2])
    assert compare.after(record, 3.5) == pytest.approx(errors[2:4].mean())
    assert compare.after(record, len(errors)) == pytest.approx(100 * (1 - record["top1"]["mean"]))


def test_the_rank_correlation_is_sure_of_what_is_sure(compare):
    order = np.arange(12.0)
    value, low, high = compare.tau(order, 2 * order, spread=0.0, draws=200)
    assert (value, low, high) == pytest.approx((1, 1, 1))
    value, low, high = compare.tau(order, -order, spread=0.1, draws=200)
    assert value == pytest.approx(-1) and high < -0.9
    shuffled = np.random.default_rng(0).permutation(order)
    _, low, high = compare.tau(order, shuffled, spread=1.0, draws=400)
    assert low < 0 < high and high - low > 0.5
    more = compare.tau(order, 2 * order, spread=20.0, draws=400)
    assert more[1] < 0.5  # luck of training widens it


def test_among_all_classes_errors_are_the_records_own(compare, heads):
    runs, labels = heads
    P = np.stack([r.arrays["probabilities"][0].astype("float32") for r in runs])
    *errors, pairs = compare.among(np.arange(10), labels, P)
    np.testing.assert_allclose(errors, [100 * (1 - r["top1"]["mean"]) for r in runs], atol=0.06)
    assert 0 < pairs < 100


def test_fewer_classes_hide_differences_as_the_page_says(compare, heads):
    runs, labels = heads
    P = np.stack([r.arrays["probabilities"][0].astype("float32") for r in runs])
    found = np.array([
        np.mean([compare.among(some, labels, P) for some in combinations(range(10), n)], 0)
        for n in (2, 6, 10)
    ])  # fmt: skip
    errors, pairs = found[:, :-1], found[:, -1]
    gaps = np.ptp(errors, axis=1)
    assert gaps[0] < 0.5 * gaps[2] and gaps[0] < gaps[1] < gaps[2]
    share = gaps / errors.mean(1)
    assert share.max() < 1.35 * share.min()  # "in proportion to their errors"
    assert (np.diff(pairs) > 3).all()  # "it rises less steeply"
    assert pairs[2] / pairs[0] < 0.7 * gaps[2] / gaps[0]


def test_our_order_is_not_the_papers(compare, heads):
    runs = {r["run"]: r for r in heads[0] if compare.stands_for[r["run"]]}
    error = facts.networks().top1_error
    papers = [error[compare.stands_for[run]] for run in runs]
    ours = [1 - r["top1"]["mean"] for r in runs.values()]
    assert stats.kendalltau(papers, ours).statistic < 0.5


def test_at_equal_macs_two_networks_hardly_train_and_make_the_order(compare, heads):
    runs = {r["run"]: r for r in heads[0] if compare.stands_for[r["run"]]}
    work = {run: r["network"]["macs"] * r["recipe"]["epochs"] for run, r in runs.items()}
    epochs = {run: min(work.values()) / r["network"]["macs"] for run, r in runs.items()}
    assert {run for run, some in epochs.items() if some < 1} == {"alexnet", "zfnet"}
    error = facts.networks().top1_error
    papers = np.array([error[compare.stands_for[run]] for run in runs])

    def ours(count):
        return np.array([compare.after(runs[run], count[run]) for run in runs])

    at_equal = ours(epochs)
    assert compare.tau(papers, at_equal, 1.0)[1] > 0  # "the interval leaves out 0"
    few = min(r["recipe"]["epochs"] for r in runs.values())
    for other in (
        {run: r["recipe"]["epochs"] for run, r in runs.items()},
        dict.fromkeys(runs, few),
    ):
        assert compare.tau(papers, ours(other), 1.0)[1] < 0
    trained = np.array([epochs[run] >= 1 for run in runs])
    assert stats.kendalltau(papers[trained], at_equal[trained]).pvalue > 0.1
