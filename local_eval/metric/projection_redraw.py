"""Fresh confidences for a forget example, from the residuals of similar examples.

One example's N residuals say little of the tails, so redraws pool residuals over examples: over all of them if they
seem to share one shape, mostly over similar ones if they do not, and across both sides if the two seem to share their
shapes (without that, chance differences of two pools would lower the score of perfect unlearning).

Residuals are blurred, as each example is centred and scaled by its own estimates: hard edges go soft, tails heavier.
So a map is found that moves the pool to a shape whose samples of N, standardised alike, show just the pool. The same
simulated samples give the noise of place, spread and form.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.stats import chi2, norm

from local_eval.metric.projection_shapes import Side, l_form, mean_form_noise, place_and_spread

SMOOTHING = 0.05  # sd of the noise added to redrawn residuals, so that none is drawn twice
ROUNDS = 4  # of sharpening; more follow the noise of the tails
SAMPLES = 4000  # of N, simulated in each round
LEVELS = 61  # quantiles that describe a shape
BEYOND = 5  # residuals of one side beyond the outermost quantile
MOVE_WIDTH = 2.0  # sd, in levels, over which a round's moves are smoothed
STEEPEST = 0.2  # a piece of the pool is squeezed to this share of its length, not further: no ties
NARROWEST = 1e-9  # a spread of forms below this is none
SEED = 61  # the same for both sides: equal pools must get equal maps


class Redrawer:
    """Draws residuals for an example and a side (0: unlearned, 1: retrained).

    noise: [2 sides, 4, 4] covariance of the noise in an example's (place / spread, log spread, L-skewness, L-kurtosis).
    alike: how far the two sides may share their shapes; 1 if their mean forms agree within the noise, then falling.
    """

    def __init__(self, unlearned: Side, retrained: Side):
        self.sides = unlearned, retrained
        self.examples = len(unlearned.place)
        difference = unlearned.form.mean(axis=0) - retrained.form.mean(axis=0)
        spread = sum(mean_form_noise(side, np.random.default_rng([SEED, k])) for k, side in enumerate(self.sides))
        self.alike = min(1.0, 2 * float(chi2.sf(difference @ np.linalg.pinv(spread) @ difference, 2)))
        sharpened = [self._sharpened(side) for side in (0, 1)]
        self.maps = [(shown, true) for shown, true, _ in sharpened]
        self.noise = np.array([noise for _, _, noise in sharpened])
        self.form, self.width = self._true_forms(difference)

    def draw(self, side: int, example: int, count: int, rng: np.random.Generator, stray_rate: float) -> np.ndarray:
        """`count` fresh residuals, a share `stray_rate` of them from stray runs."""
        up_to = np.cumsum(self.weights(side, example))
        item = np.minimum(np.searchsorted(up_to, rng.random(count) * up_to[-1], "right"), 2 * self.examples - 1)
        model = rng.random(count)
        values = np.empty(count)
        for source in (0, 1):
            here = item // self.examples == source
            pool = self.sides[source].residuals
            values[here] = pool[(model[here] * len(pool)).astype(int), item[here] % self.examples]
        values = (values + SMOOTHING * rng.standard_normal(count)) / np.sqrt(1 + SMOOTHING**2)
        shown, true = self.maps[side]
        values += np.interp(values, shown, true - shown)
        strays = self.sides[side].strays
        if stray_rate > 0 and strays.size:
            astray = np.flatnonzero(rng.random(count) < stray_rate)
            values[astray] = rng.choice(strays.ravel(), len(astray))
        return values

    def weights(self, side: int, example: int) -> np.ndarray:
        """Weight [2 E] of every example's residuals, the unlearned first, in redraws of this example and side.

        A kernel as wide as the noise left in shrunken forms: the pool's mean form is then the example's shrunken one,
        and if all examples seem to share one form the weights are all but equal.
        """
        used = self.width > NARROWEST
        off = (self.form - self.form[side, example])[..., used] / self.width[used]
        weights = np.exp(-0.5 * np.sum(off * off, axis=-1))
        weights[1 - side] *= self.alike
        return weights.ravel()

    def _true_forms(self, difference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Forms with the noise taken out [2 sides, E, 2], and the sd of what noise is left [2]."""
        u, r = self.sides[0].form, self.sides[1].form
        noise_u, noise_r = np.diagonal(self.noise, axis1=1, axis2=2)[:, 2:]
        centre, left_centre = shrink((u + r) / 2, (noise_u + noise_r) / 4)
        gap, left_gap = shrink(u - r, noise_u + noise_r)
        gap -= self.alike * difference
        return np.stack([centre + gap / 2, centre - gap / 2]), np.sqrt(left_centre + left_gap / 4)

    def _sharpened(self, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`sharpen` for a side's pool over all examples."""
        own, other = self.sides[side].residuals, self.sides[1 - side].residuals
        end = norm.isf(BEYOND / own.size)
        levels = norm.cdf(np.linspace(-end, end, LEVELS))
        values = np.concatenate([own.ravel(), other.ravel()])
        mass = np.repeat([1.0, self.alike], [own.size, other.size])
        shown = weighted_quantiles(values, mass, levels)
        models = blurred_as(own, other, self.alike)
        true, noise = sharpen(shown, levels, models)
        return shown, true, noise if models == len(own) else sharpen(true, levels, len(own), rounds=0)[1]


def blurred_as(own: np.ndarray, other: np.ndarray, alike: float) -> int:
    """How many models a side must have for its residuals to be as blurred as a pool of these two, [n, E] and [m, E]."""
    mass = own.size, alike * other.size
    return round(sum(mass) / (mass[0] / len(own) + mass[1] / len(other)))


def sharpen(shown: np.ndarray, levels: np.ndarray, models: int, rounds: int = ROUNDS) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles [L] of the shape whose samples of `models`, standardised, show the quantiles `shown` [L] at `levels`.

    The shape is scaled so that its samples' place is 0 and their log spread 0 on average. Also the noise [4, 4] of
    (place, log spread, L-skewness, L-kurtosis) in such samples.
    """
    half = models * SAMPLES // 2
    uniform = np.random.default_rng(SEED).permutation((np.arange(half) + 0.5) / half).reshape(models, -1)
    uniform = np.concatenate([uniform, 1 - uniform], axis=1)  # so that a symmetric shape stays symmetric
    true = shown
    for left in reversed(range(rounds + 1)):
        sample = np.sort(np.interp(uniform, levels, true), axis=0)
        place, spread = place_and_spread(sample)
        centre, scale = place.mean(), np.exp(np.log(spread).mean())
        true = (true - centre) / scale
        if left:
            seen = np.quantile((sample - place) / spread, levels)
            move = ndimage.gaussian_filter1d(shown - seen, MOVE_WIDTH, mode="nearest")
            steps = np.maximum(np.diff(true + move), STEEPEST * np.diff(shown))
            true = true[0] + move[0] + np.append(0.0, np.cumsum(steps))
    return true, np.cov(np.column_stack([place / scale, np.log(spread), l_form(sample)]).T)


def shrink(values: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values [E, D] drawn to their mean as far as noise [D] explains their variance, and the variance left [D]."""
    true = np.maximum(values.var(axis=0) - noise, 0.0)
    share = true / np.maximum(true + noise, 1e-300)
    mean = values.mean(axis=0)
    return mean + share * (values - mean), true * (1 - share)


def weighted_quantiles(values: np.ndarray, mass: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Quantiles at `levels` of values with masses."""
    order = np.argsort(values, kind="stable")
    up_to = np.cumsum(mass[order])
    return np.interp(levels, (up_to - 0.5 * mass[order]) / up_to[-1], values[order])


def pair_noise(noise: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Noise covariances [E, 2, 2] of observed (shift, log ratio), were `pairs` [E, 2] the true ones, to first order.

    Args:
        noise: [2 sides, 4, 4], see Redrawer.
    """
    u, r = noise
    shift, ratio = pairs[:, 0], np.exp(pairs[:, 1])
    cov = np.empty((len(pairs), 2, 2))
    cov[:, 0, 0] = ratio**2 * u[0, 0] + r[0, 0] + shift**2 * r[1, 1] + 2 * shift * r[0, 1]
    cov[:, 0, 1] = cov[:, 1, 0] = ratio * u[0, 1] + r[0, 1] + shift * r[1, 1]
    cov[:, 1, 1] = u[1, 1] + r[1, 1]
    return cov
