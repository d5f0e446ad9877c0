"""The commands that lead to Kaggle: export writes notebooks.

How to run them: python -m local_eval export fanchuan
"""

from __future__ import annotations

import argparse
from pathlib import Path

from local_eval.contract import SubmissionError, submission_names, submission_path


def add_kaggle_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands to the command line's list."""
    text = "Write submissions as notebooks that run alone on Kaggle."
    export = commands.add_parser("export", help=text, description=text)
    export.set_defaults(command=_export)
    export.add_argument("submissions", nargs="*", help="names in submissions/, or paths to .py files")
    export.add_argument("--all", action="store_true", help="all of submissions/, and the walkthrough")
    export.add_argument("--out", type=Path, default=Path("notebooks"), help="folder for notebooks (%(default)s)")


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
