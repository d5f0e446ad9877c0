"""How far the projection errs on real models: from quarters of 256 runs and oracles to the score of all.

Each quarter has 64 runs, of a seed of their own, and 64 oracles. What it projects to N = 256 stands beside what all
256 give, and beside the plain score of its 64. Quarters share nothing, but the value at 256 is made of all four, so a
projection has it a little easier than one to fresh runs would.

How to run it, after `run METHOD --runs 64 --seed S` for S = 0 to 3 (or more) and `oracles --runs 256`:
    python -m local_eval.metric.projection_real digits outputs/digits-29630a5b7b32 results/projection_digits.csv
"""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np

from local_eval.engine.files import write_atomically
from local_eval.engine.records import load_record
from local_eval.engine.sealed import unseal
from local_eval.metric.metric import quality_of
from local_eval.metric.projection import ProjectionError, projection_of
from local_eval.metric.score import confidences
from local_eval.tasks.load import load_task
from local_eval.tasks.task import Task

PARTS, EACH = 4, 64
MODELS = PARTS * EACH
COLUMNS = ("method", "seed", "plain_at_64", "projected", "low", "high", "true_at_256", "ratio")


def confidences_in(folder: Path, task: Task, count: int) -> np.ndarray:
    """Confidences [count, E] of the first records in a folder. Raises RecordError, FileNotFoundError."""
    shape, records = (len(task.forget), task.num_classes), []
    for index in range(count):
        path = folder / f"{index:04d}.npz"
        about = json.loads(str(unseal(path)[0]["about"]))
        records.append(load_record(path, about["identity"], shape))
    return confidences(records, task.forget.labels.numpy())


def name_of(folder: Path) -> str:
    """The method in a folder of runs, with its changed constants if it has been graded; else its file's name."""
    try:
        return json.loads((folder / "score.json").read_text())["submission"]
    except FileNotFoundError:
        return folder.name.rpartition("-seed")[0].rpartition("-")[0]


def rows_of(name: str, seed: int, unlearned: np.ndarray, retrained: np.ndarray, persons: np.ndarray) -> list[tuple]:
    """A row for every part, from confidences [MODELS, E]; the first part's runs are of this seed."""
    true, found = quality_of(unlearned, retrained), []
    for part in range(PARTS):
        one = slice(part * EACH, (part + 1) * EACH)
        p = projection_of(unlearned[one], retrained[one], models=MODELS, persons=persons)
        numbers = quality_of(unlearned[one], retrained[one]), p.value, p.low, p.high, true, p.value / true
        found.append((name, seed + part, *(f"{value:.4g}" for value in numbers)))
    return found


def main(spec: str, folder: Path, to: Path) -> None:
    """Write the table of every method in a folder that has the runs of seeds 0 to 3, 4 to 7 and so on."""
    task = load_task(spec)
    persons, oracles = task.forget.person_id.numpy(), confidences_in(folder / "oracles", task, MODELS)
    rows = []
    for method in sorted({path.name.rpartition("-seed")[0] for path in folder.glob("*-seed*")}):
        for first in range(0, 10**6, PARTS):
            parts = [folder / f"{method}-seed{first + k}" for k in range(PARTS)]
            if not all((part / f"{EACH - 1:04d}.npz").exists() for part in parts):
                break
            unlearned = np.concatenate([confidences_in(part, task, EACH) for part in parts])
            try:
                rows += rows_of(name_of(folder / f"{method}-seed{first}"), first, unlearned, oracles, persons)
            except ProjectionError as error:
                print(f"{method} is left out: {error}", file=sys.stderr)
            else:
                print(*rows[-PARTS:], sep="\n", flush=True)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    write_atomically(to, text.getvalue().encode())
    ratios = np.array([float(row[-1]) for row in rows])
    held = np.mean([float(low) <= float(true) <= float(high) for *_, low, high, true, _ in rows])
    print(f"median factor {np.exp(np.median(np.abs(np.log(ratios)))):.2f}; the interval holds the truth in {held:.2f}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
