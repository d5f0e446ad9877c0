"""The audited epsilon is 0 for perfect unlearning, larger for worse, and holds where the truth is known."""

import numpy as np
import pytest

from local_eval.metric.measures import audited_epsilons, bounds
from local_eval.metric.metric import forgetting_points


def test_audited_epsilons_of_normal_draws_are_the_ones_measured_before():
    for models, shift, ratio, mean, points in (
        (512, 0, 1, 0.0, 1.0), (512, 2, 1, 2.30, 0.068), (512, 0, 1.5, 0.21, 0.92), (64, 1, 1, 0.1, 0.974),
    ):  # fmt: skip
        unlearned, retrained = np.random.default_rng(0).standard_normal((2, models, 120))
        found = audited_epsilons(shift + ratio * unlearned, retrained)
        assert found.mean() == pytest.approx(mean, abs=0.1)
        assert forgetting_points(found, models).mean() == pytest.approx(points, abs=0.03)


def test_it_exceeds_the_truth_in_fewer_than_five_of_a_hundred_cases():
    rng = np.random.default_rng(1)
    unlearned, retrained = (rng.random((200, 500)) < np.array([0.6, 0.4])[:, None, None]).astype(float)
    found = audited_epsilons(unlearned, retrained)  # values are 0 or 1, so there is one attack: log(0.6 / 0.4)
    assert (found > np.log(0.6 / 0.4)).mean() < 0.05
    assert (found > 0).mean() > 0.2


def test_few_models_cannot_prove_anything():
    assert bounds(2).max() < 0.5
    assert bounds(256).max() > 4
