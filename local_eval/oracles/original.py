"""The original model, which is to unlearn: the task's own, or one trained on retain and forget set.

Kept as original.npz: the state dict as arrays, with a checksum (store/sealed.py). Another one that is given, by
`--original FILE` or in an edited task, has a file and runs of its own beside it, so that none is in the other's way.
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from local_eval.isolation.cards import kind_of
from local_eval.isolation.child import Failure
from local_eval.isolation.pool import Progress
from local_eval.isolation.share_gpu import run_on_device
from local_eval.oracles.train_many import Layout, Trainer
from local_eval.store.errors import WorkError
from local_eval.store.files import locked, write_atomically
from local_eval.store.provenance import versions
from local_eval.store.records import UNREADABLE, Record, RecordError
from local_eval.store.sealed import ABOUT, DamagedFile, load_state, seal_state, unseal
from local_eval.store.workspace import Workspace
from local_eval.tasks.evaluate import evaluate
from local_eval.tasks.loading import load_task
from local_eval.tasks.task import Task
from local_eval.tasks.weights import digest_of

ORIGINAL_SEED = 0
USUAL = "original.npz"


def original_file(task: Task, fingerprint: str, folder: Path, apart: bool = False) -> Path:
    """Where in a task's folder its original model is kept, or is to be: a file of its own if there is another one.

    Args:
        apart: the model is not the task's own, and is not to take its place.
    """
    usual = folder / USUAL
    about = _about(usual)
    there = about is not None and about.get("fingerprint") == fingerprint
    if task.original is None:
        return folder / "original-trained.npz" if there and about.get("given") else usual
    if there and _fits(load_state(usual), task):
        return usual
    return folder / f"original-{digest_of(task.original)}.npz" if there or apart else usual


def _about(path: Path) -> dict | None:
    """What a file made by `save_original` says of itself; None if there is none, or a damaged one."""
    try:
        about = json.loads(str(unseal(path)[0][ABOUT]))
        return about if isinstance(about, dict) else None
    except (OSError, DamagedFile, KeyError, ValueError, TypeError):  # an unusable folder is told where it is written to
        return None


def finish_original(task: Task, fingerprint: str, path: Path, device: str, spec: str = "") -> Path:
    """Train the original model on retain and forget, or take the task's own, unless `path` holds it; returns the path.

    On a GPU it is trained in a worker, which also evaluates it: this process keeps off the card (isolation/cards.py).

    Args:
        spec: of the task, for the worker.
    Raises:
        OutputError: the folder is in use, read-only or full.
        WorkError: the worker could not train it.
    """
    with locked(path.parent):
        if _is_original(path, task, fingerprint):
            return path
        state = task.original or _of_earlier_version(path.with_suffix(".pt"), task, fingerprint)
        if state is None and kind_of(device) != "cpu":
            _made_on_a_card(_Wanted(spec, fingerprint, path), device)
            return path
        if state is None:
            state = trained_original(task, device)
        save_original(path, state, fingerprint, given=task.original is not None)
    return path


def trained_original(task: Task, device: str) -> dict[str, Tensor]:
    """Train it as oracles are trained, alone."""
    task = task.to(device)
    examples, recipe = task.retain + task.forget, task.recipe
    steps = recipe.epochs * -(-len(examples) // recipe.batch_size)
    with Progress(steps, "training the original model", "step") as progress:
        (net,) = Trainer(task, examples, Layout(1)).train([ORIGINAL_SEED], partial(progress.update, 1))
    return {name: value.cpu() for name, value in net.state_dict().items()}


@dataclass(frozen=True)
class _Wanted:
    """What a worker needs to make the original model, or to evaluate it if it is there."""

    task: str
    fingerprint: str
    path: Path


def _made_on_a_card(wanted: _Wanted, device: str) -> None:
    """Raises WorkError."""
    ((_, result),) = run_on_device(device, _make, wanted, [0], 1, None, "the original model", one_each=True)
    if isinstance(result, Failure):
        raise WorkError(f"the original model could not be trained or evaluated: {result.as_text().rstrip()}")


def _make(wanted: _Wanted, _: int) -> None:
    """In a worker, on its card: train it unless it is there, and evaluate it."""
    task = load_task(wanted.task, tried=True)
    if not _is_original(wanted.path, task, wanted.fingerprint):
        save_original(wanted.path, trained_original(task, "cuda"), wanted.fingerprint)
    _evaluate(task, wanted.fingerprint, wanted.path, "cuda", Workspace(wanted.path.parent))


def save_original(path: Path, state: dict[str, Tensor], fingerprint: str, given: bool = False) -> None:
    """Write a state dict, which was given or else trained here; raises OutputError."""
    write_atomically(path, seal_state(state, {"fingerprint": fingerprint} | ({"given": True} if given else {})))


def original_record(
    task: Task, fingerprint: str, path: Path, device: str, workspace: Workspace, spec: str = ""
) -> Record:
    """How the original model in `path` does on the task; measured once, then read from beside it.

    Args:
        spec: of the task, for the worker that measures it on a GPU.
    Raises:
        WorkError: the worker could not.
    """
    shape = len(task.forget), task.num_classes
    with contextlib.suppress(FileNotFoundError, RecordError):
        return workspace.load(*_evaluation_of(path, fingerprint), shape)
    if kind_of(device) == "cpu":
        return _evaluate(task, fingerprint, path, device, workspace)
    _made_on_a_card(_Wanted(spec, fingerprint, path), device)
    return workspace.load(*_evaluation_of(path, fingerprint), shape)


def _evaluation_of(path: Path, fingerprint: str) -> tuple[Path, dict]:
    """Where the original model's evaluation is kept, and what it must be of."""
    identity = {"kind": "original", "task": fingerprint, "original": original_digest(path)}
    return path.with_name(f"{path.stem}_evaluation.npz"), identity


