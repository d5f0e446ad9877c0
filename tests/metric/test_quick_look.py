"""A few runs tell the size of a shift and of the spread, and how sure that is."""

import numpy as np
import pytest

from local_eval.metric.quick import Column, QuickLook, shift_and_ratio


def test_shift_and_ratio_are_those_of_the_laws_with_only_eight_runs():
    rng = np.random.default_rng(0)
    unlearned, retrained = rng.standard_normal((8, 4000)), rng.standard_normal((64, 4000))
    for shift, ratio in ((0.0, 1.0), (0.8, 1.0), (0.5, 0.5), (0.0, 2.0)):
        found = shift_and_ratio(2 + 3 * (shift + ratio * unlearned), 2 + 3 * retrained)
        assert found == pytest.approx((shift, ratio), abs=0.15), "noise of eight runs alone looks like a shift of 0.37"


def look(shift, ratio):
    column = Column(0.9, 0.8, 0.9, None)
    return QuickLook(column, column, column, shift, ratio, 1.0)


def test_words_name_only_what_exceeds_its_error():
    assert look((1.0, 0.1), (0.5, 0.1)).words == "shifted and too narrow"
    assert look((0.0, 0.1), (1.5, 0.1)).words == "too wide"
    assert "neither" in look((1.0, 0.9), (0.5, 0.5)).words
