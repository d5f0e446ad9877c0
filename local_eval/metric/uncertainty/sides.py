"""What the confidences of N models of one side show of each forget example: place, spread, shape, and outlier runs.

Outlier runs are those far from all others on many examples. They are found by medians and median absolute deviations,
which a quarter of the runs does not move far, and by this one function wherever they matter: in the warnings beside a
score, in the interval, in the projection and on the report page.

Place and spread are winsorised (the outermost `WINSOR` of the models count as the next ones inwards), so that a few
outlier values do not blur them. What is left, the standardised residuals, is the shape. How far examples differ in
shape is told by two numbers, L-skewness and L-kurtosis (Hosking 1990), which a single far value moves less than
ordinary skewness and kurtosis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WINSOR = 0.1  # of the models at each end
RESAMPLES = 40  # bootstrap draws of models for the noise of two means; more do not change a decision
OUTLIER_REACH = 3.6  # sd from the median, by the median deviation: a factor shared by all seldom gets so far
NORMAL_DEVIATION = 0.6745  # sd of a normal distribution: its median absolute deviation
OUTLIER_SHARE = 0.25  # of the examples on which an outlier run is so far off
NORMAL_KURTOSIS = 0.1226  # L-kurtosis of a normal
LEAST = 1e-12  # keeps divisions by a spread finite


@dataclass(frozen=True)
class Side:
    """One side's models. Arrays over E examples and the n models that are not outliers.

    place, spread [E]; residuals [n, E]; form [E, 2]: L-skewness and L-kurtosis; outliers [k, E]: residuals of the other
    k models.
    """

    place: np.ndarray
    spread: np.ndarray
    residuals: np.ndarray
    form: np.ndarray
    outliers: np.ndarray


def place_and_spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Winsorised mean and sd [E] of sorted values [n, E]; the plain sd where all but the ends are equal."""
    k = max(1, round(WINSOR * len(values)))
    kept = np.clip(values, values[k], values[-1 - k])
    spread = kept.std(axis=0, ddof=1)
    flat = spread <= LEAST
    if flat.any():
        spread[flat] = values[:, flat].std(axis=0, ddof=1)
    return kept.mean(axis=0), np.maximum(spread, LEAST)


def l_form(values: np.ndarray) -> np.ndarray:
    """L-skewness and L-kurtosis [E, 2] of sorted values [n, E]."""
    n = len(values)
    i = np.arange(n)
    weights = np.ones((4, n))
    for r in range(1, 4):
        weights[r] = weights[r - 1] * (i - r + 1) / (n - r)
    b0, b1, b2, b3 = weights @ values / n
    second = np.maximum(2 * b1 - b0, LEAST)
    return np.stack([(6 * b2 - 6 * b1 + b0) / second, (20 * b3 - 30 * b2 + 12 * b1 - b0) / second], axis=1)


def outlier_runs(values: np.ndarray) -> np.ndarray:
    """Which runs lie far from all others on many examples, bool [N]; none if it would be half of them.

    Args:
        values: confidences [N, E] of one side.
    """
    off = np.abs(values - np.median(values, axis=0))
    spread = np.maximum(np.median(off, axis=0) / NORMAL_DEVIATION, LEAST)
    is_outlier = (off > OUTLIER_REACH * spread).mean(axis=1) > OUTLIER_SHARE
    return is_outlier if is_outlier.mean() < 0.5 else np.zeros(len(values), dtype=bool)


def read_side(values: np.ndarray) -> Side:
    """Place, spread, shape and outlier runs, from the confidences [N, E] of one side."""
    is_outlier = outlier_runs(values)
    kept = values[~is_outlier]
    ordered = np.sort(kept, axis=0)
    place, spread = place_and_spread(ordered)
    return Side(place, spread, (kept - place) / spread, l_form(ordered), (values[is_outlier] - place) / spread)


def mean_form_noise(side: Side, rng: np.random.Generator) -> np.ndarray:
    """Covariance [2, 2] of the noise in the mean form over examples, by bootstrap over models: they share the runs."""
    n = len(side.residuals)
    means = [l_form(np.sort(side.residuals[rng.integers(n, size=n)], axis=0)).mean(axis=0) for _ in range(RESAMPLES)]
    return np.cov(np.array(means).T) * n / (n - 1)


def flatness(side: Side) -> float:
    """How far the mean L-kurtosis over examples lies below a normal's, at least 0: uniform 0.12, two peaks 0.08."""
    return max(0.0, NORMAL_KURTOSIS - float(side.form[:, 1].mean()))


def observed_pairs(unlearned: Side, retrained: Side) -> np.ndarray:
    """(shift in sd of retrained, log spread ratio) [E, 2] as the models show them."""
    shift = (unlearned.place - retrained.place) / retrained.spread
    return np.column_stack([shift, np.log(unlearned.spread / retrained.spread)])
