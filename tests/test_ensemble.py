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


@pytest.fixture(scope="module")
def names():
    return [r["run"] for r in records.all_of(paths.RESULTS) if r["headline"]]


def learned(P, labels, images):
    """Return the weights that make the true classes most probable, by another way than the page."""
    true = P[:, images, labels[images]]
    w = np.full(len(P), 1 / len(P))
    for _ in range(3000):  # expectation-maximisation: it never gets worse, and finds the best
        w *= (true / (w @ true)).mean(1)
    return w


def of_size(P, labels, k):
    """Return the accuracies of all ensembles of k networks."""
    lead = (P - P[:, range(len(labels)), labels, None]).swapaxes(1, 2).astype("float32").copy()
    choices = combinations(range(len(P)), k)
    return np.array([100 * (lead[[*c]].sum(0).max(0) <= 0).mean() for c in choices])


def test_the_sum_is_far_above_its_mean_part_and_level_with_its_best(found):
    top1, P, _, labels = found
    each, together = [top1(p) for p in P], top1(P.mean(0))
    assert 20 < 100 - np.mean(each) < 28 and 15 < 100 - max(each) < 22  # a quarter, a fifth
    assert together - np.mean(each) > 4
    better = (P.mean(0).argmax(-1) == labels) * 1.0 - (P[np.argmax(each)].argmax(-1) == labels)
    smallest = 196 * better.std() / len(labels) ** 0.5
    assert abs(together - max(each)) < smallest  # "less than can be seen"


def test_the_first_three_bring_most_and_some_choices_of_three_beat_all(found):
    top1, P, S, labels = found
    for runs in (P, S):
        one, three, all_of_them = (of_size(runs, labels, k) for k in (1, 3, len(runs)))
        assert three.mean() - one.mean() > 0.6 * (all_of_them[0] - one.mean())
        assert abs(one.mean() - np.mean([top1(p) for p in runs])) < 0.02
        assert abs(all_of_them[0] - top1(runs.mean(0))) < 0.02
    three = of_size(P, labels, 3)
    assert 0.01 < (three > top1(P.mean(0))).mean() < 0.2  # "some"
    assert np.ptp(three) > 3 * (top1(P.mean(0)) - three.mean())  # whom, more than how many


def test_learned_weights_trust_the_best_and_pass_over_seven(found, names):
    top1, P, _, labels = found
    order = np.random.default_rng(0).permutation(len(labels))
    halves, each = (order[::2], order[1::2]), [top1(p) for p in P]
    weights = np.array([learned(P, labels, half) for half in halves])
    assert names[np.argmax(each)] == "vgg" and all(w.argmax() == np.argmax(each) for w in weights)
    none = {names[k] for k in range(len(P)) if weights[:, k].max() < 0.01}
    worst = [names[k] for k in np.argsort(each)]
    assert none == {*worst[:6], "densenet"} and worst[-5] == "densenet"
    right = np.empty(len(labels))
    for w, half in zip(weights, halves[::-1], strict=True):
        mixed = (w[:, None, None] * P[:, half]).sum(0)
        right[half] = mixed.argmax(-1) == labels[half]
    for p, least in ((P[np.argmax(each)], 1), (P.mean(0), 0.5)):
        better = 100 * (right - (p.argmax(-1) == labels))
        assert better.mean() > least and better.mean() > 1.96 * better.std() / len(labels) ** 0.5


def test_three_chosen_on_one_half_mostly_beat_all_on_the_other(found):
    _, P, _, labels = found
    triples = [list(c) for c in combinations(range(len(P)), 3)]
    right = np.stack([P[c].mean(0).argmax(-1) == labels for c in triples])
    together, leads = P.mean(0).argmax(-1) == labels, []
    for split in range(50):
        order = np.random.default_rng(split).permutation(len(labels))
        chosen = right[:, order[::2]].mean(1).argmax()
        leads.append(100 * (1.0 * right[chosen] - together)[order[1::2]].mean())
    assert min(leads) < 0 < np.mean(leads) and np.mean(np.array(leads) > 0) > 0.8


