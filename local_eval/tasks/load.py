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

from torch import nn

from local_eval.engine.errors import InputError
from local_eval.engine.files import user_path
from local_eval.engine.randomness import seeded
from local_eval.tasks.beside import builtins_for, forget_modules_of, is_own
from local_eval.tasks.changes import changed
from local_eval.tasks.check import check_task
from local_eval.tasks.check_network import said
from local_eval.tasks.names import TaskError, split_changes, split_spec
from local_eval.tasks.own_code import Coded
from local_eval.tasks.task import Task
from local_eval.tasks.weights import name_of, original_state, read_given, start_state


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
        path: the task's file; relative paths in it count from its folder.
        place: what errors name: a person's data rather than our module.
        tried: as in `load_task`.
    Raises:
        TaskError: it cannot be graded.
    """
    if task.train is not None:
        task = replace(task, train=Coded.of(task.train, f"{place}: Task.train"))
    task = _with_plain_weights(task, path.parent, place)
    check_task(task, place, tried)
    return task


def _with_plain_weights(task: Task, folder: Path, place: Path) -> Task:
    """The task with its `original` and `start` as checked state dicts, and notes on how they were read.

    Raises:
        TaskError, CheckpointError: they cannot be read, or do not fit the task's network.
    """
    if task.original is None and task.start is None:
        return task
    net, notes = _any_net(task, place), list(task.notes)
    if task.original is not None:
        name = name_of(task.original, f"{place}: Task.original")
        original, how = original_state(read_given(task.original, name, folder), net, name)
        notes += [f"the original model, {name}: {how}"] if how else []
        task = replace(task, original=original)
    if task.start is not None:
        name = name_of(task.start, f"{place}: Task.start")
        start, how = start_state(read_given(task.start, name, folder), net, name, task.num_classes)
        notes += [f"networks start from {name}: {how}"] if how else []
        task = replace(task, start=start)
    return replace(task, notes=tuple(dict.fromkeys(notes)))


def _any_net(task: Task, place: Path) -> nn.Module:
    try:
        with seeded(0):  # looking must not draw
            net = task.make_net()
    except Exception as error:  # whatever the owner's code raises
        raise TaskError(f"{place}: make_net fails with {type(error).__name__}: {error}") from error
    if not isinstance(net, nn.Module):
        raise TaskError(f"{place}: make_net gives a {type(net).__name__}, no network (torch.nn.Module)")
    return net


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
