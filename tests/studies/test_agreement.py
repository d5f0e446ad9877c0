"""Agreement is one where the orders are equal, minus one where they are opposite, and counts what there is to count."""

from studies.board import agreement, pairs_in_order, spearman
from tests.studies.test_fit import board, points


def test_orders_that_are_equal_or_opposite_have_one_and_minus_one():
    same, opposite = points(), points(law=lambda x, _: 0.05 - x / 2)
    assert (spearman(same), pairs_in_order(same)) == (1, (66, 66))
    assert (spearman(opposite), pairs_in_order(opposite)) == (-1, (0, 66))


def test_published_ties_are_no_pairs():
    assert pairs_in_order(points(law=lambda x, family: 0.05)) == (0, 0)


def test_groups_with_few_variants_have_no_line():
    lines = agreement(board())
    assert [line.partition(":")[0] for line in lines] == ["all variants", "part tune"]
    assert "12, Spearman +1.00, 66 of 66 pairs" in lines[0]
