"""How much of a score is luck, beside the scale from the starter to the winner; what the best of eight gains by it.

Finished runs of one method are dealt into groups of N, and every group is scored, as if it were a submission of its
own: eight versions of one method that differ in nothing but their random numbers. Their spread is the noise of a
grading, and the best of the eight less their mean is what somebody gains who hands the same method in eight times.
Groups share no run, so nothing has to be corrected; dealing anew many times makes the means steadier, not the groups
more. The scale is the mean score of one method less that of another, at the same N, as on a host's board. Scores are
those of metric/fast_points.py, which are nearly the official ones: there are some ten thousand of them.

How to run it: python -m studies.luck outputs digits baseline_finetune fanchuan
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from local_eval.grader import Grader
from local_eval.methods.submission import submission_names
from local_eval.metric.fast_points import fast_points
from local_eval.metric.score import confidences
from local_eval.store.provenance import provenance

BEST_OF = 8
SIZES = (16, 32, 64)  # N
DEALS = 40
SEED = 31
MOST = 1024  # runs that are looked for


@dataclass(frozen=True)
class Side:
    """Models of one kind: confidences [M, E], and accuracies [M, 2] on the retain and the test set."""

    confidences: np.ndarray
    accuracies: np.ndarray

    def __len__(self) -> int:
        return len(self.confidences)

    def __getitem__(self, which: np.ndarray) -> Side:
        return Side(self.confidences[which], self.accuracies[which])


@dataclass(frozen=True)
class Luck:
    """Of a method at one N: mean score; standard deviations; what the best of eight has above their mean."""

    mean: float
    same_oracles: float  # standard deviation of gradings against the same oracles, as on one board
    other_oracles: float  # the same with other oracles, too
    gain: float | None  # of the best of eight, against the same oracles; None where there are fewer than eight groups


def score_of(runs: Side, oracles: Side) -> float:
    """The score of N runs against N oracles, nearly the official one."""
    ratios = runs.accuracies.mean(axis=0) / oracles.accuracies.mean(axis=0)
    return float(fast_points(runs.confidences.T, oracles.confidences.T).mean() * ratios.prod())


def dealt(side: Side, size: int, rng: np.random.Generator) -> Iterator[Side]:
    """The models in groups of `size` that share none, in a new order."""
    order = rng.permutation(len(side))
    for k in range(len(side) // size):
        yield side[order[k * size : (k + 1) * size]]


def luck_of(runs: Side, oracles: Side, size: int, deals: int = DEALS) -> Luck:
    """Deal runs and oracles many times; there must be two groups of each."""
    rng = np.random.default_rng([SEED, size])
    means, same, other, gains = [], [], [], []
    for _ in range(deals):
        groups, against = list(dealt(runs, size, rng)), list(dealt(oracles, size, rng))
        on_one = [score_of(group, against[0]) for group in groups]
        means.append(np.mean(on_one))
        same.append(np.var(on_one, ddof=1))
        other.append(np.var([score_of(a, b) for a, b in zip(groups, against)], ddof=1))
        if len(groups) >= BEST_OF:
            eight = on_one[:BEST_OF]
            gains.append(max(eight) - np.mean(eight))
    gain = float(np.mean(gains)) if gains else None
    return Luck(float(np.mean(means)), *(float(np.sqrt(np.mean(found))) for found in (same, other)), gain)


def read(grader: Grader, name: str) -> Side | None:
    """A method's finished runs; None if there are too few for two groups."""
    done = grader.finished_runs(name)
    records = [done[index] for index in sorted(done)]
    return _side(records, grader) if len(records) >= 2 * min(SIZES) else None


def _side(records: Sequence, grader: Grader) -> Side:
    accuracies = [(one.evaluation.retain_accuracy, one.evaluation.test_accuracy) for one in records]
    return Side(confidences(records, grader.labels_and_persons[0]), np.array(accuracies))


def rows(sides: dict[str, Side], oracles: Side, zero: str, hundred: str, deals: int = DEALS) -> list[list[str]]:
    """The table's cells: a row for every method and N of which there are at least two groups."""
    found = []
    for size in SIZES:
        lucks = {name: luck_of(side, oracles, size, deals) for name, side in sides.items() if len(side) >= 2 * size}
        if zero not in lucks or hundred not in lucks:
            continue
        width = lucks[hundred].mean - lucks[zero].mean
        for name, luck in lucks.items():
            cells = [str(size), name, str(len(sides[name])), f"{luck.mean:.4f}"]
            cells += [f"{luck.same_oracles:.4f}", f"{luck.other_oracles:.4f}"]
            cells += [f"{luck.gain:.4f}" if luck.gain is not None else "-"]
            found.append([*cells, points(luck.same_oracles, width), points(luck.gain, width)])
    return found


def points(value: float | None, width: float) -> str:
    """A difference of scores in hundredths of the scale; '-' where there is none."""
    return "-" if value is None or width <= 0 else f"{100 * value / width:.0f}"


HEAD = (
    "N", "method", "runs", "mean score", "SD, same oracles", "SD, other oracles", "best of 8 less mean",
    "SD, points", "best of 8, points",
)  # fmt: skip


def main(out: str, task: str = "digits", zero: str = "baseline_finetune", hundred: str = "fanchuan") -> None:
    """Print the table."""
    grader = Grader(task, Path(out), runs=MOST)
    sides = {name: side for name in submission_names() if (side := read(grader, name)) is not None}
    oracles = _side(grader.cached_oracles(), grader)
    made = provenance("cpu")
    print(f"{task}, {len(oracles)} oracles, {DEALS} deals; 0 is {zero}, 100 is {hundred}")
    print(f"{made['hardware']}, torch {made['torch']}, commit {made['commit']}\n")
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for cells in rows(sides, oracles, zero, hundred):
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
