"""Warnings, projection and page see the same outlier runs: as many as there are, and none in clean draws."""

import numpy as np
import pytest

from local_eval.metric import warnings
from local_eval.metric.uncertainty.projection import read_side
from local_eval.metric.uncertainty.redraw import Side
from local_eval.metric.uncertainty.sides import outlier_runs
from local_eval.report.page import facts
from local_eval.report.result import Result
from studies.projections import correlated, family, skewed, student, with_outliers
from tests.report.page.simulated import records, task

MODELS, EXAMPLES, DRAWS = 64, 40, 6


def seen_by_the_warnings(ours, theirs, monkeypatch):
    """How many runs the warning would name, were it to name every outlier run whatever it costs."""
    monkeypatch.setattr(warnings, "OUTLIERS", 1.0)
    monkeypatch.setattr(warnings, "COSTLY", 0.0)
    found = warnings.costly_outliers(ours, theirs, range(len(ours)), 0.0)
    return len(found.data["runs"]) if found else 0


def seen_by_the_page(ours, theirs, monkeypatch):
    """How many runs the page says lie far from all others."""
    made = task(EXAMPLES)
    labels = made.forget.labels.numpy()
    sides = iter([ours, theirs, ours[:1]])  # of the runs, the oracles and the original
    monkeypatch.setattr(facts, "confidences", lambda *_: next(sides))
    monkeypatch.setattr(facts, "gap_of", lambda *_: None)
    runs = records(len(ours), labels, 1)
    source = facts.PageSource(
        Result({"epsilons": np.zeros(EXAMPLES)}), dict(enumerate(runs)), runs, runs[0], made, command=""
    )
    return len(facts.gather(source).outliers)


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.2])
def test_all_say_the_same_number_of_runs_and_it_is_the_true_one(rate, monkeypatch):
    for seed in range(DRAWS):
        ours, theirs = with_outliers(rate, 6.0, True)(np.random.default_rng([8, seed]), MODELS, EXAMPLES)
        true = int((ours.mean(axis=1) > 4.5).sum())  # half of 6 sd: between the two kinds of runs
        assert abs(true - rate * MODELS) <= 10
        seen = [
            seen_by_the_warnings(ours, theirs, monkeypatch),
            len(read_side(ours).outliers),
            len(Side(ours, np.arange(EXAMPLES)).outliers),
            seen_by_the_page(ours, theirs, monkeypatch),
        ]
        assert seen == [true] * 4, (rate, seed)


def test_clean_draws_have_no_false_alarm():
    """0 of 13,824 clean runs are called outliers, with skewed, wide, heavy-tailed and correlated confidences, too."""
    families = family(1.0, 1.5), family(unlearned=skewed), family(unlearned=student(3)), correlated(0.15, 0.5, None)
    for models in (24, 64, 128):
        for one in families:
            for seed in range(8):
                sides = one(np.random.default_rng([9, seed]), models, EXAMPLES)
                assert not any(outlier_runs(side).any() for side in sides)


def test_half_of_the_runs_are_no_outliers():
    values = np.random.default_rng(0).normal(0, 1, (64, 40))
    values[:32] += 20
    assert not outlier_runs(values).any()
    assert outlier_runs(values[18:]).sum() == 14, "three in ten are"


def test_single_values_make_no_outlier_run_and_a_quarter_of_the_examples_does():
    values = np.random.default_rng(0).normal(0, 1, (64, 40))
    values[3, :10] += 20
    assert not outlier_runs(values).any(), "a quarter exactly is not more than a quarter"
    values[3, 10] += 20
    assert np.flatnonzero(outlier_runs(values)).tolist() == [3]
