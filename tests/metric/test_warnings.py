"""Each warning is given where it is due, with its numbers, and not where it is not."""

import numpy as np
import pytest

from local_eval.metric.metric import forgetting_quality
from local_eval.metric.warnings import ahead, costly_outliers, far_original, find_warnings, weak_original
from local_eval.store.records import Evaluation
from studies.projections import family

MODELS, EXAMPLES = 256, 30
RNG = np.random.default_rng


def kinds(unlearned, retrained, quality=0.1, ceiling=0.18, **more) -> dict:
    found = find_warnings(unlearned, retrained, range(len(unlearned)), quality, ceiling, **more)
    assert all(one.text and "\n" not in one.text for one in found)
    return {one.kind: one.data for one in found}


def pair(models=MODELS, **options):
    return family(**options)(RNG(0), models, EXAMPLES)


def test_a_sound_grading_has_none():
    assert kinds(*pair(shift=0.3)) == {}


def test_a_score_above_the_ceiling_is_a_leak_or_a_blind_grid():
    retrained = pair()[1]
    copied = kinds(retrained, retrained, forgetting_quality(retrained[:16], retrained[:16]))
    assert copied["leak"] == {"quality": 1.0, "ceiling": 0.18}
    blind = pair(spread=2e-3, shift=0.5)
    assert "leak" in kinds(*blind, forgetting_quality(*(side[:, :8] for side in blind)), 0.13)
    assert "leak" not in kinds(*pair(), 0.2)


def test_identical_runs_and_runs_that_are_too_much_alike():
    assert "identical" in kinds(np.ones((MODELS, EXAMPLES)), pair()[1])
    found = kinds(*pair(ratio=0.3))
    assert found["alike"]["spread_ratio"] == pytest.approx(0.3, abs=0.03)
    assert "alike" not in kinds(*pair(ratio=0.5)) and "identical" not in kinds(*pair(ratio=0.3))


def test_oracles_whose_confidences_hardly_spread():
    assert kinds(*pair(spread=0.3))["narrow"]["spread"] == pytest.approx(0.3, abs=0.03)
    assert "narrow" not in kinds(*pair(spread=0.6))


def test_a_few_outlier_runs_that_cost_most_of_the_score_are_named():
    unlearned, retrained = pair()
    unlearned[[7, 31, 99, 100, 180, 255]] += 8
    indices = [k + 1000 for k in range(MODELS)]
    found = costly_outliers(unlearned, retrained, indices, forgetting_quality(unlearned, retrained))
    assert found.data["runs"] == [1007, 1031, 1099, 1100, 1180, 1255]
    assert found.data["without"] > 2 * found.data["quality"]
    assert "1007, 1031" in found.text


def test_a_single_outlier_run_costs_nothing_and_is_not_told():
    unlearned, retrained = pair()
    unlearned[7] += 8
    assert costly_outliers(unlearned, retrained, range(MODELS), forgetting_quality(unlearned, retrained)) is None


def test_a_fifth_of_the_runs_is_what_the_method_does_and_no_outlier():
    unlearned, retrained = pair()
    unlearned[:50] += 12
    assert costly_outliers(unlearned, retrained, range(MODELS), 0.001) is None


def test_n_below_256_is_for_screening():
    assert ["few" in kinds(*pair(models)) for models in (16, 255, 256, 300)] == [True, True, False, False]


def test_an_original_that_holds_every_method_down():
    retrained = pair()[1]
    assert far_original(np.full(EXAMPLES, 9.0), retrained).data["distance"] == pytest.approx(6, abs=0.5)
    assert far_original(np.full(EXAMPLES, 3.0), retrained) is None
    logits = np.zeros((EXAMPLES, 2), np.float32)
    weak = weak_original(Evaluation(logits, 0.9, 0.6), 0.92, 0.8)
    assert weak.data == {"split": "test", "ratio": pytest.approx(0.75)}
    assert weak_original(Evaluation(logits, 0.99, 0.78), 0.92, 0.8) is None


def test_a_model_that_is_clearly_better_than_the_oracles_is_told_with_its_numbers():
    oracles = 0.6 + 0.02 * RNG(1).standard_normal(64)
    found = ahead("original", {"retain": (0.81, oracles, 5000), "test": (0.62, oracles, 500)})
    assert set(found.data["sets"]) == {"retain"} and found.data["sets"]["retain"]["accuracy"] == 0.81
    assert "retain accuracy 0.810, oracles 0.599" in found.text and "not trained alike" in found.text
    both = ahead("submission", {"retain": (0.81, oracles, 5000), "test": (0.8, oracles, 500)})
    assert set(both.data["sets"]) == {"retain", "test"} and "runs are" in both.text


def test_a_model_that_is_better_by_luck_or_by_little_is_not_told():
    for ours, spread, examples in (
        (0.63, 0.02, 5000),  # within two spreads
        (0.66, 0.001, 100),  # within the counting noise of few examples
        (0.605, 1e-4, 10**7),  # sure, and without weight
        (0.4, 0.02, 5000),  # worse, which is another warning
    ):
        oracles = 0.6 + spread * RNG(1).standard_normal(64)
        assert ahead("submission", {"retain": (ours, oracles, examples)}) is None, ours
