"""An audited epsilon: one that holds with 95 % confidence, instead of the largest that luck can show.

The official epsilon is the best of many attacks on the very models that it was found on. Here the threshold, and its
direction, are chosen on one half of the models. The other half gives upper ends for both error rates (Clopper and
Pearson, 97.5 % each, so 95 % together), and these a lower end for epsilon. Perfect unlearning gets 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.stats import beta

from local_eval.metric.attacks import DELTA
from local_eval.metric.beyond.looks import Looks, Pair
from local_eval.metric.beyond.measure import Kind, Measure, against_chance

CONFIDENCE = 0.975  # of each error rate's end
AUDITED = Kind(
    key="audited_epsilon",
    name="audited epsilon",
    worse=1,
    slight=0.05,
    clear=0.6,
    meaning="epsilon that is proven with 95 % confidence, mean over examples; 0 is perfect, and all few models show",
)


def measures(ours: Looks, theirs: Looks, pairs: Sequence[Pair]) -> list[Measure]:
    """The mean over the forget examples."""
    mean = lambda a, b: float(audited_epsilons(a.forget, b.forget).mean())  # noqa: E731
    return [against_chance(AUDITED, mean, ours, theirs, pairs)]


def audited_epsilons(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """Lower ends of epsilon [E], 95 % each, from confidences [N, E] of either side."""
    half = len(unlearned) // 2
    table = bounds(half)
    return np.array(
        [
            _audit(u[:half], r[:half], u[half : 2 * half], r[half : 2 * half], table)
            for u, r in zip(unlearned.T, retrained.T)
        ]
    )


def _audit(u_choose: np.ndarray, r_choose: np.ndarray, u_held: np.ndarray, r_held: np.ndarray, table: np.ndarray):
    """One example's: choose 'at least t' or 'below t' means unlearned on two samples [n], look it up on two others."""
    thresholds = np.concatenate([u_choose, r_choose])
    up, down = table[_errors(u_choose, r_choose, thresholds)], table[_errors(r_choose, u_choose, thresholds)]
    if up.max() >= down.max():
        return table[_errors(u_held, r_held, thresholds[up.argmax()])]
    return table[_errors(r_held, u_held, thresholds[down.argmax()])]


def _errors(positive: np.ndarray, negative: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False positives and false negatives of 'at least t means positive', for each t."""
    false_positives = len(negative) - np.searchsorted(np.sort(negative), thresholds)
    return false_positives, np.searchsorted(np.sort(positive), thresholds)


@lru_cache(maxsize=4)
def bounds(models: int) -> np.ndarray:
    """[n+1, n+1]: the lower end of epsilon for (false positives, false negatives) among `models` a side."""
    errors = np.arange(models + 1)
    upper = np.ones(models + 1)
    upper[:-1] = beta.ppf(CONFIDENCE, errors[:-1] + 1, models - errors[:-1])
    reach, log_upper = np.log(np.maximum(1 - DELTA - upper, DELTA)), np.log(upper)
    table = np.maximum(reach[:, None] - log_upper[None, :], reach[None, :] - log_upper[:, None])
    return np.maximum(table, 0.0)
