"""From confidences of N models to the true (shift, log spread ratio) of each example, and on to points at a larger N.

The steps are those of `projection.py`, which is the door to all this.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from local_eval.metric.metric import example_epsilons, forgetting_points
from local_eval.metric.projection_mixture import Mixture, fit, improve, posterior
from local_eval.metric.projection_redraw import Redrawer, pair_noise, shrink
from local_eval.metric.projection_shapes import Side, observed_pairs, read_side
from local_eval.metric.projection_table import gaussian_points

PER_EXAMPLE = 8  # true pairs drawn from each example's posterior
GROUPS = 8  # left out in turn, of models and of persons
ROUNDS = 100  # of EM; the log likelihood has settled by then
WARM_ROUNDS = 30  # of EM for a first guess, or after leaving a group out
GUARD = 0.2  # of the mean expected points, added to each pair's: what the Gaussian table takes for lost is drawn too
CONFIDENCE_END = 104.0  # confidences saturate here (see metric.py)
STRAY_PRIOR = (0.7, 20.0)  # of a beta distribution: rates are small; 1 of 64 is read as 1.6 %, 2 as 2.8 %
LEAST = 1e-9  # a score: logarithms stay finite
SEED = 512


@dataclass(frozen=True)
class Estimate:
    """The two sides, how to redraw them, the observed pairs [E, 2], their noise [E, 2, 2], the mixture of true ones."""

    unlearned: Side
    retrained: Side
    redrawer: Redrawer
    pairs: np.ndarray
    noise: np.ndarray
    mixture: Mixture

    def stray_rates(self, chance: float = 0.5) -> list[float]:
        """Rate of stray runs of either side: a quantile of what is believed of it; 0 where none was seen."""
        counts = [(len(side.strays), len(side.residuals)) for side in (self.unlearned, self.retrained)]
        return [float(beta.ppf(chance, k + STRAY_PRIOR[0], n + STRAY_PRIOR[1])) if k else 0.0 for k, n in counts]


def estimate(unlearned: np.ndarray, retrained: np.ndarray, independent: int) -> Estimate:
    """Everything the projection needs, from confidences [N, E] with `independent` persons."""
    sides = read_side(unlearned), read_side(retrained)
    redrawer = Redrawer(*sides)
    pairs = _unbiased(observed_pairs(*sides), redrawer)
    noise = pair_noise(redrawer.noise, pairs)
    mixture = fit(pairs, noise, independent, WARM_ROUNDS)
    # The noise depends on the true pairs: once more with better guesses of these than the observed ones.
    shares, means, _ = posterior(mixture, pairs, noise)
    noise = pair_noise(redrawer.noise, np.einsum("ek,ekd->ed", shares, means))
    return Estimate(*sides, redrawer, pairs, noise, fit(pairs, noise, independent, ROUNDS))


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


def mean_points(found: Estimate, models: int, stray_rates: list[float], count: int) -> tuple[float, float]:
    """Mean points over examples by `count` redraws, and the sd of its log.

    Pairs are redrawn in proportion to the points they are expected to earn, and the points weighed back.
    """
    rng = np.random.default_rng([SEED, models])
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
        sample = _redraw(found, example, pairs[draw, example], scales[example], models, stray_rates, rng)
        points[k] = forgetting_points(example_epsilons(*sample), models)[0]
    weighed = points / (chance[picked] * len(chance))
    value = max(float(weighed.mean()), LEAST)
    return value, float(weighed.std() / np.sqrt(count) / value)


def _redraw(
    found: Estimate,
    example: int,
    pair: np.ndarray,
    scale: float,
    models: int,
    stray_rates: list[float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Confidences [2 sides, models, 1] of one example whose true pair is `pair` and retrained spread `scale`."""
    residuals = [found.redrawer.draw(side, example, models, rng, stray_rates[side]) for side in (0, 1)]
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
    draws = true_pairs(refitted, np.random.default_rng([SEED, 1]))
    return float(np.log(gaussian_points(draws[..., 0], draws[..., 1], models).mean()))


def _jackknife(logs: list[float]) -> float:
    return (len(logs) - 1) * float(np.var(logs)) if len(logs) > 1 else 0.0
