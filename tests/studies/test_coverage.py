"""Real coverage counts just the pairs of draws that share nothing, or only the oracles."""

import numpy as np
import pytest

from studies.coverage import row, shares


def test_pairs_that_share_nothing_and_pairs_with_the_same_oracles_are_counted_apart():
    """Oracle group 1 scores higher by 1: intervals of half-width .3 hold other seeds, but no other group."""
    values = np.array([[0.0, 1.0], [0.1, 1.1], [0.2, 1.2]])
    ends = np.stack([values - 0.3, values + 0.3], axis=-1)
    assert shares(values, ends) == (0.0, 1.0)
    wide = np.stack([values - 1, values + 1], axis=-1)
    apart, same = shares(values, wide)
    assert same == 1.0
    assert apart == pytest.approx(6 / 12), "from a seed s of group 0 to an earlier one of group 1, and back"


def test_a_row_has_the_figures_of_one_draw_a_seed():
    values = np.random.default_rng(0).normal(0.1, 0.01, (12, 4))
    ends = np.stack([values - 0.03, values + 0.03], axis=-1)
    cells = row("mine", values, ends).strip("| ").split(" | ")
    assert cells[:2] == ["`mine`", "12"] and float(cells[2]) == pytest.approx(0.1, abs=0.01)
    assert float(cells[4]) > 0.8