def test_seeds_do_about_as_well_as_designs(found):
    top1, P, S, _ = found
    designs = of_size(P, found[3], 7).mean()
    gains = designs - np.mean([top1(p) for p in P]), top1(S.mean(0)) - np.mean([top1(p) for p in S])
    assert abs(gains[0] - gains[1]) < 1.5
    alike = [np.corrcoef(p.argmax(-1) != found[3])[np.triu_indices(len(p), 1)] for p in (P, S)]
    assert abs(alike[0].mean() - alike[1].mean()) < 0.05 and min(map(min, alike)) > 0.3


def test_relatives_err_alike_and_densenet_most_like_the_others(found, names):
    _, P, _, labels = found
    alike = np.corrcoef(P.argmax(-1) != labels)
    pairs = {(names[i], names[j]): alike[i, j] for i, j in combinations(range(len(P)), 2)}
    assert min(pairs.values()) > 0.4  # "no pair is near 0"
    most = sorted(pairs, key=pairs.get)[-8:]
    relatives = [n for n in names if n in ("resnet", "resnet34", "resnet_v2", "densenet")]
    assert most[-1] == ("alexnet", "zfnet") and {*combinations(relatives, 2)} <= {*most}
    assert names[alike.sum(0).argmax()] == "densenet"


def test_gas_pumps_defeat_all_and_chain_saws_divide(found):
    _, P, _, labels = found
    wrong, classes = P.argmax(-1) != labels, records.all_of(paths.RESULTS)[0]["data"]["class_names"]
    shares = [[w[labels == c].mean() for c in range(10)] for w in (wrong.all(0), wrong.any(0))]
    assert [classes[np.argmax(s)] for s in shares] == ["gas pump", "chain saw"]


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
    assert sum(apart(p) > 0 for p in P) >= 0.8 * len(P)  # "mostly promise too much"
    for p, sign in ((best, -1), (P.mean(0), 1)):  # below the line throughout, above it throughout
        bins = (p.max(-1) * 10).clip(max=9).astype(int)
        there = [bins == b for b in range(10) if (bins == b).sum() >= 20]
        right = p.argmax(-1) == labels
        assert all(sign * (right[b].mean() - p.max(-1)[b].mean()) > 0 for b in there)
    assert P.mean(0).max(-1).mean() < best.max(-1).mean() - 0.05


def test_seeds_disagree_less_and_the_two_with_large_images_cost_most(found):
    _, P, S, labels = found
    y = np.eye(10)[labels]
    parts = [p.var(0, ddof=1).sum(-1).mean() / ((p - y) ** 2).sum(-1).mean() for p in (P, S)]
    assert parts[0] > 1.5 * parts[1]  # of as many members, over all choices of them
    some = list(combinations(range(len(P)), 2))
    pairs = np.mean([((P[i] - P[j]) ** 2).sum(-1).mean() / 4 for i, j in some])
    assert np.isclose(pairs, P.var(0, ddof=1).sum(-1).mean() / 2)  # (1 - 1/k) of it for k = 2
    runs = [r for r in records.all_of(paths.RESULTS) if r["headline"]]
    large = sum(r["network"]["macs"] for r in runs if r["data"]["size"] > 100)
    assert [r["run"] for r in runs if r["data"]["size"] > 100] == ["alexnet", "zfnet"]
    assert large > 0.6 * sum(r["network"]["macs"] for r in runs)
    assert [r["run"] for r in runs if r["data"]["size"] < 64] == ["efficientnet"]


def test_the_sums_in_the_prose_are_right():
    table = facts.challenge().query("year == 2016").set_index("rank").top5_error
    lead, images = table[2] - table[1], facts.value("ilsvrc.test_images")
    assert round(lead, 2) == 0.04 and round(lead / 100 * images) == 40 and images == 100_000
    assert round((table[1] / 100 * (1 - table[1] / 100) / images) ** 0.5 * 100, 2) == 0.05
    right = sum(math.comb(7, k) * 0.75**k * 0.25 ** (7 - k) for k in range(4, 8))
    assert round(100 * right) == 93  # of seven judges, each right in three cases of four
