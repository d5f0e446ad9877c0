"""Save a task of a Python session, so that any process and any later day can load it: a .py and a .npz beside it.

What is written is loaded again and compared with what was given: the same network from the same seed, weight by weight
and answer by answer, and the same fingerprint.

How it is used: `local_eval.save_task(task, "cells.py")`; `local_eval.grade(..., task=task)` does it by itself.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from local_eval.engine.files import write_atomically
from local_eval.engine.randomness import seeded
from local_eval.runs.net_text import net_text
from local_eval.tasks.load import ready, task_module
from local_eval.tasks.names import TaskError
from local_eval.tasks.own_code import Coded
from local_eval.tasks.saved import data_of
from local_eval.tasks.task import Task

MARK = "written by local_eval.save_task"
HEAD = f'''"""The task {{name}}, {MARK}. Its data is in the .npz file of the same name: keep both together."""

from __future__ import annotations

from local_eval.tasks.saved import saved_task
'''
TAIL = '''

def task():
    """The four splits, the recipe and this network."""
    return saved_task(__file__, {functions})
'''
SEED = 12


def save_task(task: Task, path: str | os.PathLike) -> Path:
    """Write a task to `path`, which ends in .py, and its data beside it; returns the path, which --task takes.

    Raises:
        TaskError: its network is more than text, or the file is there and is not one that this has written.
        OutputError: the folder cannot be written.
    """
    path = Path(path)
    if path.suffix != ".py":
        raise TaskError(f"{path}: a task's file ends in .py")
    for file in (path, path.with_suffix(".npz")):
        if file.exists() and not (path.is_file() and MARK in path.read_text(encoding="utf-8", errors="replace")):
            raise TaskError(f"{file} is there and was not written by save_task; give another name")
    task = ready(task, Path.cwd() / task.name, Path(task.name))
    text, data = _text_of(task), data_of(task)
    return _written(task, path, text, data)


def keep_task(task: Task, folder: Path) -> Path:
    """Write a task to a folder of its own in `folder`, named after its content, unless it is there; returns the path.

    Raises:
        TaskError, OutputError: as `save_task`.
    """
    task = ready(task, Path.cwd() / task.name, Path(task.name))
    text, data = _text_of(task), data_of(task)
    name = hashlib.sha256(text.encode() + data).hexdigest()[:12]
    path = folder / name / f"{task.name}.py"
    if path.is_file() and path.with_suffix(".npz").is_file() and path.read_text(encoding="utf-8") == text:
        return path.resolve()
    return _written(task, path, text, data)


def _text_of(task: Task) -> str:
    functions = {"make_net": task.make_net} | ({"train": task.train} if task.train is not None else {})
    return HEAD.format(name=task.name) + net_text(**functions) + TAIL.format(functions=", ".join(functions))


def _written(task: Task, path: Path, text: str, data: bytes) -> Path:
    write_atomically(path.with_suffix(".npz"), data)
    write_atomically(path, text.encode())
    try:
        again = task_module(path.resolve()).task()
        _compare(task, again)
    except BaseException as error:
        path.unlink()  # a file that makes another task would be worse than none
        path.with_suffix(".npz").unlink()
        if isinstance(error, TaskError) or not isinstance(error, Exception):
            raise
        told = f"its network, written out, does not work ({type(error).__name__}: {str(error)[:200]})"
        raise TaskError(f"{task.name}: {told}; write the task as a file (docs/tasks.md)") from error
    return path.resolve()


def _compare(task: Task, again: Task) -> None:
    """Raise TaskError unless both are one task."""
    images = task.retain.pixels(slice(0, 2)).cpu()
    one, other = (_drawn(each, images) for each in (task, again))
    same = one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    if not same or _without_code(again).fingerprint() != _without_code(task).fingerprint():
        raise TaskError(
            f"{task.name}: its network, written out, is another one: something that makes it has changed since it was "
            "defined, or is drawn anew each time. Define it again, or write the task as a file (docs/tasks.md)"
        )


def _without_code(task: Task) -> Task:
    """The task without what its fingerprint has of texts, which are other ones in a file."""
    make_net = task.make_net.function if isinstance(task.make_net, Coded) else task.make_net
    return replace(task, make_net=make_net, train=None, network="")


def _drawn(task: Task, images: Tensor) -> dict[str, Tensor]:
    """Weights and buffers of the network of one seed, and what it answers."""
    with seeded(SEED), torch.no_grad():
        net = task.make_net()
        state = {f"state {key}": value.clone() for key, value in net.state_dict().items()}
        return state | {"answer": torch.nan_to_num(net.eval()(images))}
