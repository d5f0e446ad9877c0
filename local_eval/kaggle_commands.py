"""The commands that lead to Kaggle: budget asks whether a method fits, export writes its notebook, submit sends it.

How to run them: python -m local_eval export fanchuan
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from local_eval.budget import REPEATS, Cost, measure, project, report
from local_eval.budget_table import MARKER, budget_table
from local_eval.commands import OVER_BUDGET, device_of
from local_eval.compare import around_markers, write_between_markers
from local_eval.contract import SubmissionError, submission_names, submission_path
from local_eval.records import versions
from local_eval.score import ScoreError

VERDICTS = {"fits": 0, "does not fit": OVER_BUDGET, "cannot tell": 4}  # exit codes


def add_kaggle_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands to the command line's list."""
    text = "Write submissions as notebooks that run alone on Kaggle."
    export = commands.add_parser("export", help=text, description=text)
    export.set_defaults(command=_export)
    export.add_argument("submissions", nargs="*", help="names in submissions/, or paths to .py files")
    export.add_argument("--all", action="store_true", help="all of submissions/, and the walkthrough")
    export.add_argument("--out", type=Path, default=Path("notebooks"), help="folder for notebooks (%(default)s)")
    text = "Will 512 models fit into 8 hours on Kaggle? Exit codes: 0 fits, 3 does not fit, 4 cannot tell."
    budget = commands.add_parser("budget", help=text, description=text)
    budget.set_defaults(command=_budget)
    budget.add_argument("submission", nargs="?", help="name in submissions/, or path to a .py file")
    budget.add_argument("--all", action="store_true", help="a table of all of submissions/; exit code 0")
    budget.add_argument(
        "--readme", type=Path, help=f"with --all: write the table between the marks of the {MARKER!r} in this file"
    )
    budget.add_argument("--task", default="digits", help="what to time on (%(default)s)")
    budget.add_argument("--device", default=None, help="cpu, cuda, cuda:1 ... (default: cuda if there is one)")
    budget.add_argument("--repeats", type=int, default=REPEATS, help="counted runs (%(default)s)")
    budget.add_argument("--stock-epoch-seconds", type=float, metavar="S", help="from a notebook's calibration cell")
    budget.add_argument("--timeout", type=float, default=900, help="seconds for a single run (%(default)s)")
    text = "Push a submission's notebook to Kaggle, wait for it, and submit it to the competition."
    submit = commands.add_parser("submit", help=text, description=text)
    submit.set_defaults(command=_submit)
    submit.add_argument("submission", help="name in submissions/, or path to a .py file")
    submit.add_argument("--dry-run", action="store_true", help="show every call, send nothing")
    submit.add_argument("--message", help="description on Kaggle (default: name and hash of the source)")
    submit.add_argument("--poll-seconds", type=float, default=30, help="between looks at the notebook (%(default)s)")
    submit.add_argument("--wait-hours", type=float, default=12, help="for the notebook to finish (%(default)s)")


def _submit(options: argparse.Namespace) -> int:
    from local_eval.submit import describe, submit  # here, so that grading does not need the kaggle package

    if options.dry_run:
        print(describe(options.submission, options.message, options.poll_seconds))
    else:
        submit(options.submission, options.message, options.poll_seconds, options.wait_hours)
    return 0


def _budget(options: argparse.Namespace) -> int:
    stock = options.stock_epoch_seconds
    if options.repeats < 1 or (stock is not None and not stock > 0):
        raise ScoreError("--repeats and --stock-epoch-seconds must be above 0")
    if bool(options.submission) == options.all:
        raise SubmissionError(f"name a submission, or give --all. Known: {', '.join(submission_names())}")
    if options.all:
        return _budget_of_all(options)
    cost = _measured(options, options.submission)
    projection = project(cost, stock)
    print(report(submission_path(options.submission).stem, cost, projection))
    return VERDICTS[projection.verdict]


def _budget_of_all(options: argparse.Namespace) -> int:
    if options.readme:
        around_markers(options.readme, MARKER)  # a file that cannot take the table should not wait for it
    costs = {}
    for name in submission_names():
        costs[name] = _measured(options, name)
        print(f"{name}: {costs[name].middle:.1f} stock epochs", file=sys.stderr)
    where = f"{options.task}, {versions(device_of(options))['device']}"
    table = budget_table(costs, where, options.stock_epoch_seconds)
    print(table)
    if options.readme:
        write_between_markers(options.readme, MARKER, table)
        print(f"written to {options.readme}")
    return 0


def _measured(options: argparse.Namespace, name: str) -> Cost:
    return measure(name, options.task, device_of(options), options.repeats, options.timeout)


def _export(options: argparse.Namespace) -> int:
    from local_eval.export import export, export_walkthrough  # here, so that grading does not need nbformat

    names = options.submissions + (submission_names() if options.all else [])
    if not names:
        raise SubmissionError(f"name a submission, or give --all. Known: {', '.join(submission_names())}")
    for name in names:
        print(f"written: {export(submission_path(name), options.out)}")
    if options.all:
        print(f"written: {export_walkthrough(options.out)}")
    return 0
