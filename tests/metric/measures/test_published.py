"""RULI, U-LiRA and KLoM are to the letter what their authors' code does, quirks included; plain twins do it slowly."""

import time

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.neighbors import KernelDensity

from local_eval.metric.measures import PERFECT, divergences, klom
from local_eval.metric.published import (
    klom_published,
    measures_on_request,
    memorised,
    ruli_auc,
    ruli_ratios,
    ruli_tpr,
    ulira,
    ulira_strong,
    vulnerable_and_protected,
)
from tests.metric.measures.made import pair
from tests.metric.measures.test_further import labels, records  # noqa: F401 (a fixture)


def plain_ruli(unlearned, retrained):
    """With scikit-learn's kernel density, one model and one example at a time."""
    found = []
    for side in (unlearned, retrained):
        ratios = np.empty(side.shape)
        for i in range(len(side)):
            for e in range(side.shape[1]):
                laws = [
                    KernelDensity(kernel="gaussian").fit(np.delete(each[:, e], i)[:, None])
                    for each in (unlearned, retrained)
                ]
                u, r = (np.exp(law.score_samples([[side[i, e]]]))[0] for law in laws)
                ratios[i, e] = u / (u + r)
        found.append(ratios)
    return found


def plain_ulira(unlearned, retrained):
    """One left-out model and one example at a time, with scipy's normal law."""
    called = np.zeros((len(unlearned), unlearned.shape[1]))
    for i in range(len(unlearned)):
        for e in range(unlearned.shape[1]):
            others = np.delete(unlearned[:, e], i)
            with np.errstate(invalid="ignore", divide="ignore"):
                u = norm.pdf(unlearned[i, e], others.mean(), others.std())
                r = norm.pdf(unlearned[i, e], retrained[:, e].mean(), retrained[:, e].std())
                called[i, e] = u / (u + r) > 0.5
    return called.mean(axis=0)


def plain_klom(unlearned, retrained, drop_largest):
    """One example at a time, by numpy's digitize, whose last bin is open at its end."""
    found = []
    for p, q in zip(np.clip(unlearned, -100, 100).T, np.clip(retrained, -100, 100).T):
        low, high = min(p.min(), q.min()), max(p.max(), q.max())
        edges = np.linspace(low, high if high > low else low + 1, 21)
        places = [np.digitize(side, edges) for side in (p, q)]
        if not drop_largest:
            places = [np.minimum(place, 20) for place in places]
        p, q = ([np.sum(place == b) / max(np.sum(place <= 20), 1) for b in range(1, 21)] for place in places)
        found.append(sum(a * np.log(a / max(b, 1e-5)) for a, b in zip(p, q) if a > 0))
    return np.array(found)


def sides(seed, models=9, examples=5):
    """Confidences with what is awkward: far apart, constant on one side, on both, beyond the clip."""
    rng = np.random.default_rng(seed)
    unlearned, retrained = rng.normal(2, 1.5, (2, models, examples))
    unlearned[:, 1] += 400
    unlearned[:, 2], retrained[:, 3] = 3.0, 1.0
    unlearned[:, 4] = retrained[:, 4] = 0.5
    return unlearned, retrained


def test_each_is_its_plain_twin():
    for seed in range(3):
        unlearned, retrained = sides(seed)
        near = [np.clip(side, -5, 5) for side in (unlearned, retrained)]  # where no density is 0
        for ours, theirs in zip(ruli_ratios(*near), plain_ruli(*near)):
            assert ours == pytest.approx(theirs, rel=1e-9)
        assert np.array_equal(ulira_strong(unlearned, retrained), plain_ulira(unlearned, retrained))
        for drop in (True, False):
            found = klom_published(unlearned, retrained, drop)
            assert found == pytest.approx(plain_klom(unlearned, retrained, drop), rel=1e-12, abs=1e-12), drop


def test_klom_of_hand_made_margins():
    """Four models a side on 0 .. 20, one bin a unit: with the 20 dropped, shares are thirds."""
    unlearned, retrained = np.array([[0.5, 0.5, 1.5, 20.0]]).T, np.array([[0.5, 1.5, 1.5, 0.0]]).T
    dropped = 2 / 3 * np.log((2 / 3) / (2 / 4)) + 1 / 3 * np.log((1 / 3) / (2 / 4))
    kept = 2 / 4 * np.log(1) + 1 / 4 * np.log(1 / 2) + 1 / 4 * np.log(0.25 / 1e-5)
    assert klom_published(unlearned, retrained) == pytest.approx(dropped)
    assert klom_published(unlearned, retrained, drop_largest=False) == pytest.approx(kept)


def test_where_ours_and_theirs_differ():
    ours, theirs = pair(100, examples=300)
    published = klom_published(ours.forget, theirs.forget).mean()
    assert published == pytest.approx(0.356, rel=0.12), "measured before, of normal draws at N = 100"
    assert 1.0 < klom(ours, theirs) / published < 1.12, "the largest value adds up to that"
    kept = klom_published(ours.forget, theirs.forget, drop_largest=False)
    assert kept == pytest.approx(divergences(ours.forget, theirs.forget), abs=3e-4), "ours scales the floored shares"


def test_laws_of_normal_draws():
    perfect, shifted = pair(128), pair(128, shift=1.0)
    assert ulira(*perfect) == pytest.approx(0.5, abs=0.06) and ulira(*shifted) == pytest.approx(0.69, abs=0.06)
    assert ruli_auc(*perfect) == pytest.approx(0.5, abs=0.02) and ruli_tpr(*perfect) < 0.03
    assert ruli_auc(*shifted) > 0.7 and ruli_tpr(*shifted) > 0.05


def test_vulnerable_examples_are_those_that_the_original_knows_and_oracles_do_not():
    gap = np.array([0.0, 3.0, -1.0, 5.0, 1.0, 2.0, 0.5])
    vulnerable, protected = vulnerable_and_protected(memorised(gap + 2, np.full((4, 7), 2.0)))
    assert (vulnerable.tolist(), protected.tolist()) == ([1, 3], [0, 2])
    assert [len(part) for part in vulnerable_and_protected(gap[:1])] == [1, 1]


def test_leaks_of_vulnerable_examples_show_there_alone():
    ours, theirs = pair(64, examples=30)
    ours.forget[:, :10] += 3.0
    parts = np.arange(10), np.arange(20, 30)
    assert ruli_tpr(ours, theirs, parts[0]) > 0.3 > 0.05 > ruli_tpr(ours, theirs, parts[1])


def test_all_of_them_are_measured_from_records_in_little_time(labels):  # noqa: F811
    runs, oracles, original = (
        records(seed, n, labels, shift) for seed, n, shift in ((2, 64, 0), (1, 128, 0), (3, 1, 2.0))
    )
    start = time.process_time()
    found = {one.measure.key: one for one in measures_on_request(runs, oracles, original, labels)}
    assert time.process_time() - start < 5, "it is to take about a second"
    assert list(found) == [
        "rmia_auc", "rmia_tpr", "iam_auc", "iam_tpr", "ulira_published", "klom_published_95", "ruli_tpr_vulnerable",
        "ruli_auc_vulnerable", "ruli_tpr_protected", "ruli_auc_protected",
    ]  # fmt: skip
    assert sum(one.measure.words == PERFECT for one in found.values()) >= 9
    assert found["rmia_auc"].original > found["rmia_auc"].measure.high, "the original knows the forget set"
    without = measures_on_request(runs, oracles, [], labels)
    assert {one.measure.key for one in without} == {key for key in found if not key.startswith("ruli")}
    assert all(one.original is None for one in without)
