"""Fresh draws of a whole grading, N unlearned and N retrained models, and the points they would earn.

Every forget example has a place and a spread. What is left of its N confidences is explained, in this order, by

* outlier runs, which are set apart and come back at an uncertain rate,
* a few factors that many examples share, since they share the models: the leading singular vectors above what
  independent examples would show (Marchenko and Pastur 1967), with their strength freed of noise (Baik and Silverstein
  2006), and one more along the direction in which the score reacts,
* what the examples of one person share,
* what is the example's own.

Redraws take the factors from a smoothed sample of the seen ones, the rest from residuals pooled over examples. No model
is taken whole: copies of models make spurious runs in the sorted confidences and bias a score low by 15 to 45 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import betaincinv

from local_eval.metric.fast_points import fast_points
from local_eval.metric.uncertainty.projection import gaussian_points
from local_eval.metric.uncertainty.sides import outlier_runs

FACTORS = 8  # at most, beside those along a direction
FOLLOWED = 2  # of these
EDGE = 1.1  # times what independent examples would show at most: they exceed it by chance now and then
OWN_LEAST = 0.05  # share of its variance that every example keeps for itself
LEAST = 1e-12  # keeps divisions by a spread finite


@dataclass(frozen=True)
class Picks:
    """Random numbers of one redraw, to be shared by whatever shall vary together: the same picks, the same models."""

    cells: np.ndarray  # [N, E] in [0, 1): residuals of one example
    persons: np.ndarray  # [N, P] the same: what a person's examples share
    runs: np.ndarray  # [N] whose factors
    chance: np.ndarray  # [N] below the outlier rate: an outlier
    blur: np.ndarray  # [N, FACTORS + FOLLOWED] normal
    rate: float  # quantile of the outlier rate

    @classmethod
    def draw(cls, rng: np.random.Generator, models: int, examples: int, persons: int) -> Picks:
        """Picks for `models` models."""
        uniform = [rng.random((models, size), dtype=np.float32) for size in (examples, persons)]
        lone = rng.random((2, models)), rng.standard_normal((models, FACTORS + FOLLOWED)), rng.random()
        return cls(*uniform, *lone[0], *lone[1:])

    def outliers_anew(self, rng: np.random.Generator) -> Picks:
        """The same but for which runs are outliers: those of methods with the same seeds need not be the same runs."""
        return replace(self, chance=rng.random(len(self.chance)), rate=rng.random())


class Side:
    """What one side's confidences [N, E] show, and fresh draws of it.

    place, spread [E]; factors [n, K] and loadings [K, E] of the n models that are not outliers; outliers [k, E]:
    residuals of the other k.
    """

    def __init__(self, values: np.ndarray, person: np.ndarray):
        is_outlier = outlier_runs(values)
        self.models, self.person = len(values), person
        kept = values[~is_outlier]
        self.place, self.spread = kept.mean(axis=0), np.maximum(kept.std(axis=0, ddof=1), LEAST)
        self.outliers = (values[is_outlier] - self.place) / self.spread
        self.seen = float(len(self.outliers))  # of `models`
        left = (kept - self.place) / self.spread
        self.tail = float(np.mean(left**4)) - 1 if left.any() else 2.0  # variance of squared residuals
        self.factors, self.loadings, self.left = leading_factors(left)

    def follow(self, direction: np.ndarray) -> None:
        """Add the factor along `direction` [E]: without it a weak one that all examples share would not be seen."""
        along = self.left @ direction
        own, seen = float(np.sum(direction**2 * self.left.var(axis=0))), float(along.var())
        if seen <= own or len(self.left) < 2:
            return
        scores = (along - along.mean()) / np.sqrt(seen)
        loading = scores @ self.left / len(scores)
        self.left = self.left - np.outer(scores, loading)
        self.factors = np.column_stack([self.factors, scores])
        self.loadings = np.vstack([self.loadings, loading * np.sqrt(1 - own / seen)])

    def settle(self) -> None:
        """Pool what the factors leave; call it after the last `follow`."""
        own = np.maximum(1 - np.sum(self.loadings**2, axis=0), OWN_LEAST)
        self.own = np.sqrt(own).astype(np.float32)
        rest = self.left / np.maximum(self.left.std(axis=0), LEAST)
        self.within = shared_within(rest, self.person)
        self.pool = rest.ravel().astype(np.float32)

    def draw(self, picks: Picks) -> np.ndarray:
        """Standardised confidences [N, E] of fresh models."""
        values = np.sqrt(1 - self.within) * self._from_pool(picks.cells)
        if self.within > 0:
            values += np.sqrt(self.within) * self._from_pool(picks.persons)[:, self.person]
        values *= self.own
        count = self.factors.shape[1]
        if count:
            n = len(self.factors)
            width = 1.06 * n**-0.2  # Silverman's rule
            drawn = self.factors[(picks.runs * n).astype(int)] + width * picks.blur[:, :count]
            values += (drawn / np.sqrt(1 + width**2) @ self.loadings).astype(np.float32)
        return self._with_outliers(values, picks)

    def _from_pool(self, uniform: np.ndarray) -> np.ndarray:
        return self.pool[np.minimum((uniform * len(self.pool)).astype(np.int64), len(self.pool) - 1)]

    def _with_outliers(self, values: np.ndarray, picks: Picks) -> np.ndarray:
        if self.seen:
            rate = betaincinv(self.seen + 0.5, self.models - self.seen + 0.5, picks.rate)  # Jeffreys' posterior
            for model in np.flatnonzero(picks.chance < rate):
                which = int(picks.chance[model] / rate * len(self.outliers))
                values[model] = self.outliers[which] + 0.5 * values[model]  # near it, not on it: no ties
        return values


def pool_outliers(sides: Sequence[Side]) -> None:
    """Let sides have outliers at the same rate: whether one has more than another, few runs do not tell."""
    together = np.concatenate([side.outliers for side in sides])
    for side in sides:
        side.outliers, side.seen = together, len(together) / len(sides)


def leading_factors(residuals: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores [n, K], loadings [K, E] and what is left [n, E] of standardised residuals [n, E]."""
    n, examples = residuals.shape
    aspect = n / examples
    strengths, vectors = np.linalg.eigh(residuals @ residuals.T / examples)
    left, scores, loadings = residuals, [], []
    for strength, vector in list(zip(strengths[::-1], vectors.T[::-1]))[:FACTORS]:
        if strength <= EDGE * (1 + np.sqrt(aspect)) ** 2 * max(left.var(), LEAST):
            break
        scores.append(vector * np.sqrt(n))
        loading = scores[-1] @ residuals / n
        left = left - np.outer(scores[-1], loading)
        middle = strength + 1 - aspect
        true = (middle + np.sqrt(max(middle**2 - 4 * strength, 0.0))) / 2
        loadings.append(loading * np.sqrt(max(true - 1, 0.0) / strength))
    return np.array(scores).reshape(-1, n).T, np.array(loadings).reshape(-1, examples), left


