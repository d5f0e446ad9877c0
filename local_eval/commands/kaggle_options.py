"""The commands for Kaggle: export, budget, submit. Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

from local_eval.commands.options import SUBMISSION, add_changes, add_set


def add_kaggle_commands(commands: argparse._SubParsersAction) -> None:
    """Add them to the command line's list."""
    _add_export(commands)
    _add_budget(commands)
    _add_submit(commands)


def _add_export(commands: argparse._SubParsersAction) -> None:
    text = "Write submissions as notebooks that run alone on Kaggle."
    export = commands.add_parser("export", help=text, description=text)
    export.set_defaults(command="kaggle:export")
    export.add_argument("submissions", nargs="*", help="names in submissions/, or paths to .py or .ipynb files")
    add_set(export)
    export.add_argument("--all", action="store_true", help="all of submissions/, and the walkthrough")
    export.add_argument("--out", type=Path, default=Path("notebooks"), help="folder for notebooks (%(default)s)")


def _add_budget(commands: argparse._SubParsersAction) -> None:
    text = "Will 512 models fit into 8 hours on Kaggle? Exit codes: 0 fits, 3 does not fit, 4 cannot tell."
    budget = commands.add_parser("budget", help=text, description=text)
    budget.set_defaults(command="kaggle:budget")
    budget.add_argument("submission", nargs="?", help=SUBMISSION)
    add_set(budget)
    budget.add_argument("--all", action="store_true", help="a table of all of submissions/; exit code 0")
    budget.add_argument("--readme", type=Path, help="with --all: write the table between its marks in this file")
    budget.add_argument("--task", default="digits", help="what to time on (%(default)s)")
    add_changes(budget)
    budget.add_argument("--device", default=None, help="cpu, cuda, cuda:1 ... (default: cuda if there is one)")
    budget.add_argument("--repeats", type=int, default=3, help="counted runs (%(default)s)")
    budget.add_argument("--stock-epoch-seconds", type=float, metavar="S", help="from a notebook's calibration cell")
    budget.add_argument("--timeout", type=float, default=900, help="seconds for a single run (%(default)s)")


def _add_submit(commands: argparse._SubParsersAction) -> None:
    text = "Push a submission's notebook to Kaggle, wait for it, and submit it to the competition."
    submit = commands.add_parser("submit", help=text, description=text)
    submit.set_defaults(command="kaggle:submit")
    submit.add_argument("submission", help=SUBMISSION)
    add_set(submit)
    submit.add_argument("--dry-run", action="store_true", help="show every call, send nothing")
    submit.add_argument("--message", help="description on Kaggle (default: name and hash of the source)")
    submit.add_argument("--poll-seconds", type=float, default=30, help="between looks at the notebook (%(default)s)")
    submit.add_argument("--wait-hours", type=float, default=12, help="for the notebook to finish (%(default)s)")
