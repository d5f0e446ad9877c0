"""Find a task's file by its name, without importing it: a typo should not wait for torch."""

from __future__ import annotations

import re
from pathlib import Path

from local_eval.engine.errors import InputError

TASKS = Path(__file__).parent


class TaskError(InputError):
    """The task cannot be used; the message names the file or split, what is wrong and what to do."""


def split_spec(spec: str) -> tuple[Path, str | None]:
    """The file of a task, and the place of its data if the spec names one: 'cifar10:/data' or 'my_task.py:/data'.

    Raises:
        TaskError: there is no such task; the message lists the names that exist.
    """
    name, colon, where = spec.partition(":")
    if name not in task_names():
        head, colon, where = spec.partition(".py:") if ".py:" in spec else (spec.removesuffix(".py"), "", "")
        name = f"{head}.py" if colon or spec.endswith(".py") else spec
    path = Path(name) if name.endswith(".py") else TASKS / f"{name}.py"
    if not path.is_file() or (path.parent == TASKS and name not in task_names()):
        raise TaskError(
            f"no task {name!r}: {path} does not exist. Known: {', '.join(task_names())}, or a path to a .py file"
        )
    return path.resolve(), where if colon else None


def task_names() -> list[str]:
    """Names of the tasks that come with the kit."""
    return sorted(p.stem for p in TASKS.glob("*.py") if re.search(r"^def task\(", p.read_text(), re.MULTILINE))
