"""The board: published variants graded on a task.

How to run it: python -m local_eval board --part tune --runs 32
"""

from __future__ import annotations

import argparse
import sys

from local_eval.board.agreement import agreement
from local_eval.board.board import grade_rows, save_board
from local_eval.board.chart import check_ending, draw
from local_eval.board.fit import fit_of, save_fit
from local_eval.board.rows import BoardError, read_rows
from local_eval.commands.grading import device_of, engine_of
from local_eval.grader import Grader
from local_eval.metric.score import check_runs


def board(options: argparse.Namespace) -> int:
    """Grade the rows of one part or of both; with --write the file grows row by row."""
    check_runs(options.runs)
    rows = [row for row in read_rows(options.rows) if options.part in (row.part, "all")]
    rows = [row for row in rows if row.confidence in options.confidence]
    if not rows:
        raise BoardError(
            f"{options.rows} has no row of part {options.part} and confidence {' '.join(options.confidence)}"
        )
    if options.draw:
        check_ending(options.draw)
    device = device_of(options)
    where, how = (options.task, options.out, options.runs, options.seed), (device, options.workers, options.timeout)
    grader, graded = Grader(*where, *how, engine=engine_of(options)), []
    print(f"the board: {len(rows)} rows of {options.rows} on {grader.task.name}, {options.runs} runs each", flush=True)
    for one in grade_rows(grader, rows, lambda line: print(line, flush=True), options.finished_only):
        graded.append(one)
        if options.write:
            save_board(graded, grader, options.write)
    failed = {one.row.variant for one in graded if one.score is None}
    if failed:
        how = "without --finished-only the same command makes" if options.finished_only else "the same command makes"
        print(f"without a score: {', '.join(sorted(failed))}; {how} what is missing", file=sys.stderr)
    if options.write:
        print(f"written to {options.write}")
    print(*agreement(graded), sep="\n")
    fit = fit_of(graded, grader.task.name, grader.fingerprint, grader.runs)
    if options.fit and fit is not None:
        save_fit(fit, options.fit)
        print(f"fit of {fit.variants} variants, median factor {fit.median_factor:.2f}, written to {options.fit}")
    if options.draw:
        draw(graded, fit, grader.task.name, options.draw)
        print(f"drawn to {options.draw}")
    return 1 if failed else 0
