"""What the page on the ensemble says of the published runs is so."""

import math
from itertools import combinations

import numpy as np
import pytest

from ilsvrc import facts, paths, records

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def found():
    """Return the accuracy of an ensemble, all probabilities, seven seeds' and the labels."""
    runs = [r for r in records.all_of(paths.RESULTS) if r["headline"]]
    labels = runs[0].arrays["labels"]
    runs = [r for r in runs if np.array_equal(r.arrays["labels"], labels)]
    P = np.stack([r.arrays["probabilities"][0].astype(float) for r in runs])
    seven = records.read(paths.record("2014_googlenet", "seven"))
    assert np.array_equal(seven.arrays["labels"], labels)

    def top1(p):
        return 100 * (p.argmax(-1) == labels).mean()

    return top1, P / P.sum(-1, keepdims=True), seven.arrays["probabilities"].astype(float), labels


def test_the_sum_is_far_above_its_mean_part_and_level_with_its_best(found):
    top1, P, _, labels = found
    each, together = [top1(p) for p in P], top1(P.mean(0))
    assert 20 < 100 - np.mean(each) < 28 and 15 < 100 - max(each) < 22  # a quarter, a fifth
    assert together - np.mean(each) > 4
    better = (P.mean(0).argmax(-1) == labels) * 1.0 - (P[np.argmax(each)].argmax(-1) == labels)
    smallest = 196 * better.std() / len(labels) ** 0.5
    assert abs(together - max(each)) < smallest  # "less than can be seen"


def test_the_first_three_bring_most_and_some_choices_of_three_beat_all(found):
    top1, P, S, _ = found
    for runs in (P, S):
        sizes = {1, 3, 7}
        mean = {
            k: np.mean([top1(runs[list(c)].mean(0)) for c in combinations(range(len(runs)), k)])
            for k in sizes
        }
        assert mean[3] - mean[1] > 0.6 * (mean[7] - mean[1])
    three = max(top1(P[list(c)].mean(0)) for c in combinations(range(len(P)), 3))
    assert three > top1(P.mean(0))


def test_seeds_do_about_as_well_as_designs(found):
    top1, P, S, _ = found
    designs = np.mean([top1(P[list(c)].mean(0)) for c in combinations(range(len(P)), 7)])
    gains = designs - np.mean([top1(p) for p in P]), top1(S.mean(0)) - np.mean([top1(p) for p in S])
    assert abs(gains[0] - gains[1]) < 1.5
    alike = [np.corrcoef(p.argmax(-1) != found[3])[np.triu_indices(len(p), 1)] for p in (P, S)]
    assert abs(alike[0].mean() - alike[1].mean()) < 0.05 and min(map(min, alike)) > 0.3


def test_residual_networks_err_alike(found):
    runs = [r for r in records.all_of(paths.RESULTS) if r["headline"]]
    wrong = np.stack([r.answers[0] != found[3] for r in runs])
    alike = np.corrcoef(wrong)
    residual = [i for i, r in enumerate(runs) if "resnet" in r["chapter"]]
    within = np.mean([alike[i, j] for i, j in combinations(residual, 2)])
    assert within > alike[np.triu_indices(len(runs), 1)].mean() + 0.02


def test_most_of_what_some_get_wrong_is_outvoted(found):
    _, P, _, labels = found
    wrong = P.argmax(-1) != labels
    some = wrong.any(0) & ~wrong.all(0)
    assert (P.mean(0).argmax(-1) == labels)[some].mean() > 0.6


def test_the_sum_is_less_sure_and_better_calibrated(found):
    top1, P, _, labels = found
    best = P[np.argmax([top1(p) for p in P])]

    def apart(p):
        sure, right = p.max(-1), p.argmax(-1) == labels
        return sure.mean() - right.mean()

    assert apart(best) > 0.05 and -0.08 < apart(P.mean(0)) < 0  # too sure; a little too modest
    assert P.mean(0).max(-1).mean() < best.max(-1).mean() - 0.05


def test_seeds_disagree_less_and_the_two_with_large_images_cost_most(found):
    _, P, S, labels = found
    y = np.eye(10)[labels]
    parts = [((p - p.mean(0)) ** 2).sum(-1).mean() / ((p - y) ** 2).sum(-1).mean() for p in (P, S)]
    assert parts[0] > 1.5 * parts[1]
    runs = [r for r in records.all_of(paths.RESULTS) if r["headline"]]
    large = sum(r["network"]["macs"] for r in runs if r["data"]["size"] > 100)
    assert [r["run"] for r in runs if r["data"]["size"] > 100] == ["alexnet", "zfnet"]
    assert large > 0.6 * sum(r["network"]["macs"] for r in runs)


def test_the_sums_in_the_prose_are_right():
    table = facts.challenge().query("year == 2016").set_index("rank").top5_error
    lead, images = table[2] - table[1], facts.value("ilsvrc.test_images")
    assert round(lead, 2) == 0.04 and round(lead / 100 * images) == 40 and images == 100_000
    assert round((table[1] / 100 * (1 - table[1] / 100) / images) ** 0.5 * 100, 2) == 0.05
    right = sum(math.comb(7, k) * 0.75**k * 0.25 ** (7 - k) for k in range(4, 8))
    assert round(100 * right) == 93  # of seven judges, each right in three cases of four
