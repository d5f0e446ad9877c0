"""What there is: submissions and tasks, without importing them.

How to run it: python -m local_eval list
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable
from pathlib import Path

from local_eval.runs.submissions import parse_source, submission_names, submission_path
from local_eval.tasks.names import split_spec, task_names


def list_all(options: argparse.Namespace) -> int:
    """Submissions and tasks, with the first line of what their files say of them."""
    print_submissions()
    _print("tasks", task_names(), lambda name: split_spec(name)[0])
    return 0


def print_submissions() -> None:
    """The submissions that come with the kit."""
    _print("submissions", submission_names(), submission_path)


def _print(title: str, names: list[str], path_of: Callable[[str], Path]) -> None:
    print(f"{title}:")
    for name in names:
        text = ast.get_docstring(parse_source(path_of(name))) or ""
        print(f"  {name:<22}{text.partition(chr(10))[0]}")
