"""Words follow from how far a value is from what perfect gradings give, and on which side."""

from dataclasses import replace

import numpy as np
import pytest

from local_eval.metric.measures import BETTER, CLEAR, FAR, PERFECT, SLIGHT, MeasureSpec, judged

ACCURACY = MeasureSpec("a", "an accuracy", 1, 0.05, 0.2, "", lambda ours, theirs: 0.0)
PERFECT_VALUES = 0.5 + 0.01 * np.array([-1, -0.5, 0, 0.5, 1])


def test_a_value_is_called_by_its_distance():
    expected = {0.5: PERFECT, 0.515: PERFECT, 0.54: SLIGHT, 0.6: CLEAR, 0.8: FAR, 0.4: BETTER}
    assert {value: judged(ACCURACY, value, PERFECT_VALUES).words for value in expected} == expected


def test_either_side_is_off_where_neither_is_better():
    assert judged(replace(ACCURACY, worse=0), 0.4, PERFECT_VALUES).words == CLEAR


def test_the_band_holds_fresh_perfect_values_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = [judged(ACCURACY, *split(rng.standard_normal(7))).words == PERFECT for _ in range(2000)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def split(values):
    return values[0], values[1:]
