"""Tug-of-war: one number for how alike the accuracies of unlearned and retrained models are (Zhao et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from local_eval.metric.beyond.looks import Looks, Pair
from local_eval.metric.beyond.measure import Kind, Measure, against_chance

TUG = Kind(
    key="tug_of_war",
    name="tug of war",
    worse=-1,
    slight=0.02,
    clear=0.1,
    meaning="retain, forget and test accuracies beside the oracles'; 1 is best",
)


def measures(ours: Looks, theirs: Looks, pairs: Sequence[Pair]) -> list[Measure]:
    """From the mean accuracies of either side; none where models were given without them."""
    if not all(np.isfinite(side.accuracies).all() for side in (ours, theirs)):
        return []
    return [against_chance(TUG, tug_of_war, ours, theirs, pairs)]


def tug_of_war(ours: Looks, theirs: Looks) -> float:
    """(1 - |difference|) of the mean accuracies on the retain, forget and test set, multiplied; 0 to 1."""
    differences = np.abs(ours.accuracies.mean(axis=0) - theirs.accuracies.mean(axis=0))
    return float(np.prod(1 - differences))
