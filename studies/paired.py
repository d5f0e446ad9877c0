"""How often equal methods are told apart, and different ones, on simulated families, as a table.

Level: two draws of one method against the same oracles. Power: two methods of which one is better. Both at level 0.9.

How to run it (about 0.3 s a comparison at N = 64, E = 60): python -m studies.paired [N] [E] [times]
"""

from __future__ import annotations

import sys

import numpy as np

from local_eval.metric.uncertainty.paired import Comparison, comparison_of
from studies.intervals import CASES, Case
from studies.projections import family

SEEDS = 51, 52  # of the first and of the second method; the oracles are the first one's
DIFFERENT = {
    "perfect, shift .3": (family(), family(0.3)),
    "perfect, shift .5": (family(), family(0.5)),
    "shift .5, shift .7": (family(0.5), family(0.7)),
    "shift 2, shift 2.5": (family(2.0), family(2.5)),
    "perfect, too wide 1.2": (family(), family(0.0, 1.2)),
}


def compared(first: Case, second: Case, models: int, examples: int, k: int) -> Comparison:
    """The comparison of draw k of two methods."""
    one, oracles = first.family(np.random.default_rng([SEEDS[0], k]), models, examples)
    other, _ = second.family(np.random.default_rng([SEEDS[1], k]), models, examples)
    persons = None if first.persons is None else first.persons(examples)
    return comparison_of(one, other, oracles, persons, ahead=False)


def reported(first: Case, second: Case, models: int, examples: int, times: int) -> tuple[float, float]:
    """Shares of comparisons in which the first is said to be better, and worse."""
    verdicts = [compared(first, second, models, examples, k).verdict for k in range(times)]
    return verdicts.count("better") / times, verdicts.count("worse") / times


def main(models: int = 64, examples: int = 60, times: int = 30) -> None:
    """Print the tables."""
    print(f"N = {models}, E = {examples}, {times} comparisons each\n")
    print("| two draws of one method | told apart |\n|---|---|")
    shares = []
    for name, case in CASES.items():
        shares.append(sum(reported(case, case, models, examples, times)))
        print(f"| {name} | {shares[-1]:.2f} |", flush=True)
    print(f"| **all** | {np.mean(shares):.3f} |\n\n| better, worse | told apart rightly | wrongly |\n|---|---|---|")
    for name, pair in DIFFERENT.items():
        right, wrong = reported(*map(Case, pair), models, examples, times)
        print(f"| {name} | {right:.2f} | {wrong:.2f} |", flush=True)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
