"""The competition's metric: attacks on every forget example, their epsilons, and the points they earn.

Confidences of N unlearned and N retrained models go in, one epsilon per forget example comes out; the mean of
the points `2 ** -floor(epsilon / 0.5)` is the forgetting quality. The rule, the grids and the quirks are those of the
organisers' released grader (google-deepmind/unlearning_evaluation, metric.py). `local_eval/metric/twin.py` spells the
same rule out over the whole grid, and the tests hold the two equal to the bit.

The attacks themselves, and why they are fast, are in `local_eval/metric/attacks.py`.

How to time it: python -m local_eval bench
"""

from __future__ import annotations

import numpy as np

from local_eval.engine.errors import WorkError
from local_eval.metric.attacks import best_interval, best_threshold

EPSILON_CAP = 50.0  # perfect separation would be infinite
LARGEST = 1e4  # beyond this float32 thresholds no longer resolve 0.01; real confidences end at +-104
PEAKY_RATIO = 0.01  # below this ratio of ranges the attack is declared perfect
BUCKET = 0.5  # width in epsilon of the buckets; each is worth half of the one before


class MetricError(WorkError, ValueError):
    """The confidences cannot be scored; the message says which and why."""


def logit_scaled_confidence(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """log p_y - log sum_{j != y} p_j, the statistic that every attack reads (LiRA; Carlini et al. 2022).

    Args:
        logits: [..., E, C] raw outputs; left untouched.
        targets: [E] true classes.
    Returns:
        float64 [..., E]; saturates near +-103.6 because 1e-45 is added inside both logarithms, as officially.
    Raises:
        MetricError: a logit is NaN or infinite, or targets do not fit.
    """
    logits, targets = np.asarray(logits), np.asarray(targets)
    if logits.ndim < 2 or targets.shape != logits.shape[-2:-1]:
        raise MetricError(f"logits {logits.shape} need targets of shape {logits.shape[-2:-1]}, got {targets.shape}")
    if not np.isfinite(logits).all():
        where = tuple(int(k) for k in np.argwhere(~np.isfinite(logits))[0])
        raise MetricError(f"logit at index {where} is {logits[where]}: the model has diverged")
    if targets.size and not (targets.min() >= 0 and targets.max() < logits.shape[-1]):
        raise MetricError(f"targets span {targets.min()}..{targets.max()}, but there are {logits.shape[-1]} classes")
    shifted = logits - logits.max(axis=-1, keepdims=True)
    probs = np.exp(shifted).astype(np.float64)
    probs /= probs.sum(axis=-1, keepdims=True)
    index = np.broadcast_to(targets[:, None], (*probs.shape[:-1], 1))
    correct = np.take_along_axis(probs, index, axis=-1)[..., 0]
    np.put_along_axis(probs, index, 0.0, axis=-1)
    return np.log(correct + 1e-45) - np.log(probs.sum(axis=-1) + 1e-45)


def example_epsilons(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """The best attack's epsilon for every forget example.

    Args:
        unlearned, retrained: [N, E] confidences of N models each.
    Returns:
        float64 [E] in [0, 50]; 50 means that an attack tells the two sets of models apart without error.
    Raises:
        MetricError: shapes differ, N < 2, a value is not finite, or an example on which no attack is defined
            (all confidences identical, or every threshold discarded).
    """
    unlearned, retrained = checked_pair(unlearned, retrained)
    epsilons = np.empty(unlearned.shape[1])
    for e in range(unlearned.shape[1]):
        epsilons[e] = _one_epsilon(np.sort(unlearned[:, e]), np.sort(retrained[:, e]), e)
    return epsilons


def forgetting_points(epsilons: np.ndarray, models: int) -> np.ndarray:
    """Points [E]: 1, 1/2, 1/4 ... by buckets of 0.5, and 0 past the last bucket that N = `models` gives."""
    # The last bucket ends at ceil(ln(N-1)): about the largest finite epsilon that N models can show.
    last = np.ceil(np.log(models - 1))
    bucket = np.floor(np.asarray(epsilons) / BUCKET)
    return np.where((bucket + 1) * BUCKET <= last, 0.5**bucket, 0.0)


def forgetting_quality(unlearned: np.ndarray, retrained: np.ndarray) -> float:
    """Mean points over the forget set, from confidences [N, E] each. Perfect unlearning scores about 0.18, not 1."""
    epsilons = example_epsilons(unlearned, retrained)
    return float(forgetting_points(epsilons, len(unlearned)).mean())


def checked_pair(
    unlearned: np.ndarray, retrained: np.ndarray, same_count: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 [N, E]; raises MetricError unless they can be scored against each other."""
    pair = []
    for name, values in (("unlearned", unlearned), ("retrained", retrained)):
        values = np.asarray(values, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] == 0:
            raise MetricError(f"{name} confidences must be [models, examples], got shape {values.shape}")
        if not np.isfinite(values).all():
            model, example = (int(k) for k in np.argwhere(~np.isfinite(values))[0])
            raise MetricError(f"{name} model {model}, example {example}: confidence is {values[model, example]}")
        if np.abs(values).max() > LARGEST:
            raise MetricError(
                f"{name} confidences reach {np.abs(values).max():g}; are they raw logits? They end at +-104"
            )
        pair.append(values)
    if pair[0].shape[not same_count :] != pair[1].shape[not same_count :]:
        raise MetricError(
            f"unlearned {pair[0].shape} and retrained {pair[1].shape} differ; give the same N and examples"
        )
    if min(map(len, pair)) < 2:
        raise MetricError("one model on each side says nothing: give at least 2 (and 16 for a usable score)")
    return pair[0], pair[1]


def _one_epsilon(unlearned: np.ndarray, retrained: np.ndarray, example: int) -> float:
    """Epsilon from two sorted samples [N]; the classes are ordered by median, as officially."""
    positive, negative = unlearned, retrained
    if np.median(retrained) > np.median(unlearned):
        positive, negative = retrained, unlearned
    ranges = positive[-1] - positive[0], negative[-1] - negative[0]
    smallest, largest = min(ranges), max(ranges)
    if largest == 0.0 and positive[0] == negative[0]:
        raise MetricError(
            f"example {example}: all {2 * len(positive)} confidences are {positive[0]}; no attack is defined. "
            "Are the unlearned and the retrained models one and the same?"
        )
    if largest == 0.0 or smallest / largest < PEAKY_RATIO:
        return EPSILON_CAP
    best = max(best_interval(positive, negative), best_threshold(positive, negative))
    if best == -np.inf:
        raise MetricError(f"example {example}: every threshold was discarded, the official rule has no answer")
    return float(min(best, np.float32(EPSILON_CAP)))
