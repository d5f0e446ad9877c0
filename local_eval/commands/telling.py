"""What the commands that grade say: scores, failures.

How it is used: by grading.py, several.py and quick.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from local_eval.engine.failure import Failure
from local_eval.grader import Grader
from local_eval.metric.score import Score
from local_eval.report.prediction import in_words
from local_eval.report.table import table

OVER_BUDGET = 3  # exit code


def say_scoring(examples: int, runs: int) -> None:
    """What takes a while now."""
    print(f"scoring: attacks on {examples} forget examples at N = {runs}, then the ceiling", flush=True)


def tell_score(found: Score, path: Path, submission: str, grader: Grader) -> int:
    """Print a score, and what Kaggle would have given; returns the exit code."""
    print(table(found, submission, grader.task.name))
    print(f"written to {path}")
    print(in_words(grader.predicted(found, submission)))
    return OVER_BUDGET if found.within_budget is False else 0


def tell_failures(failures: dict[int, Failure], runs: int) -> int:
    """Say why runs failed, each reason once; returns how many did."""
    by_reason: dict[str, list[int]] = {}
    for index, failure in sorted(failures.items()):
        by_reason.setdefault(failure.reason, []).append(index)
    for indices in by_reason.values():
        runs_named = ("run " if len(indices) == 1 else "runs ") + ", ".join(map(str, indices))
        print(f"{runs_named} failed: {failures[indices[0]].told()}", file=sys.stderr)  # what the first one printed
    if failures:
        print(
            f"{len(failures)} of {runs} runs failed; tracebacks are in the run folder as NNNN.failed.txt. "
            "The same command tries them again, with a longer --timeout if they are slow and do not hang; "
            "--allow-missing scores without them",
            file=sys.stderr,
        )
    return len(failures)
