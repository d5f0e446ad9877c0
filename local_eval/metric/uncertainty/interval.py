"""How sure a score is: the forgetting quality that another draw of as many runs and oracles would get.

A score is one draw of N runs against one draw of N oracles. Somebody who grades the same method on the same forget set
again, with other seeds and other oracles, gets another one. The interval holds it in about 90 % of all cases, so it
covers the luck of both gradings, not of one. That luck is drawn again (`redraw.py`): fresh models with the places,
spreads, shapes and correlations that were seen. The interval's length is how far redraws' scores lie apart, on a
square-root scale: there a score near zero has room above it and stops at zero below.

Its centre is not the score itself, which is often a lucky draw: with 72 examples one epsilon below 0.5 is worth .007.
It lies half-way between the mean over all oracles at hand, taken N at a time, and the mean of the redraws, but not far
from the first, since redraws of skewed confidences score up to a sixth too high. A score that lies outside all the same
is taken in: that end is then the score.

Other forget examples are not in it. Their standard error, by person, stands beside it, and `wider` adds it.

How often it holds what it should: python -m studies.intervals
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from local_eval.metric.fast_points import fast_points
from local_eval.metric.given import as_persons, confidences_given
from local_eval.metric.metric import BUCKET, checked_pair, example_epsilons, forgetting_points, warn_of_few
from local_eval.metric.uncertainty.redraw import fit, redrawn_halves, redrawn_points
from local_eval.store.errors import InputError
from local_eval.store.lines import in_notebook

LEVEL = 0.9
DRAWS = 48
FEWEST = 8  # models a side; below, spreads and correlations are not seen
WIDER = 1.12  # what redraws are made from is estimated, too
REAL = 1.12  # real methods' scores scatter more than their redraws: see studies/intervals.md
MOST_GROUPS = 8  # of N oracles each, for the centre
MOST_MOVED = 0.5  # standard deviations of a score, by which the redraws may move the centre
SEED = 90


class IntervalError(InputError):
    """These confidences have a score but no interval; the message says why in one sentence."""


@dataclass(frozen=True)
class ScoreInterval:
    """A forgetting quality, and the ends of the interval that holds another draw's at `level`.

    expected: what another draw is expected to get, the centre; `value` is one draw, and often a lucky one.
    runs, oracles: standard errors, if only the runs, or only the oracles, were drawn again.
    models: the same, if both were.
    persons: standard error from which persons are forgotten, the luck of the models taken out; None with only one.
    wider: `low` and `high` if the other draw has other persons of the same kind as well; None with only one.
    """

    value: float
    expected: float
    low: float
    high: float
    level: float
    runs: float
    oracles: float
    models: float
    persons: float | None
    wider: tuple[float, float] | None

    def __str__(self) -> str:
        lines = [
            f"forgetting quality {self.value:.4f}; another draw of the models is expected to get {self.expected:.4f}",
            f"{100 * self.level:.0f} % interval {self.low:.4f} to {self.high:.4f}",
            f"standard error from the models {self.models:.4f} (runs {self.runs:.4f}, oracles {self.oracles:.4f})",
        ]
        if self.persons is not None and self.wider is not None:
            wider = "{:.4f} to {:.4f}".format(*self.wider)
            lines.append(f"with other persons to forget as well: {wider}; their standard error is {self.persons:.4f}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return in_notebook(str(self))


def score_interval(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    persons: np.ndarray | None = None,
    level: float = LEVEL,
    *,
    order: str | None = None,
) -> ScoreInterval:
    """The forgetting quality of N runs against N oracles, and where that of another draw of both would lie.

    Args:
        unlearned, retrained: [N, E] logit-scaled confidences, N >= 8. The score is that against the first N retrained
            models; if there are more, they make the interval's centre surer.
        persons: [E] labels of examples that vary together (frames of one person); default: each on its own.
        level: share of other draws that the interval is to hold.
        order: of the axes, as in `forgetting_quality`.
    Raises:
        MetricError: shapes or values cannot be scored.
        IntervalError: too few models, a level outside 0 to 1, or persons that do not fit.
    """
    given = confidences_given({"unlearned": unlearned, "retrained": retrained}, order, persons)
    unlearned, retrained = checked_pair(*given, same_count=False)
    models = len(unlearned)
    warn_of_few(models)
    checked_pair(unlearned, retrained[:models])  # which refuses fewer retrained models
    person = numbered(persons, unlearned.shape[1])
    points = forgetting_points(example_epsilons(unlearned, retrained[:models]), models)
    return interval_around(points, unlearned, retrained, person, level)


def interval_around(
    points: np.ndarray, unlearned: np.ndarray, retrained: np.ndarray, person: np.ndarray, level: float = LEVEL
) -> ScoreInterval:
    """`score_interval` of confidences [N, E] whose points [E] are known; person [E] is numbered from 0.

    Args:
        points: those of the runs against the first N of retrained [M, E].
    """
    models, examples = unlearned.shape
    _refuse(models, level)
    value = float(points.mean())
    (method,), oracles = fit([unlearned], retrained, person)
    first, crossed = redrawn_points(method, oracles, DRAWS, [SEED, models], models)
    means, mixed = first.mean(axis=1), crossed.mean(axis=1)
    seen, most = against_all(value, unlearned, retrained), MOST_MOVED * float(means.std(ddof=1))
    expected = seen + float(np.clip((means.mean() - seen) / 2, -most, most))
    reach = REAL * spread_of_differences(means, level)
    low, high = around(expected, reach, least_step(models, examples, level))
    low, high = min(low, value), max(high, value)
    own_luck = float(np.sum(first.var(axis=0))) / examples**2
    persons = persons_error(points, person, own_luck)
    wider = None if persons is None else _wider(value, low, high, ndtri((1 + level) / 2) * np.sqrt(2) * persons)
    return ScoreInterval(
        value=value,
        expected=expected,
        low=low,
        high=high,
        level=level,
        runs=_half_mean_square(np.roll(means, -1), mixed),
        oracles=_half_mean_square(means, mixed),
        models=float(means.std(ddof=1)),
        persons=persons,
        wider=wider,
    )


def against_all(value: float, unlearned: np.ndarray, retrained: np.ndarray) -> float:
    """The mean forgetting quality of N runs [N, E] against groups of N of the oracles [M, E], evenly spaced.

    Args:
        value: that against the first N.
    """
    models = len(unlearned)
    groups = min(-(-len(retrained) // models), MOST_GROUPS)
    starts = np.linspace(0, len(retrained) - models, groups).round().astype(int)[1:]
    others = [float(fast_points(unlearned.T, retrained[k : k + models].T).mean()) for k in starts]
    return float(np.mean([value, *others]))


def ceiling_interval(
    value: float, pool: np.ndarray, person: np.ndarray, half: int, splits: int, level: float = LEVEL
) -> tuple[float, float]:
    """Where the ceiling `value`, a mean over `splits` ways to halve the oracles [M, E], would lie with other oracles.

    Args:
        person: [E] numbered from 0.
        half: models a side of the ceiling, at most M / 2.
    """
    one, other = redrawn_halves(pool, person, half, DRAWS, [SEED, half])
    together = np.sqrt(one.mean(axis=1)), np.sqrt(other.mean(axis=1))
    variance = float(np.mean([np.var(roots, ddof=1) for roots in together]))
    common = float(np.clip(np.cov(*together)[0, 1], 0.0, variance))  # what all splits of one pool share
    reach = WIDER * ndtri((1 + level) / 2) * np.sqrt(2 * (common + (variance - common) / splits))
    return around(value, float(reach), least_step(half, pool.shape[1], level))


def numbered(persons: np.ndarray | None, examples: int) -> np.ndarray:
    """Numbers of the persons from 0, [E]; without persons every example is one of its own. Raises IntervalError."""
    found = np.arange(examples) if persons is None else as_persons(persons, examples)
    if found is None:
        raise IntervalError(
            f"persons must be one label for each of {examples} examples, got shape {np.shape(persons)}."
        )
    return found


def spread_of_differences(means: np.ndarray, level: float) -> float:
    """How far the square roots of two redraws' scores [B] are apart at most, in a share `level` of all pairs."""
    roots = np.sqrt(means)
    return WIDER * float(np.quantile(np.abs(roots[:, None] - roots)[np.triu_indices(len(roots), 1)], level))


