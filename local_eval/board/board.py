"""Grade the variants of the board's rows and put what they score here beside what they scored there.

How to run it: python -m local_eval board --task digits --runs 32 --part tune --write results/kaggle_board.csv
"""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from local_eval.board.rows import COLUMNS, Row, same_run
from local_eval.engine.files import write_atomically
from local_eval.engine.records import RecordError
from local_eval.grader import Grader, grade_all
from local_eval.metric.metric import MetricError
from local_eval.metric.score import Score, ScoreError
from local_eval.report.table import projected_score
from local_eval.runs.refusal import SubmissionError
from local_eval.tasks.names import option_words, split_changes

MEASURED = ("N", "measured", "low", "high", "utility", "command")


@dataclass(frozen=True)
class Graded:
    """A row and what became of it: a score, or the reason why there is none."""

    row: Row
    score: Score | None
    failure: str = ""


def grade_rows(
    grader: Grader, rows: Sequence[Row], tell: Callable[[str], None] = print, finished_only: bool = False
) -> Iterator[Graded]:
    """Grade each row's variant, one after the other, with a line for each; a variant of several rows only once.

    Oracles are shared. Runs are on disk as soon as they are made, so the same call goes on where the last one stopped.
    A variant with more finished runs than were asked for is scored with all of them.
    A variant that fails is told, and the others go on. With `finished_only`, no runs are made: those of a variant that
    has too few of them are missing, and so it has no score.
    """
    found: dict[tuple, tuple[Score | None, str]] = {}
    for number, row in enumerate(rows, start=1):
        key = same_run(row.variant)
        if key not in found:
            found[key] = grade_variant(grader, row.variant, finished_only)
        graded = Graded(row, *found[key])
        tell(f"{number} of {len(rows)}: {in_words(graded)}")
        yield graded


def grade_variant(grader: Grader, name: str, finished_only: bool) -> tuple[Score | None, str]:
    """The score of one variant, or None and the reason."""
    try:
        grader = grader.with_all_finished(name)
        if finished_only:
            return grader.score(name)[0], ""
    except (MetricError, ScoreError, RecordError, SubmissionError) as error:
        return None, str(error)
    scores, failed = grade_all(grader, [name])
    return scores.get(name), failed.get(name, "")


def in_words(graded: Graded) -> str:
    """A row's outcome in one line."""
    row, score = graded.row, graded.score
    if score is None:
        return f"{row.variant} has no score: {graded.failure}"
    value, low, high = measured_value(score)
    there = f"published {row.published:.4f} ({row.split}, confidence {row.confidence})"
    return f"{row.variant} scores {value:.4f} ({low:.4f} to {high:.4f}); {there}"


def measured_value(score: Score) -> tuple[float, float, float]:
    """What is compared with the published score, and its interval: at N = 512, projected where the runs are fewer.

    Where the projection has no answer (fewer than 24 runs, everything told apart) the score at the runs' N stands in.
    """
    return projected_score(score) if score.projected else (score.score, *score.interval)


def command(row: Row, grader: Grader, runs: int) -> str:
    """The command that grades one row alone; places on this machine are left out."""
    spec, _ = split_changes(grader.task_spec)
    task = [spec if spec.endswith(".py") else spec.partition(":")[0], *option_words(grader.task_spec)]
    seed = ["--seed", str(grader.seed)] if grader.seed else []
    start = ["python", "-m", "local_eval", "grade"]
    return shlex.join([*start, row.variant, "--task", *task, "--runs", str(runs), *seed])


def save_board(graded: Sequence[Graded], grader: Grader, path: Path) -> None:
    """Write a CSV file: the rows' columns and MEASURED; the numbers of a row without a score are empty.

    Raises:
        OutputError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *MEASURED])
    for one in graded:
        numbers = _numbers(one.score) if one.score else [""] * 4
        runs = one.score.runs if one.score else grader.runs
        writer.writerow([*astuple(one.row), runs, *numbers, command(one.row, grader, runs)])
    write_atomically(path, text.getvalue().encode())


def _numbers(score: Score) -> list[str]:
    return [f"{value:.6g}" for value in (*measured_value(score), score.utility)]
