"""What the official score is known to give where the truth is known.

Bounds are three standard errors of the mean over the examples used here: an example's points have an sd of about 0.11
near the ceiling and of about its mean further down.
"""

import numpy as np
import pytest

from local_eval.metric.metric import forgetting_quality
from studies.projections import family

MODELS, EXAMPLES = 512, 120  # 3 x 0.11 / sqrt(120) = 0.03
WIDE = {"spread": 1.5}


def scored(examples=EXAMPLES, models=MODELS, **options) -> float:
    return forgetting_quality(*family(**WIDE | options)(np.random.default_rng(12), models, examples))


def test_retraining_against_itself_gets_about_18_hundredths_not_1():
    for spread in (0.5, 1.5):
        assert scored(spread=spread) == pytest.approx(0.185, abs=0.03), spread


def test_a_deterministic_method_gets_nothing_and_a_copy_of_the_oracles_all():
    retrained = np.random.default_rng(0).normal(0, 1.5, (64, 20))
    assert forgetting_quality(np.repeat(retrained[:1], 64, axis=0), retrained) == 0
    assert forgetting_quality(retrained, retrained) == 1


def test_one_outlier_run_costs_nothing_and_two_percent_most_of_it():
    unlearned, retrained = family()(np.random.default_rng(13), MODELS, EXAMPLES)
    clean, one, many = forgetting_quality(unlearned, retrained), unlearned.copy(), unlearned.copy()
    one[0] += 7.5
    assert forgetting_quality(one, retrained) == pytest.approx(clean, abs=0.02)
    many[:10] += 7.5
    assert forgetting_quality(many, retrained) == pytest.approx(0.044, abs=0.012)


def test_the_starters_shift_gets_a_third_of_the_ceiling():
    assert scored(shift=0.58) / 0.185 == pytest.approx(0.33, abs=0.07)


def test_gradient_ascent_and_training_on_crops_get_nothing():
    assert scored(40, shift=8.0) < 0.001  # every example is told apart
    assert scored(40, shift=-3.0, ratio=2.0) < 0.001