def around(value: float, reach: float, least: float) -> tuple[float, float]:
    """The interval of `reach` on the square-root scale and at least `least` on the plain one, within 0 to 1."""
    root = np.sqrt(value)
    low, high = max(root - reach, 0.0) ** 2, (root + reach) ** 2
    return float(max(min(low, value - least), 0.0)), float(min(max(high, value + least), 1.0))


def least_step(models: int, examples: int, level: float) -> float:
    """No interval is narrower to one side: what has shown on none of E examples can be true of a share of others.

    The share is the one that stays unseen with probability 1 - level. It counts with the least points there are.
    """
    buckets = int(np.ceil(np.log(models - 1)) / BUCKET)
    return float((1 - (1 - level) ** (1 / examples)) * 0.5 ** (buckets - 1))


def persons_error(points: np.ndarray, person: np.ndarray, own_luck: float = 0.0) -> float | None:
    """Standard error of the mean of points [E] from the choice of persons; None if there is only one.

    Args:
        person: [E] numbered from 0.
        own_luck: variance of that mean from the luck of the models, on which persons have no bearing.
    """
    count = int(person.max()) + 1
    if count < 2:
        return None
    sums = np.bincount(person, weights=points - points.mean())
    variance = count / (count - 1) * float(np.sum(sums**2)) / len(points) ** 2
    return float(np.sqrt(max(variance - own_luck, 0.0)))


def _refuse(models: int, level: float) -> None:
    if models < FEWEST:
        raise IntervalError(f"{models} models a side are too few for an interval: give at least {FEWEST}.")
    if not 0 < level < 1:
        raise IntervalError(f"level {level:g} is no share of draws: give one between 0 and 1, such as 0.9.")


def _half_mean_square(one: np.ndarray, other: np.ndarray) -> float:
    """Standard error, from pairs of redraws [B] that differ in what is drawn again."""
    return float(np.sqrt(np.mean((one - other) ** 2) / 2))


def _wider(value: float, low: float, high: float, more: float) -> tuple[float, float]:
    return max(value - float(np.hypot(value - low, more)), 0.0), min(value + float(np.hypot(high - value, more)), 1.0)
