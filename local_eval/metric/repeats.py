"""Scores of one method with several seeds: how far they scatter is how far to trust one of them.

Each seed's runs are compared with oracles of their own where the pool has enough for all, since another draw of the
method's runs is one thing and another draw of the oracles the other. Shared oracles hide none of the
variance of a method that is near perfect, and half of others'; `python -m local_eval.metric.tiers_study` measures that.

How to run it: python -m local_eval grade fanchuan --runs 64 --repeat 3
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from local_eval.engine.records import Record
from local_eval.metric.metric import quality_of
from local_eval.metric.score import confidences, mean_accuracies


@dataclass(frozen=True)
class Repeats:
    """Scores by seed."""

    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    oracles: str  # "disjoint" or "shared"

    @property
    def mean(self) -> float:
        """Of the scores."""
        return float(np.mean(self.scores))

    @property
    def deviation(self) -> float:
        """Standard deviation of the scores: of one score, not of their mean."""
        return float(np.std(self.scores, ddof=1))


def repeats(by_seed: dict[int, Sequence[Record]], oracles: Sequence[Record], runs: int, labels: np.ndarray) -> Repeats:
    """Score the runs of every seed.

    Args:
        by_seed: at least two seeds and their finished runs, at most `runs` each.
        oracles: at least `runs`; where there are enough, seed number k is compared with the k-th `runs` of them.
        labels: [E] of the forget set.
    Raises:
        MetricError: confidences that cannot be scored.
    """
    disjoint = len(oracles) >= runs * len(by_seed)
    starts = [k * runs if disjoint else 0 for k in range(len(by_seed))]
    scores = [
        plain_score(records, oracles[start : start + len(records)], labels)
        for start, records in zip(starts, by_seed.values())
    ]
    return Repeats(tuple(by_seed), tuple(scores), "disjoint" if disjoint else "shared")


def plain_score(runs: Sequence[Record], oracles: Sequence[Record], labels: np.ndarray) -> float:
    """The score of N runs against N oracles, without all that stands beside it."""
    (ra, ta), (oracle_ra, oracle_ta) = mean_accuracies(runs), mean_accuracies(oracles)
    quality = quality_of(confidences(runs, labels), confidences(oracles, labels))
    return quality * (ra / oracle_ra) * (ta / oracle_ta)
