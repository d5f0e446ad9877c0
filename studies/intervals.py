"""How often an interval holds another draw's forgetting quality, on simulated families of methods, as a table.

For each family, draws of the same method are scored by the official rule, and each is held
against the intervals of all others. The table tells the share that lay inside, the width beside that of the best
interval of fixed width (which knows all draws), the value, and the CPU time of an interval. At the ends of a table the
share over all families.

How to run it (about 0.3 s a draw at N = 64, E = 100), for families with a word in their names or for all:
python -m studies.intervals [N] [E] [draws] [word] ...
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from local_eval.metric.metric import example_epsilons, forgetting_points
from local_eval.metric.uncertainty.interval import LEVEL, interval_around, numbered
from studies.projections import Draw, Family, correlated, family, split, spread_over, student, with_outliers

# Simulated methods for the study of intervals, other than those that the intervals were tuned on.
#
# As in projections.py, a family draws (unlearned, retrained) confidences [N, E] each, and an example's true
# shift, ratio and loadings depend on its number alone: another draw is another grading of the same method on the same
# forget set. A case adds the labels of persons that go with it, or None.


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
    "3 % outlier runs, 6 sd": Case(with_outliers(0.03, 6.0, True)),
    "10 % outlier runs, 5 sd": Case(with_outliers(0.1, 5.0, True)),
    "one factor .15, shift .6": Case(correlated(0.15, 0.6, None)),
    "one factor .05, shift 1": Case(correlated(0.05, 1.0, None)),
    "one factor .5, perfect": Case(correlated(0.5, 0.0, None)),
    "2 factors .4, shift .3": Case(family(0.3, unlearned=factors(0.4, 2), retrained=factors(0.4, 2))),
    "5 factors .6, too wide": Case(family(0.0, 1.5, unlearned=factors(0.6, 5), retrained=factors(0.6, 5))),
    "unequal persons .6, shift .3": Case(by_person(0.6, 0.3, unequal), unequal),
    "3 persons .5, shift .5": Case(by_person(0.5, 0.5, few(3)), few(3)),
    "one person .3, perfect": Case(by_person(0.3, 0.0, few(1)), few(1)),
}


SEED = 17


@dataclass(frozen=True)
class Found:
    """Of one family: mean value, its sd, the share of pairs that were held, relative width, CPU seconds."""

    value: float
    sd: float
    coverage: float
    width: float
    seconds: float


def study(case: Case, models: int, examples: int, draws: int) -> Found:
    """Score `draws` draws, and hold each against the intervals of the others."""
    persons = None if case.persons is None else case.persons(examples)
    person, values, ends, spent = numbered(persons, examples), [], [], 0.0
    for k in range(draws):
        pair = case.family(np.random.default_rng([SEED, k]), models, examples)
        points = forgetting_points(example_epsilons(*pair), models)
        start = time.process_time()
        found = interval_around(points, *pair, person)
        spent += time.process_time() - start
        values.append(found.value)
        ends.append((found.low, found.high))
    values, ends = np.array(values), np.array(ends)
    fixed = 2 * np.quantile(np.abs(values[:, None] - values)[np.triu_indices(draws, 1)], LEVEL)
    width = float(np.mean(ends[:, 1] - ends[:, 0]) / fixed) if fixed else float("nan")
    return Found(float(values.mean()), float(values.std(ddof=1)), held(values, ends), width, spent / draws)


def held(values: np.ndarray, ends: np.ndarray) -> float:
    """Share of ordered pairs of draws in which the interval [D, 2] of the one holds the value [D] of the other."""
    inside = (values >= ends[:, :1]) & (values <= ends[:, 1:])
    others = ~np.eye(len(values), dtype=bool)
    return float(inside[others].mean())


def main(models: int = 64, examples: int = 100, draws: int = 30, parts: Sequence[str] = ("",)) -> None:
    """Print the table, of all families or of those that have one of the `parts` in their names."""
    print(f"N = {models}, E = {examples}, {draws} draws of each family, {draws * (draws - 1)} pairs\n")
    print("| family | value | its sd | held | width | s |\n|---|---|---|---|---|---|")
    rows = []
    for name, case in CASES.items():
        if not any(part in name for part in parts):
            continue
        row = study(case, models, examples, draws)
        rows.append(row)
        print(
            f"| {name} | {row.value:.4f} | {row.sd:.4f} | {row.coverage:.2f} | {row.width:.2f} | {row.seconds:.2f} |",
            flush=True,
        )
    shares, widths = [row.coverage for row in rows], [row.width for row in rows]
    print(f"| **all** | | | {np.mean(shares):.3f}, least {min(shares):.2f} | {np.nanmedian(widths):.2f} | |")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:4]), parts=sys.argv[4:] or ("",))
