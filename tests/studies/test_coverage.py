"""Real coverage counts just the pairs of draws that share nothing, and tries an interval on oracles it has not seen."""

import numpy as np
import pytest

from studies.coverage import Draws, groups_of, row, shares


def around(values: np.ndarray, reach: float) -> np.ndarray:
    return np.stack([values - reach, values + reach], axis=-1)


def test_only_pairs_that_share_neither_runs_nor_oracles_are_counted():
    """Oracle group 1 scores higher by 1: an interval of half-width .3 holds other runs, but no other group."""
    values = np.array([[0.0, 1.0], [0.1, 1.1], [0.2, 1.2]])
    assert shares(Draws(values, around(values, 0.3), around(values, 0.3))) == (0.0, 0.0)
    alone, pooled = shares(Draws(values, around(values, 1), around(values, 2)))
    assert alone == pytest.approx(6 / 12), "from runs r with group 0 to earlier ones with group 1, and back"
    assert pooled == 1.0


def test_an_interval_from_half_of_the_oracles_is_tried_on_the_other_half():
    """Groups 0 and 1 score 0, groups 2 and 3 score 1: intervals of half-width .3 hold the other group of their half."""
    values = np.tile([0.0, 0.0, 1.0, 1.0], (3, 1))
    found = Draws(values, around(values, 0.3), around(values, 0.3))
    assert found.half.tolist() == [0, 0, 1, 1]
    assert shares(found) == (pytest.approx(1 / 3), 0.0)


def test_a_row_has_the_widths_beside_the_best_fixed_one():
    values = np.random.default_rng(0).normal(0.1, 0.01, (12, 4))
    cells = row("mine", Draws(values, around(values, 0.023), around(values, 0.046))).strip("| ").split(" | ")
    assert cells[:2] == ["`mine`", "12"] and float(cells[2]) == pytest.approx(0.1, abs=0.01)
    assert float(cells[4]) == pytest.approx(0.9, abs=0.05)
    assert float(cells[5]) == pytest.approx(1, abs=0.15) and float(cells[7]) == pytest.approx(2, abs=0.3)


def test_what_does_not_fill_a_group_is_left_out():
    assert [len(group) for group in groups_of(np.zeros((150, 2)), 64)] == [64, 64]
