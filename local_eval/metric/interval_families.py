"""Simulated methods for the study of intervals, other than those that the intervals were tuned on.

As in `projection_families.py`, a family draws (unlearned, retrained) confidences [N, E] each, and an example's true
shift, ratio and loadings depend on its number alone: another draw is another grading of the same method on the same
forget set. A case adds the labels of persons that go with it, or None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from local_eval.metric.projection_families import Draw, Family, correlated, family, split, spread_over, strays, student


@dataclass(frozen=True)
class Case:
    """A family, and who is on its E examples."""

    family: Family
    persons: Callable[[int], np.ndarray] | None = None


def factors(share: float, count: int, seed: int = 31) -> Draw:
    """Residuals of which `count` factors explain `share` of the variance, with loadings of either sign."""

    def residuals(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        loadings = np.random.default_rng(seed).standard_normal((count, size[1]))
        loadings *= np.sqrt(share) / np.maximum(np.sqrt(np.sum(loadings**2, axis=0)), 1e-9)
        common = rng.standard_normal((size[0], count)) @ loadings
        return common + np.sqrt(1 - share) * rng.standard_normal(size)

    return residuals


def lognormal(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Log-normal with sigma 0.5, standardised: skewness 1.75."""
    values = np.exp(0.5 * rng.standard_normal(size))
    variance = np.exp(0.25) * (np.exp(0.25) - 1)
    return (values - np.exp(0.125)) / np.sqrt(variance)


def unequal(examples: int) -> np.ndarray:
    """Persons of which each next one has two thirds as many examples, down to one; [E]."""
    sizes = np.maximum((examples / 3 * (2 / 3) ** np.arange(examples)).astype(int), 1)
    return np.repeat(np.arange(examples), sizes)[:examples]


def few(count: int) -> Callable[[int], np.ndarray]:
    """`count` persons of equal sizes."""
    return lambda examples: np.arange(examples) * count // examples


def by_person(share: float, shift: float, persons: Callable[[int], np.ndarray]) -> Family:
    """Examples of a person share `share` of the variance of their residuals in every model."""

    def residuals(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        person = persons(size[1])
        common = rng.standard_normal((size[0], person.max() + 1))[:, person]
        return np.sqrt(share) * common + np.sqrt(1 - share) * rng.standard_normal(size)

    return family(shift, unlearned=residuals, retrained=residuals)


CASES: dict[str, Case] = {
    "perfect, wide": Case(family(spread=3.0)),
    "perfect, spread .3": Case(family(spread=0.3)),
    "good: shifts of sd .4": Case(family(spread_over(0, 0.4))),
    "starter: shift .6": Case(family(0.6)),
    "like digits: shifts, half as wide, 3 factors": Case(
        family(spread_over(0.5, 0.6), 0.5, unlearned=factors(0.3, 3), retrained=factors(0.3, 3))
    ),
    "bad: shift 4": Case(family(4.0)),
    "told apart: shift 9": Case(family(9.0)),
    "too wide: 1.8": Case(family(0.0, 1.8)),
    "too narrow: .6": Case(family(0.0, 0.6)),
    "30 % perfect, 70 % shift 1.5": Case(family(split(0.0, 1.5, 0.3))),
    "log-normal unlearned, .3, .8": Case(family(0.3, 0.8, unlearned=lognormal)),
    "log-normal, both": Case(family(0.4, unlearned=lognormal, retrained=lognormal)),
    "t4, both, shift .5": Case(family(0.5, unlearned=student(4), retrained=student(4))),
    "3 % stray runs, 6 sd": Case(strays(0.03, 6.0, True)),
    "10 % stray runs, 5 sd": Case(strays(0.1, 5.0, True)),
    "one factor .15, shift .6": Case(correlated(0.15, 0.6, None)),
    "one factor .05, shift 1": Case(correlated(0.05, 1.0, None)),
    "one factor .5, perfect": Case(correlated(0.5, 0.0, None)),
    "2 factors .4, shift .3": Case(family(0.3, unlearned=factors(0.4, 2), retrained=factors(0.4, 2))),
    "5 factors .6, too wide": Case(family(0.0, 1.5, unlearned=factors(0.6, 5), retrained=factors(0.6, 5))),
    "unequal persons .6, shift .3": Case(by_person(0.6, 0.3, unequal), unequal),
    "3 persons .5, shift .5": Case(by_person(0.5, 0.5, few(3)), few(3)),
    "one person .3, perfect": Case(by_person(0.3, 0.0, few(1)), few(1)),
}
