"""What a spec's brackets change in a task: its network, what it starts from, its recipe, its original model.

    --net resnet34    --start weights.pth    --epochs 3    --lr 0.01    --recipe optimizer=sgd    --original model.pth

The task's own original model and oracles belong to its own network and recipe. Where these change, both are left out,
and trained as the changed task says; an original that is given beside the change stays.

How it is used: `changed(task, changes)` in load.py; names.py says how changes are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from local_eval.engine.files import user_path
from local_eval.tasks.names import NET, OF_RECIPE, ORIGINAL, START, TaskError
from local_eval.tasks.networks import network
from local_eval.tasks.task import Task


def changed(task: Task, changes: Mapping[str, object]) -> Task:
    """The task with these changes, and notes on what they left out.

    Raises:
        TaskError: a change that this task cannot have.
    """
    before = task
    if NET in changes:
        size = tuple(task.retain.images.shape[2:])
        start = None if START not in changes else task.start
        task = replace(task, make_net=network(changes[NET], task.num_classes, size), start=start)
    if START in changes:
        task = replace(task, start=_file(changes[START]))
    task = _with_recipe(task, {name: changes[name] for name in OF_RECIPE if name in changes})
    if (task.make_net, task.start, task.recipe) != (before.make_net, before.start, before.recipe):
        task = _without_its_own(task, changes)
    if ORIGINAL in changes:
        task = replace(task, original=_file(changes[ORIGINAL]))
    return task


def _file(given: object) -> Path:
    return user_path(str(given)).absolute()


def _with_recipe(task: Task, fields: dict[str, object]) -> Task:
    if fields.keys() - {"batch_size"} and task.train is not None:
        raise TaskError(
            f"the task {task.name} trains by a function of its own (Task.train), which no recipe changes; leave "
            f"{', '.join(sorted(fields))} out, or change the function"
        )
    return replace(task, recipe=replace(task.recipe, **fields))


def _without_its_own(task: Task, changes: Mapping[str, object]) -> Task:
    """Without the original model and the oracles that come with it, which are of another network or recipe."""
    left = [name for name, there in (("original model", task.original), ("oracles", task.oracles)) if there is not None]
    what = ", ".join(name for name in changes if name != ORIGINAL)
    notes = (f"{what} changed: the {' and '.join(left)} that the task brings along do not fit, and are trained",)
    return replace(task, original=None, oracles=None, notes=task.notes + (notes if left else ()))
