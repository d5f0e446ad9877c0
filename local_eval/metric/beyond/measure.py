"""One line of the second table: a value, what perfect unlearning gets at this N, and how far that is, in words.

How it is used: `against_chance(kind, ours, theirs, pairs)` by the families of measures beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from local_eval.metric.beyond.looks import Looks, Pair

LEVEL = 0.95  # of perfect gradings at this N lie between `low` and `high`
PERFECT, SLIGHT, CLEAR, FAR, BETTER = "as perfect", "slightly off", "clearly off", "far off", "better than perfect"


@dataclass(frozen=True)
class Kind:
    """What is measured, apart from any models."""

    key: str  # for programs
    name: str  # for people
    worse: int  # 1: larger is worse; -1: smaller is worse; 0: any difference is
    slight: float  # a difference from perfect below this is slight: a shift of 0.3 sd makes it where all else is equal
    clear: float  # one above this is large: a shift of 1 sd makes it
    meaning: str  # what good looks like, in a sentence


@dataclass(frozen=True)
class Measure:
    """One measure of one grading. docs/glossary.md has formula, source and weakness of each."""

    key: str
    name: str
    value: float
    perfect: float  # what perfect unlearning gets at this N
    low: float  # of perfect gradings at this N, 95 % lie from here
    high: float  # to here
    words: str  # how far the value is from perfect
    meaning: str


Function = Callable[[Looks, Looks], float]


def against_chance(kind: Kind, measure: Function, ours: Looks, theirs: Looks, pairs: Sequence[Pair]) -> Measure:
    """Measure these two sides, and beside them pairs that are perfect."""
    return judged(kind, measure(ours, theirs), np.array([measure(*pair) for pair in pairs]))


def judged(kind: Kind, value: float, perfect: np.ndarray) -> Measure:
    """The measure with its words, from values [n >= 2] of perfect gradings."""
    count, middle = len(perfect), float(perfect.mean())
    reach = stdtrit(count - 1, (1 + LEVEL) / 2) * float(perfect.std(ddof=1)) * np.sqrt(1 + 1 / count)
    low, high = float(middle - reach), float(middle + reach)
    words = in_words(kind, value - middle, inside=low <= value <= high)
    return Measure(kind.key, kind.name, float(value), middle, low, high, words, kind.meaning)


def in_words(kind: Kind, off: float, inside: bool) -> str:
    """How far a value that differs by `off` is from perfect; `inside` the noise of perfect gradings it is not."""
    if inside:
        return PERFECT
    if kind.worse * off < 0:
        return BETTER
    return SLIGHT if abs(off) < kind.slight else CLEAR if abs(off) < kind.clear else FAR
