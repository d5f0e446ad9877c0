"""Is one method better than another, or can these runs not tell?

Both were graded with the same oracles on the same examples, so most of the luck is the same for both. What is left is
drawn again (`redraw.py`): in each redraw both methods meet the same fresh oracles, and what their runs share stays
shared. The scores' difference is held against how much that makes it vary, on the square-root scale of `interval.py`.

p is the probability that two methods whose expected scores are equal differ as much as these or more. 'better' and
'worse' are said if p < 1 - level: of methods that are equal, one in ten is told apart wrongly at level 0.9.

If nothing can be told, `enough` is the N at which it could: with the differences that the models show, freed of their
noise, redraws at that N would be told apart in 80 % of all cases. It is None if even 512 are not enough, which is so if
there is no difference.

How often it errs: python -m studies.paired
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from local_eval.metric.given import confidences_given
from local_eval.metric.metric import checked_pair, example_epsilons, forgetting_points, warn_of_few
from local_eval.metric.uncertainty.interval import LEVEL, SEED, WIDER, numbered
from local_eval.metric.uncertainty.redraw import fit, pool_outliers, redrawn_pairs
from local_eval.store.lines import in_notebook

DRAWS = 64
LARGER = (128, 256, 512)  # N that are tried for `enough`
LARGER_DRAWS = 24
POWER = 0.8


@dataclass(frozen=True)
class Comparison:
    """What can be said of a first method beside a second.

    difference: of the scores, the first's less the second's.
    error: standard error of the difference of their square roots.
    needed: how far the first must fall, or rise, from the second's score to be told apart: two scores.
    enough: the least larger N at which it could be told, None if not even 512 would do.
    looked_ahead: whether `enough` was looked for.
    """

    verdict: str  # better, worse, cannot tell
    p: float
    level: float
    difference: float
    error: float
    needed: tuple[float, float]
    models: int
    enough: int | None
    looked_ahead: bool = True

    def __str__(self) -> str:
        first, second = "the first method", "the second"
        head = f"{first} is {self.verdict} than {second}"
        p = f"p = {self.p:.3f}" if self.p >= 0.001 else "p < 0.001"
        below, above = self.needed
        lines = [
            f"{head if self.verdict != 'cannot tell' else f'cannot tell {first} from {second}'} at N = {self.models}",
            f"difference of the scores {self.difference:+.4f}; {p}: how often equal methods differ so much",
            f"told apart if the first scores below {below:.4f} or above {above:.4f}, at level {100 * self.level:.0f} %",
        ]
        return "\n".join([*lines, *([self._outlook()] if self._outlook() else [])])

    def _outlook(self) -> str:
        """What more models would do; empty where they need not or nobody has looked."""
        if self.verdict != "cannot tell" or not self.looked_ahead:
            return ""
        told = f"N = {self.enough} would tell" if self.enough else f"N = {LARGER[-1]} would not tell either"
        return f"If it is as it seems, {told}."

    def _repr_html_(self) -> str:
        return in_notebook(str(self))

    def in_words(self, first: str, second: str) -> str:
        """A sentence or two."""
        p = f"p = {self.p:.3f}" if self.p >= 0.001 else "p < 0.001"
        what = f"difference {self.difference:+.4f}; {p}: how often equal methods differ so much"
        if self.verdict != "cannot tell":
            return f"{first} is {self.verdict} than {second} at N = {self.models} ({what})."
        return f"cannot tell {first} from {second} at N = {self.models} ({what}). {self._outlook()}".rstrip()


def compare_methods(
    first: np.ndarray,
    second: np.ndarray,
    retrained: np.ndarray,
    persons: np.ndarray | None = None,
    utilities: tuple[float, float] = (1.0, 1.0),
    level: float = LEVEL,
    ahead: bool = True,
    *,
    order: str | None = None,
) -> Comparison:
    """Hold two methods' scores against each other.

    Args:
        first, second: [N, E] confidences of either method's runs, made with the same seeds.
        retrained: [N, E] those of the oracles.
        persons: [E] as in `score_interval`.
        utilities: what forgetting quality is multiplied by, for either method.
        ahead: whether to look for `enough`, which takes seconds.
        order: of the axes, as in `forgetting_quality`.
    Raises:
        MetricError: shapes or values cannot be scored.
        IntervalError: persons that do not fit.
    """
    given = confidences_given({"first": first, "second": second, "retrained": retrained}, order, persons)
    warn_of_few(len(given[0]))
    return comparison_of(*given, persons, utilities, level, ahead)


def comparison_of(
    first: np.ndarray,
    second: np.ndarray,
    retrained: np.ndarray,
    persons: np.ndarray | None = None,
    utilities: tuple[float, float] = (1.0, 1.0),
    level: float = LEVEL,
    ahead: bool = True,
) -> Comparison:
    """`compare_methods` of confidences that are known to be [N, E]."""
    pairs = [checked_pair(one, retrained) for one in (first, second)]
    person = numbered(persons, pairs[0][1].shape[1])
    models = len(retrained)
    values = [float(forgetting_points(example_epsilons(*pair), models).mean()) for pair in pairs]
    scores = np.array(values) * utilities
    methods, oracles = fit([one for one, _ in pairs], pairs[0][1], person)
    pool_outliers([method.side for method in methods])
    _, error = _difference(methods, oracles, utilities, models, DRAWS)
    off = float(np.diff(np.sqrt(scores))[0])
    p = _chance(off, error)
    reported = p < 1 - level
    return Comparison(
        verdict=("better" if off < 0 else "worse") if reported else "cannot tell",
        p=p,
        level=level,
        difference=float(scores[0] - scores[1]),
        error=error,
        needed=distinguished_from(float(scores[1]), error, level),
        models=models,
        enough=enough_models(methods, oracles, utilities, models, level) if ahead and not reported else None,
        looked_ahead=ahead,
    )


def distinguished_from(score: float, error: float, level: float = LEVEL) -> tuple[float, float]:
    """The scores below and above `score` from which on another method is told apart."""
    reach = float(ndtri((1 + level) / 2)) * error
    return max(np.sqrt(score) - reach, 0.0) ** 2, (np.sqrt(score) + reach) ** 2


def enough_models(methods, oracles, utilities: tuple[float, float], models: int, level: float = LEVEL) -> int | None:
    """The least larger N at which redraws would be told apart in 80 % of all cases, or None."""
    for larger in LARGER:
        if larger > models:
            off, error = _difference(methods, oracles, utilities, larger, LARGER_DRAWS)
            if error > 0 and ndtr(abs(off) / error - ndtri((1 + level) / 2)) >= POWER:
                return larger
    return None


def _difference(methods, oracles, utilities: tuple[float, float], models: int, draws: int) -> tuple[float, float]:
    """Mean and standard error of the difference of the square roots of two scores, over redraws at N = `models`."""
    points = redrawn_pairs(methods, oracles, draws, [SEED, models, 2], models)
    roots = [np.sqrt(utility * each.mean(axis=1)) for utility, each in zip(utilities, points)]
    off = roots[1] - roots[0]
    centred = np.abs(off - off.mean())
    # Heavy tails, such as outlier runs make, count by what they do at the level at which verdicts are given
    error = max(float(off.std(ddof=1)), float(np.quantile(centred, LEVEL) / ndtri((1 + LEVEL) / 2)))
    return float(off.mean()), WIDER * error


def _chance(off: float, error: float) -> float:
    """Two-sided p of a difference `off`; 1 where nothing differs and nothing varies."""
    if error == 0:
        return 0.0 if off else 1.0
    return float(2 * ndtr(-abs(off) / error))
