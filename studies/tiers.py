"""What a score at N = 64 can tell apart, and what one at N = 512 can: simulated methods, as a markdown table.

Methods are off by the same shift or spread ratio on every forget example; a model's examples share a part of their
noise, as measured between oracles. For each method: mean and standard deviation of the score over draws of runs and
oracles; and for it and the next one down, how often one grading each, against the same oracles, gets the order right.
A last column says which part of the variance is left if all draws share their oracles.

How to run it (about 2 minutes): python -m studies.tiers [E] [draws]
"""

from __future__ import annotations

import sys

import numpy as np
from scipy.special import ndtr

from local_eval.metric.metric import quality_of

TIERS = (64, 512)
SPREAD, COMMON = 1.5, 0.3  # sd of a confidence; part of it that a model's examples share
METHODS: dict[str, tuple[float, float]] = {  # shift in sd, spread ratio; best first at N = 512
    "perfect": (0.0, 1.0),
    "shift 0.2": (0.2, 1.0),
    "spread x 0.9": (0.0, 0.9),
    "shift 0.3": (0.3, 1.0),
    "shift 0.5": (0.5, 1.0),
    "spread x 1.25": (0.0, 1.25),
    "shift 0.75": (0.75, 1.0),
    "shift 1": (1.0, 1.0),
    "spread x 1.5": (0.0, 1.5),
    "shift 1, spread x 0.5": (1.0, 0.5),
}


def draw(rng: np.random.Generator, models: int, examples: int, shift: float = 0.0, ratio: float = 1.0) -> np.ndarray:
    """Confidences [models, examples] of one side."""
    common = COMMON * rng.standard_normal((models, 1))
    residuals = common + np.sqrt(1 - COMMON**2) * rng.standard_normal((models, examples))
    return SPREAD * (shift + ratio * residuals)


def scores(models: int, examples: int, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores [method, draw] with fresh oracles for each draw, and variances [method] of pairs that share theirs."""
    found, shared = np.empty((len(METHODS), draws)), np.zeros(len(METHODS))
    for k in range(draws):
        retrained = draw(np.random.default_rng([k, 0]), models, examples)
        for m, (shift, ratio) in enumerate(METHODS.values()):
            runs = (draw(np.random.default_rng([k, m + 1, again]), models, examples, shift, ratio) for again in (0, 1))
            first, second = (quality_of(unlearned, retrained) for unlearned in runs)
            found[m, k] = first
            shared[m] += (first - second) ** 2 / 2 / draws
    return found, shared


def order_is_right(found: np.ndarray) -> np.ndarray:
    """Chance [method - 1] that a method scores above the next one down, from paired scores [method, draw]."""
    differences = found[:-1] - found[1:]
    return ndtr(differences.mean(axis=1) / differences.std(axis=1, ddof=1))


def main(examples: int = 100, draws: int = 20) -> None:
    """Print the table."""
    print(f"E = {examples}, {draws} draws\n")
    heads = [f"N = {n} | order right | variance with shared oracles" for n in TIERS]
    print(f"| method | {' | '.join(heads)} |\n|{'---|' * (1 + 3 * len(TIERS))}", flush=True)
    columns = []
    for models in TIERS:
        found, shared = scores(models, examples, draws)
        right = [f"{chance:.2f}" for chance in order_is_right(found)] + [""]
        spread = found.std(axis=1, ddof=1)
        middles = found.mean(axis=1)
        columns.append(
            [
                f"{middles[m]:.4f} +- {spread[m]:.4f} | {right[m]} | {shared[m] / spread[m] ** 2:.2f}"
                for m in range(len(METHODS))
            ]
        )
    for m, name in enumerate(METHODS):
        print(f"| {name} | {' | '.join(column[m] for column in columns)} |")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
