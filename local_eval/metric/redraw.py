"""Fresh draws of a whole grading: N unlearned and N retrained models, and the points they would earn.

The true shift and spread ratio of an example are the seen ones with their noise taken out, as else it would be in the
redraws twice. What the models look like otherwise is `redraw_side.py`'s. Points are `quick_points`.
"""

from __future__ import annotations

import numpy as np

from local_eval.metric.projection_table import gaussian_points
from local_eval.metric.quick_points import quick_points
from local_eval.metric.redraw_side import LEAST, Picks, Side

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
    return tuple(_points([method.draw(one.astray_anew(rng)).T for one in picks], theirs) for method in methods)


def _picker(oracles: Side, rng: np.random.Generator, models: int):
    examples, persons = len(oracles.place), int(oracles.person.max()) + 1
    return lambda: Picks.draw(rng, models, examples, persons)


def _points(runs: list[np.ndarray], oracles: list[np.ndarray]) -> np.ndarray:
    """Points [draws, E] of sides [E, N] each; many together, since a call for a few takes as long."""
    size = max(1, TOGETHER // runs[0].size)
    parts = [
        quick_points(np.concatenate(runs[k : k + size]), np.concatenate(oracles[k : k + size]))
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
