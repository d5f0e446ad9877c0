"""A loaded task as one file, for machines that have neither its file nor its data.

It holds the splits as arrays and, since a network is made by code, the rest as a pickle. So it is only for the owner's
own machines: it travels from the command line to the nodes of a cluster, is never read by the driver, and is no format
to pass on.

How it is used: `boxed(spec)` on the driver, and the spec `spec_of(file)` wherever a task is named, on a node.
"""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from local_eval.store.sealed import seal, unseal
from local_eval.tasks.loading import load_task
from local_eval.tasks.names import SPLITS, TaskError
from local_eval.tasks.task import Split, Task

STAYS = ("original", "oracles", "notes")  # fields that only the driver has a use for
REST = "rest"


@lru_cache(maxsize=1)
def boxed(spec: str) -> bytes:
    """The content of a task's file."""
    import cloudpickle  # here, since only a cluster needs the package

    task = load_task(spec)
    arrays = {
        f"{name}.{field}": tensor.cpu().contiguous().numpy()
        for name, split in task.splits.items()
        for field, tensor in split.tensors().items()
    }
    rest = {f.name: getattr(task, f.name) for f in fields(Task) if f.name not in SPLITS + STAYS}
    rest["seen as"] = {name: (split.mean, split.std) for name, split in task.splits.items()}
    rest["fingerprint"] = task.fingerprint()
    own = [module for name, module in sys.modules.items() if name.startswith("task_")]  # as loading.py names them
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        arrays[REST] = np.frombuffer(cloudpickle.dumps(rest), np.uint8)
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)
    return seal(arrays)


def spec_of(file: Path) -> str:
    """How the task in such a file is named."""
    return f"{Path(__file__).resolve()}:{file}"


def task(where: Path) -> Task:
    """The task in a file, as it was on the driver. Raises TaskError if this machine makes another one of it."""
    import cloudpickle

    arrays, _ = unseal(where)
    rest = cloudpickle.loads(arrays.pop(REST).tobytes())
    fingerprint, seen = rest.pop("fingerprint"), rest.pop("seen as")
    splits = {}
    for name in SPLITS:
        mine = {field.partition(".")[2]: v for field, v in arrays.items() if field.startswith(f"{name}.")}
        split = Split(**{field: torch.from_numpy(value) for field, value in mine.items()})
        splits[name] = replace(split, mean=seen[name][0], std=seen[name][1])
    found = Task(**rest, **splits)
    if found.fingerprint() != fingerprint:
        raise TaskError(
            f"this node makes another task of what was sent ({found.fingerprint()}, not {fingerprint}); it needs the "
            "driver's versions of torch and torchvision"
        )
    return found
