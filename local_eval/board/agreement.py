"""Does a task rank as Kaggle did? Rank correlations over parts of the board, and pairs in the right order.

How to run it: python -m local_eval board --part all
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from scipy.stats import spearmanr

from local_eval.board.board import Graded
from local_eval.board.fit import Point, points_of

FEWEST = 4  # variants, below which a rank correlation says nothing
BASELINES = ("baseline_finetune", "baseline_neggrad")


def agreement(graded: Sequence[Graded]) -> list[str]:
    """A line for each group of variants that has enough of them: Spearman's rho, and pairs in the right order."""
    ranked = [one for one in graded if one.row.rank or one.row.variant in BASELINES]
    groups = {"all variants": graded, "winners, starter and NegGrad": ranked}
    groups |= {f"part {part}": [one for one in graded if one.row.part == part] for part in ("tune", "test")}
    families = sorted({one.row.family for one in graded})
    groups |= {f"variants of {name}": [one for one in graded if one.row.family == name] for name in families}
    lines = [(name, points_of(members)) for name, members in groups.items()]
    return [in_words(name, points) for name, points in lines if len(points) >= FEWEST]


def in_words(name: str, points: Sequence[Point]) -> str:
    """One group's line."""
    right, pairs = pairs_in_order(points)
    return f"{name}: {len(points)}, Spearman {spearman(points):+.2f}, {right} of {pairs} pairs in Kaggle's order"


def spearman(points: Sequence[Point]) -> float:
    """Rank correlation of measured and published."""
    return float(spearmanr([p.measured for p in points], [p.published for p in points]).statistic)


def pairs_in_order(points: Sequence[Point]) -> tuple[int, int]:
    """How many pairs of variants are in the published order, and how many there are; published ties do not count."""
    pairs = [(a, b) for a, b in combinations(points, 2) if a.published != b.published]
    return sum((a.measured - b.measured) * (a.published - b.published) > 0 for a, b in pairs), len(pairs)
