"""What holds a method back: how much of what is missing each repair would bring.

A repair changes the unlearned confidences, example by example, in one respect, and the official metric scores the
result. `centre` moves them onto the retrained centre, `spread` gives them the retrained spread, `outliers` leaves out
runs that lie far from all others, `accuracy` gives the models the retrained accuracies. Places and spreads that are
made equal are made so but for the noise that N runs would leave, or else the repaired would be closer than chance.

Repairs help each other: a method that is shifted and too narrow gains little by either. So each is credited with what
it adds on average over all orders in which the repairs can be made (its Shapley value).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np

from local_eval.metric.metric import quality_of
from local_eval.metric.uncertainty.sides import Side, outlier_runs, read_side

CELLS = 1 << 16  # models x examples that a repair is scored on; more cost seconds and change little
FLAT = 1e-6  # a spread below this cannot be repaired by stretching


@dataclass(frozen=True)
class Repair:
    """One thing that holds the method back. Values are scores."""

    key: str  # centre, spread, outliers, accuracy
    alone: float  # the score with this repaired and nothing else
    credit: float  # what it adds, averaged over the orders of repairing


@dataclass(frozen=True)
class Gap:
    """From the score as it is to the score with everything repaired."""

    now: float
    repaired: float
    repairs: tuple[Repair, ...]  # the largest credit first
    examples: int  # on which the repairs were scored

    def share(self, key: str) -> float:
        """Of what the repairs that help bring, the part that one is credited with; 0 where there is nothing."""
        helps = {r.key: max(r.credit, 0.0) for r in self.repairs}
        return helps.get(key, 0.0) / (sum(helps.values()) or 1.0)


def gap(unlearned: np.ndarray, retrained: np.ndarray, quality: float, utility: float) -> Gap:
    """Score every set of repairs.

    Args:
        unlearned, retrained: [N, E] confidences.
        quality: forgetting quality over all examples, to which what is measured on a part of them is scaled.
        utility: what it is multiplied by.
    Raises:
        MetricError: confidences that cannot be scored.
    """
    chosen = some_examples(*unlearned.shape)
    ours, theirs = unlearned[:, chosen], retrained[:, chosen]
    is_outlier = outlier_runs(unlearned)
    more = is_outlier.sum() > outlier_runs(retrained).sum()
    keys = ("centre", "spread", *(["outliers"] if more else []))
    pair = _Pair(ours, theirs, read_side(ours), read_side(theirs), is_outlier)
    found = {which: pair.quality(which) for which in subsets(keys)}
    scale = quality / found[frozenset()] if found[frozenset()] else 1.0
    values = {which | extra: q * scale * (1.0 if extra else utility) for which, q in found.items() for extra in LAST}
    every = (*keys, "accuracy")
    repairs = [Repair(key, values[frozenset([key])], shapley(values, every, key)) for key in every]
    ordered = tuple(sorted(repairs, key=lambda r: -r.credit))
    return Gap(values[frozenset()], values[frozenset(every)], ordered, len(chosen))


LAST = (frozenset(), frozenset(["accuracy"]))  # needs no scoring: it only drops the factor


def some_examples(models: int, examples: int) -> np.ndarray:
    """Which examples the repairs are scored on: all, or as many as `CELLS` allows, evenly spaced."""
    count = min(examples, max(CELLS // models, 1))
    return np.arange(count) * examples // count


def subsets(keys: Sequence[str]) -> list[frozenset[str]]:
    """All subsets, the empty one first."""
    return [frozenset(c) for size in range(len(keys) + 1) for c in combinations(keys, size)]


def shapley(values: dict[frozenset[str], float], keys: Sequence[str], key: str) -> float:
    """What `key` adds to the value, averaged over the orders in which all keys can be added."""
    others, total = [k for k in keys if k != key], 0.0
    for before in subsets(others):
        weight = factorial(len(before)) * factorial(len(others) - len(before)) / factorial(len(keys))
        total += weight * (values[before | {key}] - values[before])
    return total


@dataclass(frozen=True)
class _Pair:
    """Both sides, and what is known of them."""

    ours: np.ndarray
    theirs: np.ndarray
    us: Side
    them: Side
    is_outlier: np.ndarray

    def quality(self, which: frozenset[str]) -> float:
        """Forgetting quality after some repairs."""
        ours = self.stretched() if "spread" in which else self.ours
        if "centre" in which:
            ours = ours + self.way()
        theirs = self.theirs
        if "outliers" in which:
            ours = ours[~self.is_outlier]
            theirs = theirs[: len(ours)]
        return quality_of(ours, theirs)

    def way(self) -> np.ndarray:
        """[E]: how far to move each example's confidences."""
        noise = np.random.default_rng(0).normal(size=self.us.place.shape) * np.sqrt(2 / len(self.ours))
        return self.them.place - self.us.place + noise * self.them.spread

    def stretched(self) -> np.ndarray:
        """[N, E]: the unlearned confidences about their own place, with the spread of the retrained."""
        noise = np.random.default_rng(1).normal(size=self.us.place.shape) * np.sqrt(1 / len(self.ours))
        safe = np.maximum(self.us.spread, FLAT)
        ratio = np.where(self.us.spread > FLAT, self.them.spread / safe * np.exp(noise), 1.0)
        return self.us.place + (self.ours - self.us.place) * ratio
