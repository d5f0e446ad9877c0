"""The forgetting quality that N = 512 models would give, estimated from fewer.

At small N the score takes the noise of few models for closeness: a method one sd off scores .065 at N = 32 and .017
at 512, while perfect unlearning scores about .18 at every N. The projection takes that noise out:

1. Read each example's shift and spread ratio, and how noisy both are (`sides.py`).
2. Estimate the true distribution of the two over the examples, by maximum likelihood (`mixture.py`).
3. Draw true pairs from each example's posterior, redraw 512 + 512 confidences with them and with residuals pooled
   over examples (so skew, tails and outlier runs are kept: `Redrawer`), and score these by the real metric.

The interval adds up, on a log scale, the changes of the estimate when groups of models or of persons are left out, the
noise of the redraws, what the method is off by on simulated families, and the uncertain rate of outlier runs. Runs that
may be outliers but were not seen to be are not in it.

Where it errs, and by how much: python -m studies.projections
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.interpolate import RegularGridInterpolator
from scipy.stats import beta, chi2, norm

from local_eval.metric.given import as_persons, confidences_given
from local_eval.metric.metric import checked_pair, example_epsilons, forgetting_points
from local_eval.metric.uncertainty.mixture import Mixture, fit_mixture, improve, posterior
from local_eval.metric.uncertainty.sides import (
    Side,
    flatness,
    l_form,
    mean_form_noise,
    observed_pairs,
    place_and_spread,
    read_side,
)
from local_eval.store.errors import InputError
from local_eval.store.lines import in_notebook

# Fresh confidences for a forget example, from the residuals of similar examples.
#
# One example's N residuals say little of the tails, so redraws pool residuals over examples: over all of them if they
# seem to share one shape, mostly over similar ones if they do not, and across both sides if the two seem to share
# their shapes (without that, chance differences of two pools would lower the score of perfect unlearning).
#
# Residuals are blurred, as each example is centred and scaled by its own estimates: hard edges go soft, tails
# heavier. So a map is found that moves the pool to a shape whose samples of N, standardised alike, show just the
# pool. The same simulated samples give the noise of place, spread and form.


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

    def draw(self, side: int, example: int, count: int, rng: np.random.Generator, outlier_rate: float) -> np.ndarray:
        """`count` fresh residuals, a share `outlier_rate` of them from outlier runs."""
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
        outliers = self.sides[side].outliers
        if outlier_rate > 0 and outliers.size:
            chosen = np.flatnonzero(rng.random(count) < outlier_rate)
            values[chosen] = rng.choice(outliers.ravel(), len(chosen))
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


# Mean points of one forget example by its shift and its spread ratio, Gaussian confidences, at several N.
#
# The projection needs to know where on the plane of (shift, log spread ratio) points are earned: to spend its
# redraws there, and to weigh the noise of an estimate. It never takes a score from this table alone, so the table may
# be coarse.
#
# Each cell is the mean of 100 runs of the real metric on fresh Gaussian draws (retrained: mean 0, sd 1.5, wide enough
# that the score no longer depends on it), simulated once and shipped as projection_table.npz.
#
# How to make it (about 5 minutes on one core): python -m studies.projections tables


FILE = Path(__file__).with_name("projection_table.npz")
SHIFTS = np.array([0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.1, 1.3, 1.6, 2, 2.5, 3, 4, 5.5, 8])
LOG_RATIOS = np.array(
    [-4, -3, -2.2, -1.6, -1.2, -0.9, -0.7, -0.5, -0.35, -0.25, -0.15, -0.07]
    + [0, 0.07, 0.15, 0.25, 0.35, 0.5, 0.7, 0.9, 1.2, 1.6, 2.2, 3]
)
MODELS = np.array([64, 128, 256, 512, 1024])
FLOOR = 1e-6  # points below this are none: log points stay finite


@lru_cache(maxsize=1)
def load_table() -> np.ndarray:
    """The shipped table, read-only."""
    with np.load(FILE, allow_pickle=False) as stored:
        table = stored["points"].astype(np.float64)
    table.setflags(write=False)
    return table


def gaussian_points(shifts: np.ndarray, log_ratios: np.ndarray, models: int) -> np.ndarray:
    """Expected points of Gaussian examples at N = `models`, interpolated in log points; beyond the grid, its edge.

    Args:
        shifts, log_ratios: arrays of one shape; the sign of a shift does not matter.
        models: N of the score; between two tabulated N the log points are interpolated in log N.
    """
    place = np.interp(np.log(models), np.log(MODELS), np.arange(len(MODELS)))
    lower = min(int(place), len(MODELS) - 2)
    logs = np.log(np.maximum(load_table()[lower : lower + 2], FLOOR))
    mixed = logs[0] + (place - lower) * (logs[1] - logs[0])
    look_up = RegularGridInterpolator((SHIFTS, LOG_RATIOS), mixed, method="linear")
    inside = np.clip(np.abs(shifts), SHIFTS[0], SHIFTS[-1]), np.clip(log_ratios, LOG_RATIOS[0], LOG_RATIOS[-1])
    return np.exp(look_up(np.stack(inside, axis=-1)))


# From confidences of N models to the true (shift, log spread ratio) of each example, and on to points at a larger N.


PER_EXAMPLE = 8  # true pairs drawn from each example's posterior
GROUPS = 8  # left out in turn, of models and of persons
ESTIMATE_ROUNDS = 100  # of EM; the log likelihood has settled by then
WARM_ROUNDS = 30  # of EM for a first guess, or after leaving a group out
GUARD = 0.2  # of the mean expected points, added to each pair's: what the Gaussian table takes for lost is drawn too
CONFIDENCE_END = 104.0  # confidences saturate here (see metric.py)
OUTLIER_PRIOR = (0.7, 20.0)  # of a beta distribution: rates are small; 1 of 64 is read as 1.6 %, 2 as 2.8 %
LEAST_RUNS = 1e-9  # a score: logarithms stay finite
ESTIMATE_SEED = 512


@dataclass(frozen=True)
class Estimate:
    """The two sides, how to redraw them, the observed pairs [E, 2], their noise [E, 2, 2], the mixture of true ones."""

    unlearned: Side
    retrained: Side
    redrawer: Redrawer
    pairs: np.ndarray
    noise: np.ndarray
    mixture: Mixture

    def outlier_rates(self, chance: float = 0.5) -> list[float]:
        """Rate of outlier runs of either side: a quantile of what is believed of it; 0 where none was seen."""
        counts = [(len(side.outliers), len(side.residuals)) for side in (self.unlearned, self.retrained)]
        return [float(beta.ppf(chance, k + OUTLIER_PRIOR[0], n + OUTLIER_PRIOR[1])) if k else 0.0 for k, n in counts]


def estimate(unlearned: np.ndarray, retrained: np.ndarray, independent: int) -> Estimate:
    """Everything the projection needs, from confidences [N, E] with `independent` persons."""
    sides = read_side(unlearned), read_side(retrained)
    redrawer = Redrawer(*sides)
    pairs = _unbiased(observed_pairs(*sides), redrawer)
    noise = pair_noise(redrawer.noise, pairs)
    mixture = fit_mixture(pairs, noise, independent, WARM_ROUNDS)
    # The noise depends on the true pairs: once more with better guesses of these than the observed ones.
    shares, means, _ = posterior(mixture, pairs, noise)
    noise = pair_noise(redrawer.noise, np.einsum("ek,ekd->ed", shares, means))
    return Estimate(*sides, redrawer, pairs, noise, fit_mixture(pairs, noise, independent, ESTIMATE_ROUNDS))


def _unbiased(pairs: np.ndarray, redrawer: Redrawer) -> np.ndarray:
    """Pairs [E, 2] whose shifts are right on average: dividing by a noisy spread makes them too large."""
    return pairs * [np.exp(-redrawer.noise[1, 1, 1] / 2), 1.0]


def true_pairs(found: Estimate, rng: np.random.Generator) -> np.ndarray:
    """[PER_EXAMPLE, E, 2] draws of (shift, log ratio) from each example's posterior."""
    shares, means, covariances = posterior(found.mixture, found.pairs, found.noise)
    examples = np.arange(len(means))
    # Evenly spread over the components, so that none is missing by chance.
    level = (np.arange(PER_EXAMPLE)[:, None] + rng.random((PER_EXAMPLE, len(means)))) / PER_EXAMPLE
    chosen = (level[..., None] > np.cumsum(shares, axis=1)[None, :, :-1]).sum(axis=-1)
    centre, cov = means[examples, chosen], covariances[examples, chosen]
    first = np.sqrt(np.maximum(cov[..., 0, 0], 0.0))
    slope = cov[..., 0, 1] / np.maximum(first, 1e-9)
    second = np.sqrt(np.maximum(cov[..., 1, 1] - slope**2, 0.0))
    a, b = rng.standard_normal((2, *chosen.shape))
    return centre + np.stack([first * a, slope * a + second * b], axis=-1)


