"""Points of many forget examples at once, nearly those of the official rule and about eighty times as fast.

Redraws need the metric ten thousands of times, and only for how much it varies. So three things are simplified. The
ends of an attack are the steps of 0.01 on which samples lie, instead of the official grid's places, as far apart. An
attack without a false positive is taken to reach the nearest sample that makes one, since the official rule discards it
otherwise. And above N = 128 not every pair of ends is tried. No score is ever taken from here; the tests hold it close
to the official rule.

What makes it fast: samples are sorted once, all attacks with the same number of false negatives are compared by their
false positives alone, and every step works on all examples at once.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from local_eval.metric.attacks import INTERVAL_BUFFER, THRESHOLDS_PER_UNIT, epsilon_table
from local_eval.metric.metric import EPSILON_CAP, PEAKY_RATIO, forgetting_points

ALL_ENDS = 128  # up to so many models every sample is tried as an end
DENSE, GROWTH = 24, 1.12  # above, the outermost ones, and then steps that grow by this factor
CHUNK = 1 << 21  # confidences handled at a time, so that memory stays below some 100 MB


def fast_points(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """Points [M] of M examples from confidences [M, N] on either side, |confidence| <= 1e4."""
    size = max(1, CHUNK // (2 * unlearned.shape[1]))
    parts = [_points(unlearned[k : k + size], retrained[k : k + size]) for k in range(0, len(unlearned), size)]
    return np.concatenate(parts)


def _points(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    models = unlearned.shape[1]
    samples, below, up_to = _sorted_and_counted(unlearned, retrained)
    widths = np.stack([np.ptp(side, axis=1) for side in (unlearned, retrained)])
    peaky = (widths[0] >= widths[1]).astype(int)
    medians = samples[:, :, (models - 1) // 2] + samples[:, :, models // 2]
    higher = (medians[1] > medians[0]).astype(int)
    rows = np.arange(len(peaky))
    best = _best_threshold(below[higher, rows].T)
    counts = below[peaky, rows].T, up_to[peaky, rows].T
    np.maximum(best, _best_interval(samples[peaky, rows], samples[1 - peaky, rows], *counts), out=best)
    apart = (samples[0, :, -1] < samples[1, :, 0]) | (samples[1, :, -1] < samples[0, :, 0])
    apart |= ~(widths.min(axis=0) >= PEAKY_RATIO * widths.max(axis=0)) | (widths.max(axis=0) == 0)
    apart |= counts[1][-1] == counts[0][0]
    return forgetting_points(np.where(apart, EPSILON_CAP, np.maximum(best, 0)), models)


def _sorted_and_counted(unlearned: np.ndarray, retrained: np.ndarray) -> tuple[np.ndarray, ...]:
    """What is known of each sample, in order, [2 sides, M, N] each.

    Samples, on steps of the grid (float32); how many of the other side lie on lower steps, on no higher ones (int16).
    """
    count, models = unlearned.shape
    marked = 2 * np.floor(np.concatenate([unlearned, retrained], axis=1) * THRESHOLDS_PER_UNIT).astype(np.int32)
    marked[:, models:] += 1  # the last bit is the side
    marked.sort(axis=1)
    theirs = (marked & 1).astype(bool)
    marked >>= 1
    place = np.arange(2 * models, dtype=np.int16)
    new = np.ones(marked.shape, dtype=bool)
    np.not_equal(marked[:, 1:], marked[:, :-1], out=new[:, 1:])
    first = np.maximum.accumulate(np.where(new, place, 0), axis=1)  # where a sample's step begins, and the next one
    last = np.minimum.accumulate(np.where(new, place, 2 * models)[:, ::-1], axis=1)[:, ::-1]
    after = np.concatenate([last[:, 1:], np.full((count, 1), 2 * models, dtype=last.dtype)], axis=1)
    seen = np.zeros((count, 2 * models + 1), dtype=np.int16)
    np.cumsum(theirs, axis=1, out=seen[:, 1:])
    lower = np.take_along_axis(seen, first.astype(np.int64), axis=1)
    up_to = np.take_along_axis(seen, after.astype(np.int64), axis=1)

    def of_each(values: np.ndarray, others: np.ndarray) -> np.ndarray:
        return np.stack([values[~theirs].reshape(count, models), others[theirs].reshape(count, models)])

    samples = of_each(marked, marked) / np.float32(THRESHOLDS_PER_UNIT)
    return samples, of_each(lower, (first - lower).astype(np.int16)), of_each(up_to, (after - up_to).astype(np.int16))


def _best_threshold(negatives_below: np.ndarray) -> np.ndarray:
    """Best epsilon [M] of 'at least t means the higher side', t at its samples; counts [N, M]."""
    models, table = len(negatives_below), epsilon_table(len(negatives_below))
    best = np.full(negatives_below.shape[1], -np.inf, dtype=np.float32)
    for misses in _ends(models)[1:]:
        false_positives = np.maximum(models - negatives_below[misses], 1)
        np.maximum(best, table[misses].take(false_positives), out=best)
    return best


def _best_interval(peaky: np.ndarray, other: np.ndarray, below: np.ndarray, up_to: np.ndarray) -> np.ndarray:
    """Best epsilon [M] of 'between two samples of the peaky side means that side'.

    Args:
        peaky, other: sorted samples [M, N].
        below, up_to: [N, M] how many of `other` lie on lower steps than each sample of `peaky`, and on no higher ones.
    """
    models, table = len(below), epsilon_table(len(below))
    least = _least_false_positives(np.ascontiguousarray(peaky.T), below, up_to)
    reach = (other >= peaky[:, :1] - INTERVAL_BUFFER) & (other <= peaky[:, -1:] + INTERVAL_BUFFER)
    reach = reach.any(axis=1)  # else no interval makes a false positive, and all are discarded
    best = np.full(len(peaky), -np.inf, dtype=np.float32)
    for misses in range(1, models - 1):
        found = least[misses]
        usable = (found < models) & (reach | (found > 0))
        if usable.any():
            epsilon = np.where(usable, table[misses].take(np.clip(found, 1, models)), -np.inf)
            np.maximum(best, epsilon, out=best)
    return best


def _least_false_positives(peaky: np.ndarray, below: np.ndarray, up_to: np.ndarray) -> np.ndarray:
    """By number of peaky samples left outside: the fewest others inside, int16 [N, M]; N where there is no interval.

    At most INTERVAL_BUFFER may be cut off at both ends together: the official grid has no narrower intervals.
    """
    models = len(peaky)
    cut_low, cut_high = peaky - peaky[0], (peaky[-1] - peaky)[::-1]
    up_to = up_to[::-1]
    first_low, first_high = cut_low.min(axis=1), cut_high.min(axis=1)
    least = np.full(peaky.shape, models, dtype=np.int16)
    for low in _ends(models):
        room = INTERVAL_BUFFER - cut_low[low]
        for high in _ends(models):
            if low + high >= models - 1 or first_low[low] + first_high[high] > INTERVAL_BUFFER:
                break
            inside = up_to[high] - below[low]
            np.putmask(inside, cut_high[high] > room, models)
            np.minimum(least[low + high], inside, out=least[low + high])
    return least


@lru_cache(maxsize=8)
def _ends(models: int) -> tuple[int, ...]:
    """Which samples are tried as ends, counted from outside: all, or densely at both ends and ever fewer between."""
    if models <= ALL_ENDS:
        return tuple(range(models))
    steps = np.concatenate([np.arange(DENSE), DENSE * GROWTH ** np.arange(60)]).astype(int)
    half = {int(k) for k in steps if k < models // 2}
    return tuple(sorted(half | {models - 1 - k for k in half}))
