"""How often intervals hold another draw of real runs and real oracles, from gradings with several seeds on disk.

Every seed's N runs are scored against every disjoint group of N oracles. A draw is a seed and a group. Its interval is
held against all draws that share neither with it, and, in a second column, against those of other seeds and the same
oracles, which is what --seed changes.

How to run it: python -m studies.coverage baseline_finetune random_label --task digits --runs 64 --out outputs
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from local_eval.grader import Grader
from local_eval.metric.metric import example_epsilons, forgetting_points
from local_eval.metric.score import ScoreError, confidences
from local_eval.metric.uncertainty.interval import LEVEL, interval_around, numbered
from local_eval.on_disk import graded_confidences, oracles_there
from local_eval.store.provenance import provenance

HEAD = "| method | seeds | mean value | sd | held, nothing shared | held, same oracles | width |"
HEAD += "\n|---|---|---|---|---|---|---|"


def seeds_there(grader: Grader, submission: str) -> list[int]:
    """Seeds of which all N runs of today's code are on disk."""
    start = grader.run_plan(submission).folder_name.rpartition("-seed")[0]
    found = [path.name.rpartition("-seed")[2] for path in grader.folder.glob(f"{start}-seed*")]
    seeds = sorted(int(seed) for seed in found if seed.isdigit())
    last = f"{grader.runs - 1:04d}.npz"
    return [seed for seed in seeds if (grader.folder / f"{start}-seed{seed}" / last).exists()]


def draws(grader: Grader, submission: str, oracles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values [S, G] of every seed against every group of oracles [M, E], and their intervals [S, G, 2].

    Raises:
        ScoreError: fewer than two seeds, or not all runs of one are there.
    """
    seeds, models = seeds_there(grader, submission), grader.runs
    if len(seeds) < 2:
        raise ScoreError(f"{submission}: {len(seeds)} seeds with {models} runs are in {grader.folder}; make more")
    person = numbered(grader.labels_and_persons[1], oracles.shape[1])
    values, ends = [], []
    for seed in seeds:
        runs = graded_confidences(replace(grader, seed=seed), submission)
        found = [_interval(runs, oracles[k : k + models], person) for k in range(0, len(oracles) - models + 1, models)]
        values.append([one.value for one in found])
        ends.append([(one.low, one.high) for one in found])
    return np.array(values), np.array(ends)


def _interval(runs: np.ndarray, oracles: np.ndarray, person: np.ndarray):
    points = forgetting_points(example_epsilons(runs, oracles), len(runs))
    return interval_around(points, runs, oracles, person)


def shares(values: np.ndarray, ends: np.ndarray) -> tuple[float, float]:
    """Share of ordered pairs of draws held: those that share nothing, and those of two seeds with the same oracles."""
    seed, group = (index.ravel() for index in np.indices(values.shape))
    flat, limits = values.ravel(), ends.reshape(-1, 2)
    inside = (flat >= limits[:, :1]) & (flat <= limits[:, 1:])
    other_seed, other_group = seed[:, None] != seed, group[:, None] != group
    return float(inside[other_seed & other_group].mean()), float(inside[other_seed & ~other_group].mean())


def row(name: str, values: np.ndarray, ends: np.ndarray) -> str:
    """A line of the table; width is relative to the best interval of one fixed width."""
    apart, same = shares(values, ends)
    one = values[np.arange(len(values)), np.arange(len(values)) % values.shape[1]]  # a draw a seed: nearly independent
    fixed = 2 * np.quantile(np.abs(one[:, None] - one)[np.triu_indices(len(one), 1)], LEVEL)
    width = float(np.mean(ends[..., 1] - ends[..., 0]) / fixed) if fixed else float("nan")
    count = len(values)
    return (
        f"| `{name}` | {count} | {values.mean():.4f} | {one.std(ddof=1):.4f} | {apart:.2f} | {same:.2f} | {width:.2f} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m studies.coverage", description=__doc__.split("\n")[0])
    parser.add_argument("submissions", nargs="+")
    parser.add_argument("--task", default="digits")
    parser.add_argument("--runs", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("outputs"))
    options = parser.parse_args(arguments)
    grader = Grader(options.task, options.out, options.runs)
    oracles = confidences(oracles_there(grader), grader.labels_and_persons[0])
    made = provenance("cpu")
    print(f"{options.task}, N = {options.runs}, {len(oracles) // options.runs} disjoint groups of oracles, ", end="")
    print(f"{made['hardware']}, commit {made['commit']}\n\n{HEAD}")
    for name in options.submissions:
        print(row(name, *draws(grader, name, oracles)), flush=True)


if __name__ == "__main__":
    main()
