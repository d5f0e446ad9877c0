"""Import a task's file, build the task and check it.

How to see the tasks: python -m local_eval list
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from local_eval.engine.files import user_path
from local_eval.tasks.changes import changed
from local_eval.tasks.check import check_task
from local_eval.tasks.names import TaskError, split_changes, split_spec
from local_eval.tasks.own_code import Coded
from local_eval.tasks.task import Task
from local_eval.tasks.weights import task_with_plain_weights


def load_task(spec: str | os.PathLike) -> Task:
    """Load and check a task by name ('digits'), name and place ('cifar10:/data') or path ('my_task.py', 'faces.csv').

    Changes in brackets behind it (names.py) are made: 'digits[epochs=3]'.

    Raises:
        TaskError: no such task, its file has no `task()`, or its data cannot be read or graded.
    """
    spec, changes = split_changes(os.fspath(spec))
    path, where = split_spec(spec)
    task = _call(task_module(path).task, spec, path, where)
    return ready(changed(task, changes), path, user_path(where) if where else path)


def ready(task: Task, path: Path, place: Path) -> Task:
    """A task with its own weights and functions as all stages take them, checked.

    Args:
        path: the task's file, from whose folder relative paths in it count.
        place: what errors name: a person's data rather than our module.
    Raises:
        TaskError: it cannot be graded.
    """
    if task.train is not None:
        task = replace(task, train=Coded.of(task.train, f"{place}: Task.train"))
    task = task_with_plain_weights(task, path, place)
    check_task(task, place)
    return task


def _call(function: Callable, spec: str, path: Path, where: str | None) -> Any:
    """Call a task file's `task` or `download` with the place of its data, if there is one; raises TaskError."""
    parameters = inspect.signature(function).parameters
    if where is not None and not parameters:
        raise TaskError(f"the task {path.stem} reads no files, so it cannot use {where}; leave ':{where}' out")
    if where is None and any(p.default is p.empty for p in parameters.values()):
        raise TaskError(f"the task {path.stem} needs data: --task {spec}:PATH. {inspect.getdoc(function) or ''}")
    return function(*([] if where is None else [user_path(where)]))


def download_task(spec: str) -> None:
    """Fetch the data of a task that can be fetched, to the place that the spec names or the task's default.

    Raises:
        TaskError: the task has no `download`, or what its `download` raises.
    """
    spec, _ = split_changes(spec)
    path, where = split_spec(spec)
    module = task_module(path)
    if not hasattr(module, "download"):
        raise TaskError(f"the task {path.stem} has nothing to download; leave --download out")
    _call(module.download, spec, path, where)


def task_module(path: Path) -> ModuleType:
    """The imported file of a task. Raises TaskError if it has no function `task`."""
    module_spec = importlib.util.spec_from_file_location(f"task_{path.stem}", path)
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses look their module up there
    module_spec.loader.exec_module(module)
    if not hasattr(module, "task"):
        raise TaskError(f"{path} defines no function task(); see local_eval/tasks/digits.py")
    return module
