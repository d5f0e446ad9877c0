"""How far the projection errs on simulated families, as a markdown table.

For each family: the truth (mean official score at N = 512 over fresh draws on the same examples), what the plain score
at the small N says, and over repeats the projection's median relative error, its bias, how often its 90 % interval
holds the truth, and its CPU time. Families held out while the method was built are marked.

How to run it (about 2 s a projection): python -m local_eval.metric.projection_study [N] [E] [repeats] [models]
"""

from __future__ import annotations

import sys
import time

import numpy as np

from local_eval.metric.metric import quality_of
from local_eval.metric.projection import ProjectionError, projection_of
from local_eval.metric.projection_families import HELD_OUT, LISTED, Family

SCORED = 2000  # examples that a truth is the mean of: noise of about 2 % unless few examples hold all the points
SEED = 7


def truth(family: Family, models: int, examples: int, scored: int = SCORED) -> float:
    """Mean official score at N = `models` over fresh draws on the same examples."""
    draws = max(2, scored // examples)
    return float(np.mean([quality_of(*family(np.random.default_rng([99, k]), models, examples)) for k in range(draws)]))


def measure(family: Family, count: int, examples: int, repeats: int, models: int) -> dict[str, float]:
    """Truth, plain score, median relative error, bias, coverage and mean CPU seconds over `repeats` projections."""
    true = truth(family, models, examples)
    plain, values, held, seconds = [], [], [], []
    for k in range(repeats):
        pair = family(np.random.default_rng([SEED, k]), count, examples)
        start = time.process_time()
        try:
            found = projection_of(*pair, models=models)
        except ProjectionError:
            continue
        seconds.append(time.process_time() - start)
        values.append(found.value)
        held.append(found.low <= true <= found.high)
        if k < 2:  # the plain score is for orientation only
            plain.append(quality_of(*pair))
    off = np.array(values) / true - 1
    return {
        "truth": true,
        "plain": float(np.mean(plain)),
        "error": float(np.median(np.abs(off))),
        "bias": float(off.mean()),
        "coverage": float(np.mean(held)),
        "seconds": float(np.mean(seconds)),
    }


def main(count: int = 64, examples: int = 500, repeats: int = 10, models: int = 512) -> None:
    """Print the table."""
    print(f"N = {count}, E = {examples}, {repeats} repeats, projected to {models}\n")
    print("| family | truth | plain score | median error | bias | coverage | s |\n|---|---|---|---|---|---|---|")
    for group, families in (("", LISTED), (" (held out)", HELD_OUT)):
        rows = []
        for name, family in families.items():
            row = measure(family, count, examples, repeats, models)
            rows.append((row["error"], row["coverage"]))
            print(
                f"| {name}{group} | {row['truth']:.4g} | {row['plain']:.4f} | {row['error']:.2f} | {row['bias']:+.2f} "
                f"| {row['coverage']:.2f} | {row['seconds']:.1f} |",
                flush=True,
            )
        errors, held = np.array(rows).T
        summary = f"median error {np.median(errors):.3f}, worst {errors.max():.3f}, coverage {held.mean():.2f}"
        print(f"| **all{group}**: {summary} | | | | | | |", flush=True)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
