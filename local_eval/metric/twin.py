"""The slow, obviously right twin of `metric.py`: every attack of the official grid, all at once.

It needs gigabytes and seconds per example at N = 512, as the organisers' code does; that is the point. Tests compare
`metric.py` with it, `python -m local_eval bench` times the two side by side.
"""

from __future__ import annotations

import numpy as np
import torch


def epsilon_over_grid(unlearned: np.ndarray, retrained: np.ndarray, delta: float = 1e-5) -> float:
    """Epsilon of one forget example from confidences [N] each, by evaluating the whole grid; nan if undefined."""
    positive, negative = unlearned, retrained
    if np.median(retrained) > np.median(unlearned):
        positive, negative = retrained, unlearned
    ranges = np.ptp(positive), np.ptp(negative)
    with np.errstate(invalid="ignore", divide="ignore"):
        if min(ranges) / max(ranges) < 0.01:
            return 50.0
    rates = [_single(positive, negative), _interval(positive, negative)]
    false_positive, false_negative, true_positive, true_negative = (np.concatenate(kind) for kind in zip(*rates))
    with np.errstate(invalid="ignore", divide="ignore"):
        one = np.log(1 - delta - false_positive) - np.log(false_negative)
        other = np.log(1 - delta - false_negative) - np.log(false_positive)
        epsilons = np.clip(np.fmax(one, other), 0, None)
    epsilons[(false_positive == 0) ^ (false_negative == 0)] = np.nan
    epsilons[(false_positive + false_negative == 0) & (true_positive + true_negative == 2)] = np.inf
    if np.isnan(epsilons).all():
        return float("nan")
    return float(np.clip(np.nanmax(epsilons), 0, 50))


def _single(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, ...]:
    """'At least t means positive' for t on a float32 grid of 100 per unit; FPR, FNR, TPR and TNR [T]."""
    low, high = min(positive.min(), negative.min()), max(positive.max(), negative.max())
    thresholds = torch.linspace(low, high, int(np.ceil((high - low) * 100))).numpy()
    positive, negative = positive[:, None], negative[:, None]
    wrong = _mean(negative >= thresholds), _mean(positive < thresholds)
    return *wrong, _mean(positive >= thresholds), _mean(negative < thresholds)


def _interval(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, ...]:
    """'Between l and r means the class of smaller range' for about 400 r and 400 l each; the four rates [160,000].

    Thresholds and confidences are tiled to [N, 160,000] float64 each, as the organisers' code does.
    """
    peaky, other = positive, negative
    if np.ptp(positive) >= np.ptp(negative):
        peaky, other = negative, positive
    width = np.ptp(peaky)
    low, high = peaky.min() + width - 2.0, peaky.max() + 2.0
    rights = np.linspace(low, high, int(np.ceil((high - low) * 100)))
    left = np.concatenate([np.linspace(r - width - 2.0, r - width + 2.0, 400) for r in rights])
    right = np.repeat(rights, 400)
    left, right = (np.tile(ends, (len(peaky), 1)) for ends in (left, right))
    peaky, other = (np.tile(sample[:, None], (1, left.shape[1])) for sample in (peaky, other))

    def inside(sample: np.ndarray) -> np.ndarray:
        return (left <= sample) & (sample <= right)

    return _mean(inside(other)), _mean(~inside(peaky)), _mean(inside(peaky)), _mean(~inside(other))


def _mean(decisions: np.ndarray) -> np.ndarray:
    """Share of models [T] for which an attack decided so, from float32 zeros and ones [N, T]."""
    return decisions.astype(np.float32).mean(axis=0, dtype=np.float32)
