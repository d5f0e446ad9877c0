"""How often an interval from one draw holds the forgetting quality of another, on simulated families, as a table.

For each family of `interval_families.py`, draws of the same method are scored by the official rule, and each is held
against the intervals of all others. The table tells the share that lay inside, the width beside that of the best
interval of fixed width (which knows all draws), the value, and the CPU time of an interval. At the ends of a table the
share over all families.

How to run it (about 0.3 s a draw at N = 64, E = 100), for families with a word in their names or for all:
python -m local_eval.metric.interval_study [N] [E] [draws] [word] ...
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from local_eval.metric.interval import LEVEL, interval_around, numbered
from local_eval.metric.interval_families import CASES, Case
from local_eval.metric.metric import example_epsilons, forgetting_points

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