def shared_within(residuals: np.ndarray, person: np.ndarray) -> float:
    """Mean correlation, at least 0, of two examples of one person; residuals [n, E] standardised, person [E] from 0."""
    pairs = float(np.sum(np.bincount(person).astype(float) ** 2) - len(person))
    if not pairs:
        return 0.0
    sums = np.zeros((len(residuals), person.max() + 1))
    np.add.at(sums.T, person, residuals.T)
    return float(np.clip((np.sum(sums**2) - np.sum(residuals**2)) / (len(residuals) * pairs), 0.0, 1 - OWN_LEAST))


# Fresh draws of a whole grading: N unlearned and N retrained models, and the points they would earn.
#
# The true shift and spread ratio of an example are the seen ones with their noise taken out, as else it would be in
# the redraws twice. What the models look like otherwise is in `Side`. Points are `fast_points`.


FLAT = 1e-9  # a spread below this is none: the example has no noise to take out
TOGETHER = 1 << 20  # confidences of a side scored at a time
STEP = 0.1  # in standard deviations, for the slope of the points


class Method:
    """A method's runs beside the oracles: how fresh ones would look.

    Args:
        unlearned: confidences [N, E].
        oracles: what the oracles' confidences show; not settled yet.
    """

    def __init__(self, unlearned: np.ndarray, oracles: Side):
        self.oracles, self.side = oracles, Side(unlearned, oracles.person)
        self.shift, self.log_ratio = true_pairs(self.side, oracles)
        up, down = (gaussian_points(self.shift + step, self.log_ratio, len(unlearned)) for step in (STEP, -STEP))
        self.slope = (up - down) / (2 * STEP)  # [E] how an example's points react to its shift, roughly
        self.side.follow(self.slope * np.exp(self.log_ratio))
        self.side.settle()

    def draw(self, picks: Picks) -> np.ndarray:
        """Confidences [N, E] of fresh runs."""
        residuals = self.shift + np.exp(self.log_ratio) * self.side.draw(picks)
        return self.oracles.place + self.oracles.spread * residuals


def fit(unlearned: list[np.ndarray], retrained: np.ndarray, person: np.ndarray) -> tuple[list[Method], Side]:
    """Methods, from confidences [N, E] each, and the oracles that they share; person [E] numbered from 0."""
    oracles = Side(retrained, person)
    methods = [Method(one, oracles) for one in unlearned]
    for method in methods:
        oracles.follow(method.slope)
    oracles.settle()
    return methods, oracles


