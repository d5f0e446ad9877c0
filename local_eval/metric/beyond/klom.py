"""KLoM: how far, as a Kullback-Leibler divergence, the margins of an example are from those of oracles.

Defined by Georgiev et al. (2024) on margins log p_y - log sum of the others, which are the confidences here. Its noise
floor, what oracles get against oracles, is large and falls with N: 0.64 at N = 64, 0.05 at 512.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import entropy

from local_eval.metric.beyond.looks import Looks, Pair
from local_eval.metric.beyond.measure import Kind, Measure, against_chance

BINS = 20  # on the range of both sides together
LEAST = 1e-5  # share of oracles in a bin that holds none
LARGEST = 100.0  # margins beyond count as this
MEAN = Kind(
    key="klom",
    name="KLoM, mean",
    worse=1,
    slight=0.06,
    clear=0.6,
    meaning="divergence of the margins from the oracles'; its noise floor at this N is perfect, not 0",
)
WORST = replace(MEAN, key="klom_95", name="KLoM, 95th percentile", slight=0.09, clear=0.8)


def measures(ours: Looks, theirs: Looks, pairs: Sequence[Pair]) -> list[Measure]:
    """Mean and 95th percentile over the forget examples."""
    functions = (MEAN, np.mean), (WORST, lambda values: np.percentile(values, 95))
    return [
        against_chance(kind, lambda a, b, f=f: float(f(divergences(a.forget, b.forget))), ours, theirs, pairs)
        for kind, f in functions
    ]


def divergences(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """KL(unlearned || retrained) [E] of margins [N, E] each, binned."""
    sides = [np.clip(side, -LARGEST, LARGEST) for side in (unlearned, retrained)]
    low = np.minimum(*(side.min(axis=0) for side in sides))
    width = np.maximum(*(side.max(axis=0) for side in sides)) - low
    width[width == 0] = 1.0  # all values are one: one bin holds them
    p, q = (_shares((side - low) / width) for side in sides)
    return entropy(p, np.maximum(q, LEAST), axis=0)


def _shares(places: np.ndarray) -> np.ndarray:
    """Share [BINS, E] of values [N, E], which lie in 0..1, by bin."""
    bins = np.minimum((places * BINS).astype(np.int64), BINS - 1)
    return np.stack([(bins == b).mean(axis=0) for b in range(BINS)])
