"""How often intervals hold another draw of real runs and real oracles, from runs of one or more seeds on disk.

Runs are cut into disjoint groups of N, and so are the oracles; a draw is a group of runs against a group of oracles.
Its interval is held against all draws that share neither with it. It is made twice: from the N oracles of its draw
alone, as on a task of one's own, and with half of all groups of oracles at hand, as on a task that comes with many. In
the second case it is held against draws with oracles of the other half.

How to run it: python -m studies.coverage baseline_finetune random_label --task digits --runs 64 --out outputs
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from local_eval.grader import Grader
from local_eval.metric.metric import example_epsilons, forgetting_points
from local_eval.metric.score import ScoreError, confidences
from local_eval.metric.uncertainty.interval import LEVEL, interval_around, numbered
from local_eval.on_disk import graded_confidences, oracles_there
from local_eval.store.provenance import provenance

HEAD = "| method | groups of runs | mean value | sd | held, N oracles | width | held, half of the oracles | width |"
HEAD += "\n|---|---|---|---|---|---|---|---|"
DRAWS_NEEDED = 2  # groups of runs


@dataclass(frozen=True)
class Draws:
    """Of R groups of runs and G of oracles: values [R, G]; ends of intervals [R, G, 2], from N oracles and from half.

    The pool of a draw's second interval are the groups of oracles in its own half: the first G / 2, or the others.
    """

    values: np.ndarray
    alone: np.ndarray
    pooled: np.ndarray

    @property
    def half(self) -> np.ndarray:
        """Which half each group of oracles is in, [G]."""
        groups = self.values.shape[1]
        return (np.arange(groups) >= groups // 2).astype(int)

    @property
    def apart(self) -> np.ndarray:
        """Which two draws share neither runs nor oracles, bool [R G, R G]."""
        run, group = (index.ravel() for index in np.indices(self.values.shape))
        return (run[:, None] != run) & (group[:, None] != group)


def groups_of(models: np.ndarray, size: int) -> list[np.ndarray]:
    """Disjoint groups of `size` of the models [M, E]; what is left over is left out."""
    return [models[k : k + size] for k in range(0, len(models) - size + 1, size)]


def runs_there(grader: Grader, submission: str) -> list[np.ndarray]:
    """Groups of N of the runs of today's code on disk, of all seeds, [N, E] each."""
    start = grader.run_plan(submission).folder_name.rpartition("-seed")[0]
    found = [path.name.rpartition("-seed")[2] for path in grader.folder.glob(f"{start}-seed*")]
    groups, last = [], f"{grader.runs - 1:04d}.npz"
    for seed in sorted(int(seed) for seed in found if seed.isdigit()):
        if (grader.folder / f"{start}-seed{seed}" / last).exists():
            all_there = replace(grader, seed=seed).with_all_finished(submission)
            groups += groups_of(graded_confidences(all_there, submission), grader.runs)
    return groups


def draws(grader: Grader, submission: str, oracles: np.ndarray) -> Draws:
    """All draws of a submission against groups of the oracles [M, E].

    Raises:
        ScoreError: fewer than two groups of runs are there, or of oracles.
    """
    runs, groups, size = runs_there(grader, submission), groups_of(oracles, grader.runs), grader.runs
    if len(runs) < DRAWS_NEEDED or len(groups) < DRAWS_NEEDED:
        text = f"{submission}: {len(runs)} groups of {size} runs and {len(groups)} of oracles are in {grader.folder}"
        raise ScoreError(f"{text}; make two of each at least: more --runs, or another --seed")
    person = numbered(grader.labels_and_persons[1], oracles.shape[1])
    shape = len(runs), len(groups)
    found = Draws(np.zeros(shape), np.zeros((*shape, 2)), np.zeros((*shape, 2)))
    for r, g in np.ndindex(shape):
        points = forgetting_points(example_epsilons(runs[r], groups[g]), size)
        mates = [groups[k] for k in np.flatnonzero(found.half == found.half[g]) if k != g]
        found.values[r, g] = points.mean()
        for ends, pool in ((found.alone, [groups[g]]), (found.pooled, [groups[g], *mates])):
            one = interval_around(points, runs[r], np.concatenate(pool), person)
            ends[r, g] = one.low, one.high
    return found


def shares(found: Draws) -> tuple[float, float]:
    """Share of ordered pairs of draws held: by intervals from N oracles, and by those from half of all oracles."""
    flat, half = found.values.ravel(), np.tile(found.half, len(found.values))
    held = []
    for ends, fair in ((found.alone, found.apart), (found.pooled, found.apart & (half[:, None] != half))):
        low, high = ends.reshape(-1, 2).T[..., None]
        held.append(float(((flat >= low) & (flat <= high))[fair].mean()))
    return held[0], held[1]


def row(name: str, found: Draws) -> str:
    """A line of the table; widths are relative to the best interval of one fixed width, which knows all draws."""
    flat = found.values.ravel()
    fixed = 2 * float(np.quantile(np.abs(flat[:, None] - flat)[found.apart], LEVEL))
    cells = [f"`{name}`", str(len(found.values)), f"{flat.mean():.4f}", f"{flat.std(ddof=1):.4f}"]
    for share, ends in zip(shares(found), (found.alone, found.pooled)):
        width = float(np.mean(ends[..., 1] - ends[..., 0]))
        cells += [f"{share:.2f}", f"{width / fixed:.2f}" if fixed else "-"]
    return f"| {' | '.join(cells)} |"


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
        print(row(name, draws(grader, name, oracles)), flush=True)


if __name__ == "__main__":
    main()
