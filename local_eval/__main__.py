"""The one command line: python -m local_eval COMMAND ...

Exit codes: 0 done, 1 the work failed or is incomplete, 2 bad input, 130 interrupted (the same command goes on).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from local_eval.bench import print_metric
from local_eval.check import check_submission
from local_eval.contract import SubmissionError, submission_names, submission_path
from local_eval.grade import Grader
from local_eval.kaggle_commands import add_kaggle_commands
from local_eval.metric import MetricError
from local_eval.pool import Failure, default_workers
from local_eval.records import OutputError
from local_eval.report import table
from local_eval.score import ScoreError, check_runs
from local_eval.task import TaskError, load_task, task_names

EXAMPLES = """\
examples:
  python -m local_eval grade baseline_finetune            grade the official starter on the embedded task
  python -m local_eval check my_method.py                 does it keep the contract? (seconds)
  python -m local_eval grade my_method.py --runs 64       screen an idea
  python -m local_eval oracles --runs 512                 train the oracles for a final grading, once

The contract that a submission keeps is written in local_eval/contract.py.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except (SubmissionError, TaskError, ScoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (OutputError, MetricError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m local_eval",
        description="The NeurIPS 2023 machine-unlearning grader on your own machine.",
        epilog=EXAMPLES,
        formatter_class=style,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, function, text: str, submission: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, formatter_class=style)
        sub.set_defaults(command=function)
        if submission:
            sub.add_argument("submission", help="name in submissions/, or path to a .py file")
        sub.add_argument(
            "--task", default="digits", help="name in local_eval/tasks/, or path to a .py file (%(default)s)"
        )
        sub.add_argument("--device", default=None, help="cpu, cuda, cuda:1 ... (default: cuda if there is one)")
        return sub

    grade = command("grade", _grade, "Check, train missing oracles, make missing runs, score.")
    run = command("run", _run, "Only make the missing runs of a submission.")
    score = command("score", _score, "Only score the runs and oracles that are on disk.")
    oracles = command("oracles", _oracles, "Only train the missing oracles of a task.", submission=False)
    headroom = command(
        "headroom",
        _headroom,
        "Is a task worth grading? Score originals that forgot nothing, beside the ceiling.",
        False,
    )
    command("check", _check, "Check the contract with a dry run on two batches.")
    for sub in (grade, run, score, oracles, headroom):
        sub.add_argument(
            "--runs", type=int, default=64, metavar="N", help="models on each side; official 512 (%(default)s)"
        )
        sub.add_argument("--out", type=Path, default=Path("outputs"), help="folder for results (%(default)s)")
        sub.add_argument("--seed", type=int, default=0, help="of the runs; another seed is a fresh draw (%(default)s)")
    for sub in (grade, run, oracles, headroom):
        sub.add_argument("--workers", type=int, default=None, help="processes (default: one per core, one on a GPU)")
        sub.add_argument(
            "--timeout", type=float, default=900, help="seconds after which a model counts as hanging (%(default)s)"
        )
    for sub in (grade, score):
        sub.add_argument("--allow-missing", action="store_true", help="score although runs failed; the score says so")
    listing = commands.add_parser("list", help="List submissions and tasks.")
    listing.set_defaults(command=_list)
    bench = commands.add_parser("bench", help="Time the kit against the plain way on this machine.")
    bench.set_defaults(command=_bench)
    bench.add_argument("--models", type=int, default=512, metavar="N", help="models on each side (%(default)s)")
    add_kaggle_commands(commands)
    return parser


def _grader(options: argparse.Namespace) -> Grader:
    check_runs(options.runs)
    device = _device(options)
    return Grader(
        task_spec=options.task,
        out=options.out,
        runs=options.runs,
        seed=options.seed,
        device=device,
        workers=getattr(options, "workers", None) or default_workers(device),
        timeout=getattr(options, "timeout", 0.0),
    )


def _device(options: argparse.Namespace) -> str:
    return options.device or ("cuda" if torch.cuda.is_available() else "cpu")


def _grade(options: argparse.Namespace) -> int:
    grader = _grader(options)
    submission_path(options.submission)  # a wrong name should not wait for the oracles
    for remark in check_submission(options.submission, options.task, grader.device):
        print(f"check: {remark}")
    oracles = grader.finish_oracles()
    print(f"oracles: {len(oracles)} in {grader.folder / 'oracles'}")
    failed = _tell_failures(grader.finish_runs(options.submission)[1], options.runs)
    if failed and not options.allow_missing:
        return 1
    return _score(options)


def _run(options: argparse.Namespace) -> int:
    return 1 if _tell_failures(_grader(options).finish_runs(options.submission)[1], options.runs) else 0


def _score(options: argparse.Namespace) -> int:
    grader = _grader(options)
    score, path = grader.score(options.submission, options.allow_missing)
    print(table(score, submission_path(options.submission).stem, grader.task.name))
    print(f"written to {path}")
    return 0


def _oracles(options: argparse.Namespace) -> int:
    grader = _grader(options)
    print(f"{len(grader.finish_oracles())} oracles in {grader.folder / 'oracles'}")
    return 0


def _headroom(options: argparse.Namespace) -> int:
    grader = _grader(options)
    print(table(grader.headroom(), "fresh originals, nothing forgotten,", grader.task.name))
    return 0


def _check(options: argparse.Namespace) -> int:
    for remark in check_submission(options.submission, options.task, _device(options)):
        print(f"check: {remark}")
    print(f"{options.submission} keeps the contract")
    return 0


def _list(options: argparse.Namespace) -> int:
    print("submissions:", *submission_names(), sep="\n  ")
    print("tasks:")
    for name in task_names():
        task = load_task(name)
        print(f"  {name}: " + ", ".join(f"{len(split)} {part}" for part, split in task.splits.items()))
    return 0


def _bench(options: argparse.Namespace) -> int:
    print_metric(options.models)
    return 0


def _tell_failures(failures: dict[int, Failure], runs: int) -> int:
    for index, failure in sorted(failures.items())[:5]:
        print(f"run {index} failed: {failure.reason}", file=sys.stderr)
    if failures:
        print(
            f"{len(failures)} of {runs} runs failed; tracebacks are in the run folder as NNNN.failed.txt. "
            "The same command tries them again; --allow-missing scores without them",
            file=sys.stderr,
        )
    return len(failures)


if __name__ == "__main__":
    sys.exit(main())
