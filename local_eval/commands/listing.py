"""What there is: submissions and tasks, without importing them.

How to run it: python -m local_eval list
"""

from __future__ import annotations

import argparse
import ast

from local_eval.runs.submissions import parse_source, submission_names, submission_path
from local_eval.tasks.names import split_spec, task_names


def list_all(options: argparse.Namespace) -> int:
    """Submissions and tasks, with the first line of what their files say of them."""
    for title, names, path_of in (
        ("submissions", submission_names(), submission_path),
        ("tasks", task_names(), lambda name: split_spec(name)[0]),
    ):
        print(f"{title}:")
        for name in names:
            text = ast.get_docstring(parse_source(path_of(name))) or ""
            print(f"  {name:<22}{text.partition(chr(10))[0]}")
    return 0