def _evaluate(task: Task, fingerprint: str, path: Path, device: str, workspace: Workspace) -> Record:
    task = task.to(device)
    net = task.make_net().to(device)
    net.load_state_dict(load_state(path))
    about, identity = _evaluation_of(path, fingerprint)
    record = Record(evaluate(net, task), identity, versions(device))
    workspace.save(about, record)
    return record


@lru_cache(maxsize=2048)  # there may be as many originals as runs
def _digest_of(path: Path, changed_ns: int) -> str:
    return digest_of(load_state(path))


def original_digest(path: Path) -> str:
    """Short hash of the original model's weights: runs from another original are not comparable."""
    return _digest_of(path, path.stat().st_mtime_ns)


def holds_weights(path: Path, fingerprint: str) -> bool:
    """Does a file made by `save_original` hold, undamaged, a model of this task?"""
    return (_about(path) or {}).get("fingerprint") == fingerprint


def _is_original(path: Path, task: Task, fingerprint: str) -> bool:
    try:
        about = json.loads(str(unseal(path)[0][ABOUT]))
        if about["fingerprint"] == fingerprint and _fits(load_state(path), task):
            return True
        reason = "belongs to another task or was given anew"
    except FileNotFoundError:
        return False
    except DamagedFile as error:
        reason = str(error).removeprefix(f"{path} ")
    except UNREADABLE:
        reason = "holds no original model"
    print(f"{path} {reason}; making it again", file=sys.stderr)
    return False


def _fits(state: dict[str, Tensor], task: Task) -> bool:
    """Does the task's network take it, and is it the task's own, if the task has one?"""
    try:
        task.make_net().load_state_dict(state)
    except RuntimeError:
        return False
    return all(state[name].equal(value) for name, value in (task.original or {}).items())


def _of_earlier_version(path: Path, task: Task, fingerprint: str) -> dict[str, Tensor] | None:
    """What a version before the checksums left; it was trained, so it is worth reading once."""
    with contextlib.suppress(Exception):  # torch.load has no common base for what a damaged file can raise
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["fingerprint"] == fingerprint and _fits(content["state"], task):
            return content["state"]
    return None