def mean_points(found: Estimate, models: int, outlier_rates: list[float], count: int) -> tuple[float, float]:
    """Mean points over examples by `count` redraws, and the sd of its log.

    Pairs are redrawn in proportion to the points they are expected to earn, and the points weighed back.
    """
    rng = np.random.default_rng([ESTIMATE_SEED, models])
    pairs = true_pairs(found, rng)
    expected = gaussian_points(pairs[..., 0], pairs[..., 1], models).ravel()
    chance = expected + GUARD * expected.mean()
    chance /= chance.sum()
    order = np.argsort(expected, kind="stable")
    levels = (np.arange(count) + rng.random()) / count
    picked = order[np.minimum(np.searchsorted(np.cumsum(chance[order]), levels), len(order) - 1)]
    scales = _true_spreads(found)
    points = np.empty(count)
    for k, (draw, example) in enumerate(zip(*np.divmod(picked, pairs.shape[1]))):
        sample = _redraw(found, example, pairs[draw, example], scales[example], models, outlier_rates, rng)
        points[k] = forgetting_points(example_epsilons(*sample), models)[0]
    weighed = points / (chance[picked] * len(chance))
    value = max(float(weighed.mean()), LEAST_RUNS)
    return value, float(weighed.std() / np.sqrt(count) / value)


