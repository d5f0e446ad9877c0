"""The command `sweep`: grade a submission with other constants, and the best of them once more.

How to run it: python -m local_eval sweep my_method.py NOISE=0.1,0.2,0.4 LR=1e-3,1e-2 --runs 32
"""

from __future__ import annotations

import sys
from dataclasses import replace

from local_eval.cli.checking import device_of
from local_eval.cli.grading import engine_of
from local_eval.cli.request import Request, time_of_points
from local_eval.grader import Grader
from local_eval.methods.submission import Submission
from local_eval.metric.score import OFFICIAL_RUNS
from local_eval.report.swept import as_text
from local_eval.runs.check import check_submission
from local_eval.store.lines import terminal_width
from local_eval.sweep import AGAIN, Plan
from local_eval.sweep import sweep as sweep_points


def sweep(request: Request) -> int:
    """Grade all points, and print what was found; 1 if some could not be graded or the best not graded again."""
    points = tuple(Submission.find(name) for name in request.points.names)
    plan = Plan(points, request.points.swept, not request.all_to_the_end, request.final_seed, not request.no_final)
    grader = _grader(request)
    for note in grader.task.notes:
        print(f"task: {note}")
    print(_announced(request, plan, grader), flush=True)
    print(f"checking {plan.base}: a dry run", flush=True)
    base = Submission.find(request.found[request.submission])
    for remark in check_submission(base, request.task, grader.device, grader.sandbox_of_runs(), grader.batches_on):
        print(f"check: {remark}", flush=True)
    swept, folder = sweep_points(grader, plan, lambda text: print(text, flush=True))
    print(f"\n{as_text(swept, terminal_width())}\n\nwritten to {folder}: sweep.json, sweep.csv, sweep.png")
    if swept.rows:
        (best,) = (point for point in points if point.label == swept.rows[0].name)
        other = replace(grader, seed=swept.again.seed if swept.again else grader.seed + AGAIN)  # which chose nothing
        print(f"with the official number of models: {other.command('grade', best, runs=OFFICIAL_RUNS)}")
    for name, reason in swept.failed.items():
        print(f"{name} is not in the table: {reason}", file=sys.stderr)
    return 1 if swept.failed or not swept.rows or plan.again and swept.again is None else 0


def _grader(request: Request) -> Grader:
    return Grader(
        task_spec=request.task,
        out=request.out,
        runs=request.runs,
        seed=request.seed,
        device=device_of(request),
        workers=request.workers,
        timeout=request.timeout,
        sandbox=request.sandbox,
        engine=engine_of(request),
        batches_on=request.batches_on,
    )


def _announced(request: Request, plan: Plan, grader: Grader) -> str:
    """What will be done, and for how long about."""
    count = len(plan.points)
    drawn = " drawn" if request.points.drawn else ""
    time = time_of_points(request, count) or ", how long they take will show with the first"
    return (
        f"sweeping {' and '.join(plan.swept)} of {plan.base} on {grader.task.name}: {count}{drawn} points of "
        f"{request.runs} runs{time}; results in {request.out}"
    )
