"""What the commands that grade do, each with the parsed options; returns the exit code.

How to run them: python -m local_eval --help
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path

from local_eval.bench.bench import bench as run_bench
from local_eval.bench.bench import save as save_bench
from local_eval.commands.after_grading import draw_after_grading
from local_eval.commands.one_submission import make_runs, score_all, with_originals
from local_eval.commands.pairs import tell_pairs
from local_eval.commands.several import grade_several
from local_eval.commands.telling import tell_failures, tell_score
from local_eval.engine.device import usable_device
from local_eval.engine.files import write_atomically
from local_eval.engine.pool import default_workers
from local_eval.engine.share_gpu import Engine
from local_eval.given_sides import AgainstGiven, grade_given
from local_eval.grader import Grader, grade_all
from local_eval.metric.score import Score, ScoreError, check_runs
from local_eval.oracles.oracle_file import save_pool
from local_eval.report.compare import Graded, as_json, markdown
from local_eval.report.markers import around_markers, write_between_markers
from local_eval.report.table import table
from local_eval.runs.check import check_submission
from local_eval.runs.confined import Sandbox
from local_eval.runs.submissions import (
    looks_like_checkpoints,
    submission_names,
)
from local_eval.tasks.load import load_task
from local_eval.tasks.overview import overview

CHECKPOINT_WORKERS = 1  # with 45 MB checkpoints each takes up to a gigabyte; more with --workers


def _grader(options: argparse.Namespace) -> Grader:
    check_runs(options.runs)
    device = device_of(options)
    grader = Grader(
        task_spec=options.task,
        out=options.out,
        runs=options.runs,
        seed=options.seed,
        device=device,
        workers=getattr(options, "workers", None),
        timeout=getattr(options, "timeout", Grader.timeout),
        sandbox=getattr(options, "sandbox", None),
        engine=engine_of(options),
    )
    return against_given(grader, options) if getattr(options, "retrained", None) else grader


def against_given(grader: Grader, options: argparse.Namespace) -> AgainstGiven:
    """The grader against the models of --retrained, which are read once."""
    if getattr(options, "originals", None):
        raise ScoreError("--originals grades against the task's oracles; leave it or --retrained out")
    if not hasattr(options, "given"):
        print(f"retrained models from {options.retrained}; the task's own oracles are left alone", flush=True)
        options.given = AgainstGiven.like(_one_at_a_time(grader), options.retrained).given
    own = {field.name: getattr(grader, field.name) for field in fields(grader)}
    return AgainstGiven(**own, given=options.given)


def _one_at_a_time(grader: Grader) -> Grader:
    """For checkpoints, unless --workers says otherwise."""
    return replace(grader, workers=grader.workers or min(default_workers(grader.device), CHECKPOINT_WORKERS))


def engine_of(options: argparse.Namespace) -> Engine | None:
    """What --engine and --address say; None for processes of this machine. Raises InputError."""
    if getattr(options, "engine", "local") == "local":
        if getattr(options, "address", None):
            raise ScoreError("--address is the address of a Ray cluster: it goes with --engine ray")
        return None
    from local_eval.engine.cluster.driver import RayEngine  # here, since nothing else needs it

    return RayEngine(options.address)


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
    with_originals(grader, options)  # numbers that make no sense are told now
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
    print(grader.disk_needed(options.submission, options.keep_checkpoints), flush=True)
    oracles = grader.finish_oracles()
    print(f"oracles: {len(oracles)} in {grader.folder / 'oracles'}", flush=True)
    graders = with_originals(grader, options)
    if not all(make_runs(each, options) for each in graders):
        return 1, None
    told = score_all(graders, options)
    draw_after_grading(options, grader)
    return told


def _grade_checkpoints(options: argparse.Namespace) -> tuple[int, Score]:
    if options.budget_hours is not None or options.keep_checkpoints or options.originals or options.repeat != 1:
        names = "--budget-hours, --keep-checkpoints, --originals and --repeat"
        raise ScoreError(f"{names} need runs that are made here, not finished checkpoints")
    path, grader = Path(options.submission), _one_at_a_time(_grader(options))
    found = grade_given(grader, path)
    code = tell_score(*found, path.name, grader)
    draw_after_grading(options, grader)
    return code, found[0]


def run(options: argparse.Namespace) -> int:
    """Only the runs."""
    return 1 if tell_failures(_grader(options).finish_runs(options.submission)[1], options.runs) else 0


def score(options: argparse.Namespace) -> int:
    """Only the score of what is on disk."""
    return score_all(with_originals(_grader(options), options), options)[0]


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
    """Score originals that forgot nothing, and say whether that leaves room for methods."""
    grader = _grader(options)
    found, verdict = grader.headroom()
    print(table(found, "fresh originals, nothing forgotten,", grader.task.name))
    print("\n".join(verdict.lines(found.runs)))
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
        if len(scores) > 1 and (options.pairs or len(names) == 2):
            tell_pairs(grader, scores)
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