def _redraw(
    found: Estimate,
    example: int,
    pair: np.ndarray,
    scale: float,
    models: int,
    outlier_rates: list[float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Confidences [2 sides, models, 1] of one example whose true pair is `pair` and retrained spread `scale`."""
    residuals = [found.redrawer.draw(side, example, models, rng, outlier_rates[side]) for side in (0, 1)]
    places = found.retrained.place[example], found.unlearned.place[example]
    end = CONFIDENCE_END if max(np.abs(places)) <= CONFIDENCE_END else np.inf  # scores that are no confidences
    unlearned = places[0] + scale * (pair[0] + np.exp(pair[1]) * residuals[0])
    retrained = places[0] + scale * residuals[1]
    return np.clip([unlearned, retrained], -end, end)[..., None]


def _true_spreads(found: Estimate) -> np.ndarray:
    """Spreads [E] of retrained with the noise taken out: below .4 they matter, the metric's grid not being wide."""
    logs = np.log(found.retrained.spread)[:, None]
    return np.exp(shrink(logs, found.redrawer.noise[1, 1, 1])[0][:, 0])


def models_variance(unlearned: np.ndarray, retrained: np.ndarray, found: Estimate, models: int) -> float:
    """Jackknife variance of the log estimate over groups of models, each left out on both sides."""
    logs = []
    for k in range(GROUPS):
        sides = [read_side(np.delete(side, np.s_[k::GROUPS], axis=0)) for side in (unlearned, retrained)]
        pairs = _unbiased(observed_pairs(*sides), found.redrawer)
        left = 1 - len(unlearned[k::GROUPS]) / len(unlearned)
        logs.append(_refit(found, pairs, found.noise / left, models))
    return _jackknife(logs)


def persons_variance(found: Estimate, persons: np.ndarray, models: int) -> float:
    """Jackknife variance of the log estimate over groups of persons [E], numbered from 0."""
    logs = []
    for k in range(GROUPS):
        kept = persons % GROUPS != k
        if kept.any() and not kept.all():
            logs.append(_refit(found, found.pairs[kept], found.noise[kept], models))
    return _jackknife(logs)


def _refit(found: Estimate, pairs: np.ndarray, noise: np.ndarray, models: int) -> float:
    """Log of the mean Gaussian points over posteriors, the mixture refitted from where it was: cheap to compare."""
    mixture = improve(found.mixture, pairs, noise, WARM_ROUNDS)
    refitted = Estimate(found.unlearned, found.retrained, found.redrawer, pairs, noise, mixture)
    draws = true_pairs(refitted, np.random.default_rng([ESTIMATE_SEED, 1]))
    return float(np.log(gaussian_points(draws[..., 0], draws[..., 1], models).mean()))


def _jackknife(logs: list[float]) -> float:
    return (len(logs) - 1) * float(np.var(logs)) if len(logs) > 1 else 0.0


SMALLEST = 24  # models a side; below, simulated errors exceed a factor of 1.5
FEWEST_EXAMPLES = 10  # below, noise and differences between examples cannot be told apart
REDRAWS = 800  # examples scored at the target N; noise of 2 to 10 %, for about a second
OUTLIER_REDRAWS = 300  # at either end of the outlier rate's interval
MODEL_ERROR = 0.08  # sd of log(estimate / truth) that simulated families show beyond sampling
SHAPE_ERROR = 0.25  # the same, added where the two sides differ in shape
FLAT_ERROR = 6.0  # the same at SMALLEST models, added per L-kurtosis below the normal's: hard edges and second peaks
NORMAL_90 = 1.645


class ProjectionError(InputError):
    """These confidences cannot be projected; the message says why in one sentence."""


@dataclass(frozen=True)
class Projection:
    """The score expected at N = `models`, and the ends of its 90 % interval."""

    value: float
    low: float
    high: float
    models: int

    def __str__(self) -> str:
        return (
            f"forgetting quality {self.value:.4f} at N = {self.models}, projected\n"
            f"90 % interval {self.low:.4f} to {self.high:.4f}"
        )

    def _repr_html_(self) -> str:
        return in_notebook(str(self))


def project(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    models: int = 512,
    persons: np.ndarray | None = None,
    *,
    order: str | None = None,
) -> Projection:
    """Estimate the official score at `models` unlearned and retrained models from fewer of both.

    Args:
        unlearned, retrained: [N, E] logit-scaled confidences, N >= 24; of retrained models there may be more or fewer.
        models: N of the score wanted, above the N given; 512 is the official one.
        persons: [E] labels of examples that vary together (frames of one person); default: each on its own.
        order: of the axes, as in `forgetting_quality`.
    Raises:
        MetricError: shapes or values cannot be scored at any N.
        ProjectionError: they can, but not projected.
    """
    given = confidences_given({"unlearned": unlearned, "retrained": retrained}, order, persons)
    return projection_of(*given, models, persons)


def projection_of(
    unlearned: np.ndarray, retrained: np.ndarray, models: int, persons: np.ndarray | None = None
) -> Projection:
    """`project` of confidences that are known to be [N, E]."""
    unlearned, retrained = checked_pair(unlearned, retrained, same_count=False)
    persons = _clusters(persons, unlearned.shape[1])
    _refuse(unlearned, retrained, models)
    found = estimate(unlearned, retrained, len(np.unique(persons)))
    value, error = mean_points(found, models, found.outlier_rates(), REDRAWS)
    variance = MODEL_ERROR**2 + (SHAPE_ERROR * (1 - found.redrawer.alike)) ** 2 + error**2
    flat = max(flatness(found.unlearned), flatness(found.retrained))
    variance += (FLAT_ERROR * flat) ** 2 * SMALLEST / min(len(unlearned), len(retrained))
    variance += models_variance(unlearned, retrained, found, models) + persons_variance(found, persons, models)
    reach = NORMAL_90 * np.sqrt(variance)
    down, up = (np.hypot(reach, shift) for shift in _outlier_reach(found, value, models))
    return Projection(value, float(value * np.exp(-down)), float(min(1.0, value * np.exp(up))), models)


def _clusters(persons: np.ndarray | None, examples: int) -> np.ndarray:
    """Numbers of the persons, [E]."""
    found = np.arange(examples) if persons is None else as_persons(persons, examples)
    if found is None:
        raise ProjectionError(
            f"persons must be one label for each of {examples} examples, got shape {np.shape(persons)}."
        )
    return found


def _refuse(unlearned: np.ndarray, retrained: np.ndarray, models: int) -> None:
    """Raise ProjectionError where there is nothing to project from."""
    count, examples = min(len(unlearned), len(retrained)), unlearned.shape[1]
    if count < SMALLEST:
        raise ProjectionError(f"{count} models a side are too few to project from: give at least {SMALLEST}.")
    if models <= count:
        raise ProjectionError(f"{count} models a side already give the score at {models}: score {models} of them.")
    if examples < FEWEST_EXAMPLES:
        raise ProjectionError(f"{examples} examples are too few to project from: give at least {FEWEST_EXAMPLES}.")
    for name, values in (("unlearned", unlearned), ("retrained", retrained)):
        constant = np.flatnonzero(np.ptp(values, axis=0) == 0)
        if constant.size:
            raise ProjectionError(f"All {name} models agree on example {constant[0]}: its spread cannot be estimated.")
    if distinguished(unlearned, retrained).all():
        raise ProjectionError("Every example is told apart without error, so how far apart they are is not seen.")


def distinguished(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """Whether no value of one sample lies within the range of the other, bool [E]: epsilon is then at its cap."""
    inside = [
        ((one >= other.min(axis=0)) & (one <= other.max(axis=0))).any(axis=0)
        for one, other in ((unlearned, retrained), (retrained, unlearned))
    ]
    return ~(inside[0] & inside[1])


def _outlier_reach(found: Estimate, value: float, models: int) -> tuple[float, float]:
    """How far the log estimate falls, and rises, at the ends of the outlier rates' intervals; 0 if none was seen."""
    if not any(found.outlier_rates()):
        return 0.0, 0.0
    many, few = (mean_points(found, models, found.outlier_rates(chance), OUTLIER_REDRAWS)[0] for chance in (0.95, 0.05))
    return min(0.0, float(np.log(many / value))), max(0.0, float(np.log(few / value)))
