"""Fresh models of one side: confidences that another draw of the same runs, or oracles, could have shown.

Every forget example has a place and a spread. What is left of its N confidences is explained, in this order, by

* runs that went astray, which are set apart and come back at an uncertain rate,
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

from local_eval.metric.projection_shapes import STRAY_SHARE

FACTORS = 8  # at most, beside those along a direction
FOLLOWED = 2  # of these
EDGE = 1.1  # times what independent examples would show at most: they exceed it by chance now and then
STRAY_REACH = 3.6  # sd, by quartiles: a common factor alone seldom gets so far
QUARTILES = 1.349  # sd of a normal distribution between its quartiles
OWN_LEAST = 0.05  # share of its variance that every example keeps for itself
LEAST = 1e-12  # keeps divisions by a spread finite


@dataclass(frozen=True)
class Picks:
    """Random numbers of one redraw, to be shared by whatever shall vary together: the same picks, the same models."""

    cells: np.ndarray  # [N, E] in [0, 1): residuals of one example
    persons: np.ndarray  # [N, P] the same: what a person's examples share
    runs: np.ndarray  # [N] whose factors
    astray: np.ndarray  # [N] below the stray rate: astray
    blur: np.ndarray  # [N, FACTORS + FOLLOWED] normal
    rate: float  # quantile of the stray rate

    @classmethod
    def draw(cls, rng: np.random.Generator, models: int, examples: int, persons: int) -> Picks:
        """Picks for `models` models."""
        uniform = [rng.random((models, size), dtype=np.float32) for size in (examples, persons)]
        lone = rng.random((2, models)), rng.standard_normal((models, FACTORS + FOLLOWED)), rng.random()
        return cls(*uniform, *lone[0], *lone[1:])

    def astray_anew(self, rng: np.random.Generator) -> Picks:
        """The same but for which runs go astray: methods with the same seeds need not do so in the same runs."""
        return replace(self, astray=rng.random(len(self.astray)), rate=rng.random())


class Side:
    """What one side's confidences [N, E] show, and fresh draws of it.

    place, spread [E]; factors [n, K] and loadings [K, E] of the n models that are not astray; strays [k, E] residuals
    of the others.
    """

    def __init__(self, values: np.ndarray, person: np.ndarray):
        astray = find_strays(values)
        self.models, self.person = len(values), person
        kept = values[~astray]
        self.place, self.spread = kept.mean(axis=0), np.maximum(kept.std(axis=0, ddof=1), LEAST)
        self.strays = (values[astray] - self.place) / self.spread
        self.seen = float(len(self.strays))  # of `models`
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
        return self._with_strays(values, picks)

    def _from_pool(self, uniform: np.ndarray) -> np.ndarray:
        return self.pool[np.minimum((uniform * len(self.pool)).astype(np.int64), len(self.pool) - 1)]

    def _with_strays(self, values: np.ndarray, picks: Picks) -> np.ndarray:
        if self.seen:
            rate = betaincinv(self.seen + 0.5, self.models - self.seen + 0.5, picks.rate)  # Jeffreys' posterior
            for model in np.flatnonzero(picks.astray < rate):
                which = int(picks.astray[model] / rate * len(self.strays))
                values[model] = self.strays[which] + 0.5 * values[model]  # near it, not on it: no ties
        return values


def pool_strays(sides: Sequence[Side]) -> None:
    """Let sides go astray at the same rate: whether one does so more often than another, few runs do not tell."""
    together = np.concatenate([side.strays for side in sides])
    for side in sides:
        side.strays, side.seen = together, len(together) / len(sides)


def find_strays(values: np.ndarray) -> np.ndarray:
    """Which models [N] are far off on many examples; none if it would be half of them."""
    low, place, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)  # not moved by a fifth of the runs
    off = np.abs(values - place) > STRAY_REACH * np.maximum(high - low, LEAST) / QUARTILES
    astray = off.mean(axis=1) > STRAY_SHARE
    return astray if astray.mean() < 0.5 else np.zeros(len(values), dtype=bool)


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
