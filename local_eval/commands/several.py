"""`grade a b c`: one after the other, and a table at the end. What goes wrong with one leaves the others theirs.

How to run it: python -m local_eval grade fanchuan baseline_finetune --runs 64
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from local_eval.engine.errors import InputError, WorkError
from local_eval.metric.score import Score
from local_eval.runs.submissions import looks_like_checkpoints

HEAD = ("", "N", "score", "90 % interval", "of ceiling", "RA", "TA", "s / run")
LONGEST = 120  # characters of a reason in the table; it was told in full before
RUNS_FAILED = "runs failed, as told above"


def grade_several(
    options: argparse.Namespace,
    names: list[str],
    check_one: Callable[[argparse.Namespace], None],
    grade_one: Callable[[argparse.Namespace], tuple[int, Score | None]],
) -> int:
    """Check all, then grade each; returns 0, 1 if any could not be graded, else the highest code of any.

    Args:
        options: of `grade`; the two functions get them with `submission` set to one name.
        check_one: raises what is wrong with a submission.
        grade_one: prints how it goes; returns an exit code and the score, None if runs failed.
    """
    codes: dict[str, int] = {}
    scores: dict[str, Score] = {}
    failed: dict[str, str] = {}
    for work in (check_one, grade_one):
        for number, name in enumerate(names, 1):
            if name in failed or (work is check_one and looks_like_checkpoints(name)):
                continue
            if work is grade_one:
                print(f"\n{number} of {len(names)}: {name}", flush=True)
            try:
                told = work(argparse.Namespace(**vars(options) | {"submission": name}))
            except (InputError, WorkError, RuntimeError) as error:
                print(f"error: {error}", file=sys.stderr)
                failed[name] = str(error)
                continue
            if work is grade_one:
                codes[name], score = told
                scores |= {name: score} if score else {}
                failed |= {} if score else {name: RUNS_FAILED}
    print("\n" + overview(names, scores, failed))
    return 1 if failed else max(codes.values())


def overview(names: list[str], scores: dict[str, Score], failed: dict[str, str]) -> str:
    """One row each, in the order in which they were given: aligned columns, or why there is no score."""
    rows = [HEAD, *(_row(name, scores[name]) for name in names if name in scores)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    widths[0] = max(len(name) for name in names)
    lines = []
    for name, row in [("", HEAD), *((name, _row(name, scores[name]) if name in scores else None) for name in names)]:
        if row is None:
            reason = " ".join(failed[name].split())
            lines.append(f"{name:<{widths[0]}}  failed: {reason[:LONGEST]}{' ...' if len(reason) > LONGEST else ''}")
        else:
            cells = [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:])]
            lines.append("  ".join([f"{row[0]:<{widths[0]}}", *cells]))
    return "\n".join(lines)


def _row(name: str, s: Score) -> tuple[str, ...]:
    low, high = s.interval
    invalid = " (not valid: over the limit)" if s.within_budget is False else ""
    cells = (f"{s.score:.4f}{invalid}", f"{low:.4f} to {high:.4f}", f"{s.quality_over_ceiling:.2f}")
    seconds = "-" if s.seconds_per_run != s.seconds_per_run else f"{s.seconds_per_run:.2f}"
    return (name, str(s.runs), *cells, f"{s.retain_accuracy:.3f}", f"{s.test_accuracy:.3f}", seconds)
