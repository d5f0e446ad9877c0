"""A task on disk in two files: NAME.py, a text with the network, and NAME.npz beside it, which holds data alone.

The .npz is sealed and never executed. The .py is an ordinary task file, so that whatever takes a task takes this one,
in any process; it calls `saved_task`. methods/task_files.py writes both.

How it is used: python -m local_eval grade my_method.py --task cells.py
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from local_eval.store.sealed import ABOUT, DamagedFile, seal, unseal
from local_eval.tasks.names import SPLITS, TaskError
from local_eval.tasks.own_code import forget_modules_of, module_in
from local_eval.tasks.recipe import Recipe
from local_eval.tasks.task import Split, Task

PLAIN = ("name", "num_classes", "class_counts", "class_names", "notes")  # fields of a Task that JSON can hold
KEPT = {*PLAIN, *SPLITS, "recipe", "oracles", "original", "start", "make_net", "train", "network"}
WEIGHTS = ("original", "start")  # state dicts; their tensors' names follow this and a dot


def data_of(task: Task) -> bytes:
    """What the .npz holds: all of a loaded task but its functions. Raises TaskError for what cannot be kept."""
    for field in fields(task):
        if field.name not in KEPT and getattr(task, field.name) != field.default:
            raise TaskError(f"{task.name}: its {field.name} cannot be saved; write the task as a file")
    arrays = {
        f"{name}.{field}": _array(tensor)
        for name, split in task.splits.items()
        for field, tensor in split.tensors().items()
    }
    for which in WEIGHTS:
        arrays |= {f"{which}.{name}": _array(value) for name, value in (getattr(task, which) or {}).items()}
    about: dict[str, Any] = {key: getattr(task, key) for key in PLAIN}
    about["recipe"] = asdict(task.recipe)
    about["oracles"] = None if task.oracles is None else str(Path(task.oracles).resolve())
    about["seen_as"] = {name: [split.mean, split.std] for name, split in task.splits.items()}
    try:
        text = json.dumps(about)
    except (TypeError, ValueError) as error:
        raise TaskError(f"{task.name}: its recipe cannot be saved ({error}); write the task as a file") from None
    return seal({ABOUT: np.array(text), **arrays})


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().numpy()


def saved_task(file: Path | str, make_net: Callable[[], nn.Module], train: Callable | None = None) -> Task:
    """The task of such a .py file, with the data in the .npz beside it.

    The file's text is part of the task's fingerprint: with another network in it, oracles are trained anew.

    Raises:
        TaskError: the .npz is missing, damaged or something else.
    """
    data = Path(file).with_suffix(".npz")
    try:
        arrays, _ = unseal(data)
        about = json.loads(str(arrays.pop(ABOUT)))
        seen_as = about.pop("seen_as")
        splits = {name: Split(**_tensors(arrays, f"{name}."), **_seen_as(*seen_as[name])) for name in SPLITS}
        about["recipe"] = Recipe(**{key: _tuples(value) for key, value in about["recipe"].items()})
        about["oracles"] = about["oracles"] and Path(about["oracles"])
        about |= {which: _tensors(arrays, f"{which}.") or None for which in WEIGHTS}
        more = {key: _tuples(value) for key, value in about.items()}
        network = hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]
        return Task(make_net=make_net, train=train, network=network, **splits, **more)
    except FileNotFoundError:
        raise TaskError(f"{data} is missing; it holds the data of the task beside it: keep both together") from None
    except (DamagedFile, KeyError, TypeError, ValueError) as error:
        raise TaskError(f"{data} holds no task that can be read ({error}); make and save it again") from None


def _tensors(arrays: dict[str, np.ndarray], start: str) -> dict[str, Tensor]:
    return {name.removeprefix(start): torch.from_numpy(v) for name, v in arrays.items() if name.startswith(start)}


def _seen_as(mean: list | None, std: list | None) -> dict[str, Any]:
    return {"mean": _tuples(mean), "std": _tuples(std)}


def _tuples(value: Any) -> Any:
    """JSON has lists only; tasks and recipes have tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def own_module(file: str, name: str, folder: str, digest: str) -> ModuleType:
    """A module of the user's own that a saved network needs, if its file is what it was.

    Args:
        file: its absolute path.
        name: as code in `folder` imports it.
        digest: `digest_of(file)` when the task was saved.
    Raises:
        TaskError: the file is missing, has changed, or cannot be imported.
    """
    path, place = Path(file), Path(folder)
    if not path.is_file():
        raise TaskError(f"{file} is missing; the task's network needs it. Put it there again, or save the task anew")
    if digest_of(path) != digest:
        raise TaskError(f"{file} has changed since the task was saved with its network; make and save the task again")
    module = module_in(place, name)
    if vars(module).setdefault("_digest", digest) != digest:  # read before the file was edited and saved again
        forget_modules_of(place)
        module = module_in(place, name)
        vars(module)["_digest"] = digest
    return module


def digest_of(path: Path) -> str:
    """sha256 of a file, or, if it belongs to a package, of all that package's .py files."""
    root = path.parent
    while (root.parent / "__init__.py").is_file():
        root = root.parent
    files = sorted(root.rglob("*.py")) if (root / "__init__.py").is_file() else [path]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