def draw_oracles(oracles: Side, picks: Picks) -> np.ndarray:
    """Confidences [N, E] of fresh oracles."""
    return oracles.place + oracles.spread * oracles.draw(picks)


def true_pairs(unlearned: Side, retrained: Side) -> tuple[np.ndarray, np.ndarray]:
    """Shifts, in spreads of retrained, and log spread ratios, [E] each, freed of the noise of few models."""
    shift = (unlearned.place - retrained.place) / retrained.spread
    log_ratio = np.log(unlearned.spread / retrained.spread)
    usable = (unlearned.spread > FLAT) & (retrained.spread > FLAT)
    if usable.sum() < 2:
        return shift, log_ratio
    weights = np.exp(2 * log_ratio[usable].mean()), 1.0
    noise, common = np.zeros(2), np.zeros(2)
    for side, weight in zip((unlearned, retrained), weights):
        together = side.loadings[:, usable] @ side.loadings[:, usable].T / usable.sum()
        mean = np.sum(side.loadings[:, usable].mean(axis=1) ** 2), np.sum(together**2)
        noise += np.array([weight, side.tail / 4]) / side.models
        common += np.array([weight, side.tail / 4]) / side.models * (mean + 1 / usable.sum())
    for values, total, shared in zip((shift, log_ratio), noise, common):
        values[usable] = shrink(values[usable], total, min(shared, total))
    return shift, log_ratio


def shrink(values: np.ndarray, noise: float, shared: float) -> np.ndarray:
    """Values [E] drawn to their mean, and the mean to 0, as far as noise explains them.

    They keep the spread that the true ones have (Louis 1984), which is more than the best guess of each would: a score
    may rest on the few examples that differ least.

    Args:
        noise: variance of the noise of one value.
        shared: the part of it that all values share, the variance of the noise of their mean.
    """
    mean = values.mean()
    true = max(values.var() - (noise - shared), 0.0)
    kept = np.sqrt(true / max(true + noise - shared, LEAST))
    return mean * max(0.0, 1 - shared / max(mean**2, LEAST)) + kept * (values - mean)


def redrawn_points(
    method: Method, oracles: Side, draws: int, seed: list[int], models: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points [draws, E] of fresh runs against fresh oracles of the same number, and against those of the next number.

    So two rows of the first differ in both sides. Row k of the first and of the second share the runs, row k + 1 of the
    first and row k of the second the oracles.
    """
    draw = _picker(oracles, np.random.default_rng(seed), models)
    runs = [method.draw(draw()).T for _ in range(draws)]
    theirs = [draw_oracles(oracles, draw()).T for _ in range(draws)]
    return _points(runs, theirs), _points(runs, theirs[1:] + theirs[:1])


def redrawn_pairs(
    methods: list[Method], oracles: Side, draws: int, seed: list[int], models: int
) -> tuple[np.ndarray, ...]:
    """Points [draws, E] of each method: in every draw they meet the same fresh oracles, and runs share their picks."""
    rng = np.random.default_rng(seed)
    draw = _picker(oracles, rng, models)
    theirs = [draw_oracles(oracles, draw()).T for _ in range(draws)]
    picks = [draw() for _ in range(draws)]
    return tuple(_points([method.draw(one.outliers_anew(rng)).T for one in picks], theirs) for method in methods)


def _picker(oracles: Side, rng: np.random.Generator, models: int):
    examples, persons = len(oracles.place), int(oracles.person.max()) + 1
    return lambda: Picks.draw(rng, models, examples, persons)


def _points(runs: list[np.ndarray], oracles: list[np.ndarray]) -> np.ndarray:
    """Points [draws, E] of sides [E, N] each; many together, since a call for a few takes as long."""
    size = max(1, TOGETHER // runs[0].size)
    parts = [
        fast_points(np.concatenate(runs[k : k + size]), np.concatenate(oracles[k : k + size]))
        for k in range(0, len(runs), size)
    ]
    return np.concatenate(parts).reshape(len(runs), -1)


def redrawn_halves(
    pool: np.ndarray, person: np.ndarray, half: int, draws: int, seed: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Points [draws, E] of two halves of fresh pools of oracles [M, E] against each other, each pool halved twice."""
    side, rng = Side(pool, person), np.random.default_rng(seed)
    side.settle()
    draw, halves = _picker(side, rng, len(pool)), []
    for _ in range(draws):
        fresh = draw_oracles(side, draw())
        for _ in range(2):
            order = rng.permutation(len(pool))
            halves.append((fresh[order[:half]].T, fresh[order[half : 2 * half]].T))
    points = _points([one for one, _ in halves], [other for _, other in halves])
    return points[::2], points[1::2]
