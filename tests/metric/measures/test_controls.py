"""Controls are at their ceiling for methods that leave other examples alone, and below it for those that do not."""

import numpy as np
import pytest

from local_eval.metric.measures import CLEAR, FAR, MEASURES, PERFECT, measured, perfect_pairs, quality
from tests.metric.measures.made import outputs


@pytest.fixture(scope="module")
def pool():
    return outputs(0, models=64)


def words(pool, **changes):
    sides = outputs(1, models=32, **changes), pool[:32], perfect_pairs(pool, 32, 4)
    return {key: measured(MEASURES[key], *sides).words for key in ("test_control", "retain_control")}


def test_a_method_that_changes_the_forget_set_alone_leaves_them_at_their_ceiling(pool):
    assert set(words(pool, shift=2.0).values()) == {PERFECT}


def test_a_method_that_changes_everything_is_exposed(pool):
    assert set(words(pool, control_shift=1.5).values()) <= {CLEAR, FAR}


def test_examples_without_an_answer_are_passed_over():
    same, rng = np.full((16, 3), 103.0), np.random.default_rng(0)
    assert np.isnan(quality(same, same))
    unlearned, retrained = rng.standard_normal((2, 16, 3))
    mixed = quality(np.hstack([same, unlearned]), np.hstack([same, retrained]))
    assert mixed == quality(unlearned, retrained)
