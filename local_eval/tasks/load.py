"""Import a task's file, build the task and check it.

How to see the tasks: python -m local_eval list
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from local_eval.engine.errors import InputError
from local_eval.engine.files import user_path
from local_eval.tasks.beside import builtins_for, forget_modules_of, is_own
from local_eval.tasks.changes import changed
from local_eval.tasks.check import check_task
from local_eval.tasks.check_network import said
from local_eval.tasks.names import TaskError, split_changes, split_spec
from local_eval.tasks.own_code import Coded
from local_eval.tasks.task import Task
from local_eval.tasks.weights import task_with_plain_weights


def load_task(spec: str | os.PathLike, tried: bool = False) -> Task:
    """Load and check a task by name ('digits'), name and place ('cifar10:/data') or path ('my_task.py', 'faces.csv').

    Changes in brackets behind it (names.py) are made: 'digits[epochs=3]'.

    Args:
        tried: its network has been tried in the process that asks this one to work.
    Raises:
        TaskError: no such task, its file has no `task()`, or its data cannot be read or graded.
    """
    spec, changes = split_changes(os.fspath(spec))
    path, where = split_spec(spec)
    task = _call(task_module(path).task, spec, path, where)
    return ready(changed(task, changes), path, user_path(where) if where else path, tried)


def ready(task: Task, path: Path, place: Path, tried: bool = False) -> Task:
    """A task with its own weights and functions as all stages take them, checked.

    Args:
        path: the task's file, from whose folder relative paths in it count.
        place: what errors name: a person's data rather than our module.
        tried: as in `load_task`.
    Raises:
        TaskError: it cannot be graded.
    """
    if task.train is not None:
        task = replace(task, train=Coded.of(task.train, f"{place}: Task.train"))
    task = task_with_plain_weights(task, path, place)
    check_task(task, place, tried)
    return task


def _call(function: Callable, spec: str, path: Path, where: str | None) -> Any:
    """Call a task file's `task` or `download` with the place of its data, if there is one; raises TaskError."""
    parameters = inspect.signature(function).parameters
    if where is not None and not parameters:
        raise TaskError(f"the task {path.stem} reads no files, so it cannot use {where}; leave ':{where}' out")
    if where is None and any(p.default is p.empty for p in parameters.values()):
        raise TaskError(f"the task {path.stem} needs data: --task {spec}:PATH. {inspect.getdoc(function) or ''}")
    with telling(path, f"{function.__name__}()"):
        return function(*([] if where is None else [user_path(where)]))


@contextlib.contextmanager
def telling(path: Path, what: str) -> Iterator[None]:
    """An error in a person's own file becomes a TaskError with the line; one in the kit's stays what it is."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        if not is_own(path):
            raise
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if is_own(Path(frame.filename))]
        own = [frame for frame in own if Path(frame.filename).is_relative_to(path.parent)] or own
        where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
        raise TaskError(f"{path}: {what} fails{where}: {said(error)}") from error


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
    """The imported file of a task. Raises TaskError if it has no function `task` or cannot be imported."""
    module_spec = importlib.util.spec_from_file_location(f"task_{path.stem}", path)
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses look their module up there
    if is_own(path):
        forget_modules_of(path.parent)
        module.__builtins__ = builtins_for(path.parent)
    with telling(path, "importing it"):
        module_spec.loader.exec_module(module)
    if not hasattr(module, "task"):
        raise TaskError(f"{path} defines no function task(); see local_eval/tasks/digits.py")
    return module
