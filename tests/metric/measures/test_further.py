"""Every measure says 'perfect' of perfect unlearning, gives the published values elsewhere, and is told in words."""

import time

import numpy as np
import pytest

from local_eval.metric.measures import (
    BETTER,
    CLEAR,
    FAR,
    PERFECT,
    Labels,
    ModelOutputs,
    auc_distance,
    divergences,
    further_measures,
    ks_distance,
    lira_accuracy,
    lira_tpr,
    shown_in_table,
)
from local_eval.store.records import Controls, Evaluation, Record
from tests.metric.measures.made import pair

CONTROLLED = {"simple_attack", "test_control", "retain_control"}
# (N, shift, ratio): mean and 95th percentile of KLoM, accuracy of the likelihood ratio, KS; normal draws, S = 300
PUBLISHED = {
    (100, 0.0, 1.0): (0.356, 0.657, 0.497, 0.117),
    (100, 0.3, 1.0): (0.413, 0.760, 0.546, 0.181),
    (100, 1.0, 1.0): (1.123, None, 0.689, 0.427),
    (100, 0.0, 2.0): (1.590, None, 0.656, 0.228),
    (512, 0.0, 1.0): (0.050, 0.090, 0.502, 0.055),
    (512, 0.3, 1.0): (0.098, None, 0.555, 0.141),
    (512, 1.0, 1.0): (0.624, None, 0.693, 0.402),
    (512, 0.0, 1.25): (0.153, None, 0.550, 0.086),
    (512, 0.0, 2.0): (0.964, None, 0.660, 0.187),
}


def test_measures_of_normal_draws_are_the_ones_measured_before():
    for (models, shift, ratio), (mean, worst, accurate, distance) in PUBLISHED.items():
        rng = np.random.default_rng(models)
        unlearned, retrained = rng.standard_normal((2, models, 300))
        sides = shift + ratio * unlearned, retrained
        ours, theirs = (ModelOutputs(side, *np.empty((3, models, 0))) for side in sides)
        found = divergences(ours.forget, theirs.forget)
        assert found.mean() == pytest.approx(mean, rel=0.12), "there, the largest value of each example was left out"
        assert worst is None or np.percentile(found, 95) == pytest.approx(worst, rel=0.2)
        assert lira_accuracy(ours, theirs) == pytest.approx(accurate, abs=0.012)
        assert ks_distance(ours, theirs) == pytest.approx(distance, abs=0.012)


def test_distances_are_those_of_normal_laws():
    ours, theirs = pair(512, shift=1.0)
    assert auc_distance(ours, theirs) == pytest.approx(0.760 - 0.5, abs=0.02), "AUC of one sd is Phi(1 / sqrt 2)"
    assert lira_tpr(ours, theirs) == pytest.approx(0.092, abs=0.02), "TPR at 1 % FPR is Phi(1 - 2.326)"


def records(seed, models, labels, shift=0.0, controls=True):
    """Two-class records whose confidences are normal."""
    rng = np.random.default_rng(seed)

    def logits(classes, by):
        confidences = rng.normal(2 + by, 1, len(classes)).astype(np.float32)
        return np.where(np.arange(2) == classes[:, None], confidences[:, None], np.float32(0))

    def one():
        kept = Controls(logits(labels.retain, 0), logits(labels.test, 0), np.ones((4, 2), np.int64))
        evaluation = Evaluation(logits(labels.forget, shift), 0.9, 0.8, kept if controls else None)
        return Record(evaluation, {}, {})

    return [one() for _ in range(models)]


@pytest.fixture(scope="module")
def labels():
    return Labels(*np.random.default_rng(0).integers(0, 2, (3, 40)))


@pytest.fixture(scope="module")
def oracles(labels):
    return records(1, 96, labels)


def test_perfect_unlearning_is_called_perfect_throughout(labels, oracles):
    runs, start = records(2, 48, labels), time.process_time()
    found = further_measures(runs, oracles, labels)
    assert time.process_time() - start < 5, "it is to take less than a second"
    assert len({measure.key for measure in found}) == 12
    # each band holds 95 %, and the measures see the same noise
    assert sum(measure.words == PERFECT for measure in found) >= 11
    assert all(measure.low <= measure.perfect <= measure.high for measure in found)


def test_a_shift_of_the_forget_set_is_told_and_controls_stay_at_their_ceiling(labels, oracles):
    found = {m.key: m for m in further_measures(records(2, 32, labels, shift=1.5), oracles, labels)}
    reported = {key for key, measure in found.items() if measure.words in (CLEAR, FAR)}
    assert reported >= {"lira_accuracy", "lira_tpr", "klom", "ks", "auc", "audited_epsilon", "pooled_attack"}
    assert found["test_control"].words == found["retain_control"].words == PERFECT
    assert [m.key for m in shown_in_table(found.values())] == ["lira_accuracy", "klom", "test_control"]


def test_records_without_controls_give_the_measures_that_need_none(labels, oracles):
    found = further_measures(records(2, 16, labels, controls=False), oracles, labels)
    assert {m.key for m in further_measures(records(2, 16, labels), oracles, labels)} - {
        m.key for m in found
    } == CONTROLLED


def test_a_deterministic_method_is_far_off_and_nothing_breaks(labels, oracles):
    same = records(2, 1, labels) * 16
    found = {measure.key: measure for measure in further_measures(same, oracles, labels)}
    assert found["lira_accuracy"].value > 0.9
    assert found["pooled_attack"].value > 0.9
    assert not any(measure.words == BETTER for measure in found.values())
