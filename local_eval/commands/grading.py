"""What the commands that grade do, each with the parsed options; returns the exit code.

How to run them: python -m local_eval --help
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from local_eval.bench.bench import bench as run_bench
from local_eval.bench.bench import save as save_bench
from local_eval.commands.several import grade_several
from local_eval.engine.device import usable_device
from local_eval.engine.failure import Failure
from local_eval.engine.files import write_atomically
from local_eval.engine.pool import default_workers
from local_eval.grade_checkpoints import grade_checkpoints
from local_eval.grader import Grader, grade_all
from local_eval.metric.score import Score, ScoreError, check_runs
from local_eval.oracles.oracle_file import save_pool
from local_eval.report.compare import Graded, as_json, markdown
from local_eval.report.markers import around_markers, write_between_markers
from local_eval.report.table import table
from local_eval.runs.check import check_submission
from local_eval.runs.confined import Sandbox
from local_eval.runs.submissions import (
    Submission,
    looks_like_checkpoints,
    submission_names,
)
from local_eval.tasks.load import load_task
from local_eval.tasks.overview import overview

OVER_BUDGET = 3  # exit code
CHECKPOINT_WORKERS = 1  # with 45 MB checkpoints each takes up to a gigabyte; more with --workers


def _grader(options: argparse.Namespace) -> Grader:
    check_runs(options.runs)
    device = device_of(options)
    return Grader(
        task_spec=options.task,
        out=options.out,
        runs=options.runs,
        seed=options.seed,
        device=device,
        workers=getattr(options, "workers", None),
        timeout=getattr(options, "timeout", Grader.timeout),
        sandbox=getattr(options, "sandbox", None),
    )


def device_of(options: argparse.Namespace) -> str:
    """The device that was asked for, or the best there is. Raises InputError if it cannot be used."""
    return usable_device(options.device)


def grade(options: argparse.Namespace) -> int:
    """All stages in order, for one or several; or, for checkpoints that exist already, only their evaluation."""
    names = list(dict.fromkeys(options.submissions))
    if len(names) > 1:
        _ = _grader(options).task  # a wrong task should not be told once for every submission
        return grade_several(options, names, _check_one, _grade_checked)
    options.submission = names[0]
    if not looks_like_checkpoints(options.submission):
        _check_one(options)
    return _grade_checked(options)[0]


def _check_one(options: argparse.Namespace) -> None:
    grader = _grader(options)
    for note in grader.task.notes:  # loaded here, so that a wrong task is not blamed on the submission
        print(f"task: {note}")
    print(f"checking {options.submission}: a dry run on two batches", flush=True)
    for remark in check_submission(options.submission, options.task, grader.device, grader.sandbox_of_runs()):
        print(f"check: {remark}", flush=True)


def _grade_checked(options: argparse.Namespace) -> tuple[int, Score | None]:
    """An exit code, and the score unless runs failed."""
    if looks_like_checkpoints(options.submission):
        return _grade_checkpoints(options)
    grader = _grader(options)
    oracles = grader.finish_oracles()
    print(f"oracles: {len(oracles)} in {grader.folder / 'oracles'}", flush=True)
    failures = grader.finish_runs(options.submission, keep=options.keep_checkpoints)[1]
    failed = _tell_failures(failures, options.runs)
    if options.keep_checkpoints and not failed:
        print(f"checkpoints: {grader.zip_checkpoints(options.submission)}")
    if failed and not options.allow_missing:
        return 1, None
    return _score(options, grader)


def _grade_checkpoints(options: argparse.Namespace) -> tuple[int, Score]:
    if options.budget_hours is not None or options.keep_checkpoints:
        raise ScoreError("--budget-hours and --keep-checkpoints need runs that are made here, not finished checkpoints")
    options.workers = options.workers or min(default_workers(device_of(options)), CHECKPOINT_WORKERS)
    path, grader = Path(options.submission), _grader(options)
    found = grade_checkpoints(grader, path)
    return _tell_score(*found, path.name, grader.task.name), found[0]


def run(options: argparse.Namespace) -> int:
    """Only the runs."""
    return 1 if _tell_failures(_grader(options).finish_runs(options.submission)[1], options.runs) else 0


def score(options: argparse.Namespace) -> int:
    """Only the score of what is on disk."""
    return _score(options, _grader(options))[0]


def _score(options: argparse.Namespace, grader: Grader) -> tuple[int, Score]:
    _say_scoring(len(grader.task.forget), options.runs)
    found = grader.score(options.submission, options.allow_missing, options.budget_hours)
    return _tell_score(*found, Submission.find(options.submission).label, grader.task.name), found[0]


def _say_scoring(examples: int, runs: int) -> None:
    print(f"scoring: attacks on {examples} forget examples at N = {runs}, then the ceiling", flush=True)


def _tell_score(found: Score, path: Path, submission: str, task: str) -> int:
    print(table(found, submission, task))
    print(f"written to {path}")
    return OVER_BUDGET if found.within_budget is False else 0


def oracles(options: argparse.Namespace) -> int:
    """Only the oracles; or take them from a file, or leave them in one."""
    grader = _grader(options)
    if options.load_pool:
        print(f"{grader.take_oracles(options.load_pool)} oracles from {options.load_pool}")
    trained = grader.finish_oracles()
    print(f"{len(trained)} oracles in {grader.folder / 'oracles'}")
    if options.save_pool:
        save_pool(trained, options.save_pool)
        print(f"{len(trained)} oracles saved to {options.save_pool}")
    return 0


def headroom(options: argparse.Namespace) -> int:
    """Score originals that forgot nothing."""
    grader = _grader(options)
    print(table(grader.headroom(), "fresh originals, nothing forgotten,", grader.task.name))
    return 0


def compare_all(options: argparse.Namespace) -> int:
    """Several submissions in one table."""
    grader = _grader(options)
    names = options.names or submission_names()
    if options.write:
        around_markers(options.write, f"table {grader.task.name}")  # so should a file that cannot take the table
    scores, failed = grade_all(grader, names)
    for name, reason in failed.items():
        print(f"{name} is not in the table: {reason}", file=sys.stderr)
    if scores:
        about = (grader.task.name, grader.task_spec, grader.fingerprint, grader.runs, grader.seed, grader.device)
        graded = Graded(scores, *about)
        print(markdown(graded))
        if options.save:
            write_atomically(options.save, as_json(graded).encode())
        if options.write:
            write_between_markers(options.write, f"table {grader.task.name}", markdown(graded))
    return 1 if failed else 0


def check(options: argparse.Namespace) -> int:
    """Check the contract; without a submission, tell what was understood of the task."""
    if options.submission is None:
        print(overview(load_task(options.task)))
        return 0
    load_task(options.task)  # a wrong task should not be blamed on the submission
    sandbox = Sandbox(options.sandbox) if options.sandbox else None
    for remark in check_submission(options.submission, options.task, device_of(options), sandbox):
        print(f"check: {remark}")
    print(f"{options.submission} keeps the contract")
    return 0


def bench(options: argparse.Namespace) -> int:
    """Time the kit beside the plain way."""
    device = device_of(options)
    found = run_bench(options.task, device, options.parts, options.submission, options.models, options.pool)
    if options.json:
        save_bench(found, options.json)
    return 0


def _tell_failures(failures: dict[int, Failure], runs: int) -> int:
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
