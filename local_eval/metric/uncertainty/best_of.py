"""The best of several settings: which others cannot be told from it, when one is hopeless, what other persons say.

The score of the best of k is flattered: it was chosen for being high, and part of that is luck. So three things here
are stricter than for two methods that somebody named beforehand (`paired.py`). A test against the best asks how often
the best of k equal ones is so far from another of them (Tukey's range test). A setting is given up early only if that
hardly ever happens *and* its score is less than half of the best's, since few models also put settings in another
order than many do. And what the best is worth can be asked of persons that had no part in the choice: `halves`.

How often a setting is given up wrongly: python -m studies.sweep
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri
from scipy.stats import studentized_range

from local_eval.metric.metric import example_epsilons, forgetting_points
from local_eval.metric.uncertainty.interval import LEVEL
from local_eval.metric.uncertainty.paired import Comparison, comparison_of

LOOKS = (16, 64, 256)  # runs after which hopeless settings are given up, where more were asked for
HOPELESS_P = 0.01  # the best of equal settings is so far ahead of another less often
HOPELESS_SHARE = 0.5  # of the best's score
SPLIT = 11  # seed of the halves of persons


@dataclass(frozen=True)
class Candidate:
    """A setting as its runs show it: confidences [N, E], points [E] and what their mean is multiplied by."""

    confidences: np.ndarray
    points: np.ndarray
    utility: float

    @classmethod
    def of(cls, confidences: np.ndarray, retrained: np.ndarray, utility: float) -> Candidate:
        """From confidences [N, E] on both sides. Raises MetricError."""
        points = forgetting_points(example_epsilons(confidences, retrained), len(retrained))
        return cls(confidences, points, utility)

    @property
    def score(self) -> float:
        """The official one, over all examples."""
        return self.utility * float(self.points.mean())

    def score_on(self, which: np.ndarray) -> float:
        """The score of some examples alone, bool [E]."""
        return self.utility * float(self.points[which].mean())


def chance_among(p: float, count: int) -> float:
    """How often the best of `count` equal settings is so far from another of them that two alone differ so much in p.

    Args:
        p: two-sided, of a test of two (paired.py).
    """
    if count < 3 or p <= 0:
        return float(max(p, 0.0))
    return float(np.clip(studentized_range.sf(-np.sqrt(2) * ndtri(p / 2), count, np.inf), p, 1.0))


def best_of(candidates: Mapping[str, Candidate]) -> str:
    """The name of the best; of equal ones the first."""
    return max(candidates, key=lambda name: candidates[name].score)


def beside_the_best(
    candidates: Mapping[str, Candidate], retrained: np.ndarray, persons: np.ndarray, level: float = LEVEL
) -> dict[str, Comparison]:
    """Every other one held against the best; p and verdict allow for its having been chosen from all of them.

    Args:
        retrained: confidences [N, E] that all were graded against.
        persons: [E] as in `score_interval`.
    """
    best = candidates[first := best_of(candidates)]
    found = {}
    for name, one in candidates.items():
        if name == first:
            continue
        sides = one.confidences, best.confidences, retrained, persons, (one.utility, best.utility)
        two = comparison_of(*sides, level=level, ahead=False)
        p = chance_among(two.p, len(candidates))
        found[name] = replace(two, p=p, verdict="worse" if p < 1 - level and two.difference < 0 else "cannot tell")
    return found


def hopeless(candidates: Mapping[str, Candidate], retrained: np.ndarray, persons: np.ndarray) -> dict[str, Comparison]:
    """Those that are given up, by the rule above, with the test against the best."""
    limit = HOPELESS_SHARE * candidates[best := best_of(candidates)].score
    low = [name for name, one in candidates.items() if one.score < limit]
    found = {}
    for name in low:  # the others need no test
        pair = beside_the_best({best: candidates[best], name: candidates[name]}, retrained, persons)
        p = chance_among(pair[name].p, len(candidates))
        if p < HOPELESS_P:
            found[name] = replace(pair[name], p=p, verdict="worse")
    return found


# Half of the persons choose, the other half judge.
#
# Forget examples are attacked one by one, and their points are averaged. So the runs that are there also tell what a
# setting scores on some of the examples: what one half of the persons would have chosen can be judged by the other.


def halves(persons: np.ndarray) -> np.ndarray | None:
    """Which examples are of the first half of the persons, bool [E]; None with one person.

    Persons are taken in a fixed order by their number of examples, each to the half that has fewer.
    """
    known, person = np.unique(persons, return_inverse=True)
    if len(known) < 2:
        return None
    sizes = np.bincount(person)
    shuffled = np.random.default_rng(SPLIT).permutation(len(known))
    filled, first = [0, 0], np.zeros(len(known), dtype=bool)
    for one in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        half = int(filled[1] < filled[0])
        first[one] = half == 0
        filled[half] += sizes[one]
    return first[person]


def chosen_by_halves(candidates: Mapping[str, Candidate], first: np.ndarray) -> tuple[str, str]:
    """The best by the examples of the first half of the persons alone, and by those of the second."""
    return tuple(max(candidates, key=lambda name: candidates[name].score_on(half)) for half in (first, ~first))


def judged_by_the_others(chosen: Sequence[Candidate], first: np.ndarray) -> float:
    """The score over all examples where each half is judged for what the other has chosen.

    Args:
        chosen: what the first half has chosen, and what the second has, graded again.
        first: bool [E] as of `halves`.
    """
    by_first, by_second = chosen
    shares = (~first).mean(), first.mean()
    return float(shares[0] * by_first.score_on(~first) + shares[1] * by_second.score_on(first))
