"""The oracles: models retrained from scratch without the forget set, and a file of them for others.

They depend on the task alone, so they are made once per task fingerprint, shared by all submissions, and extended when
more are asked for. Of an oracle only what the score needs is kept: the forget set's logits and the two accuracies.

How to run this stage: python -m local_eval oracles --task digits --runs 64
"""

from __future__ import annotations

import contextlib
import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from local_eval.cluster.node import Parcel, taken_from
from local_eval.isolation.cards import kind_of
from local_eval.isolation.child import Failure
from local_eval.isolation.share_gpu import Engine, run_on_device
from local_eval.oracles.original import holds_weights, save_original
from local_eval.oracles.train_many import Trainer
from local_eval.store.errors import WorkError
from local_eval.store.files import locked, write_atomically
from local_eval.store.provenance import versions
from local_eval.store.records import (
    UNREADABLE,
    Controls,
    Evaluation,
    Record,
    RecordError,
    check_values,
    controls_in,
    plain_facts,
    record_path,
    save_record,
)
from local_eval.store.sealed import LONGEST, DamagedFile, seal, unseal_bytes
from local_eval.store.workspace import Workspace
from local_eval.tasks.data.box import boxed, spec_of
from local_eval.tasks.evaluate import evaluate
from local_eval.tasks.loading import load_task
from local_eval.tasks.names import TaskError

# Oracles as one small file, so that whoever trained them on a GPU saves all others the training.
#
# A score needs of an oracle only the forget set's logits and two accuracies: 512 oracles of the competition's size
# take 10 MB. A file fits one exact task: data, network, recipe and training code, by fingerprint.
#
# How to use it: python -m local_eval oracles --task T --runs 512 --save-pool FILE.npz
#                python -m local_eval oracles --task T --runs 512 --load-pool FILE.npz


def save_pool(records: list[Record], path: Path) -> None:
    """Write oracles 0, 1, 2 ... to one compressed file; raises OutputError."""
    write_atomically(path, pool_bytes(records))


def pool_bytes(records: list[Record]) -> bytes:
    """The content of a file of oracles, or of other models of one task."""
    accuracies = np.array([(r.evaluation.retain_accuracy, r.evaluation.test_accuracy) for r in records])
    about = json.dumps({"identities": [r.identity for r in records], "facts": [r.facts for r in records]})
    logits = np.stack([r.evaluation.forget_logits for r in records])
    arrays = {"forget_logits": logits, "accuracies": accuracies, "about": np.array(about)}
    controls = [r.evaluation.controls for r in records]
    if all(controls):
        arrays |= {f.name: np.stack([getattr(c, f.name) for c in controls]) for f in fields(Controls)}
    return seal(arrays, compressed=True)


def pool_size(path: Path) -> int:
    """How many oracles a file says that it holds; 1 if it cannot be read, which `load_pool` reports."""
    try:
        with zipfile.ZipFile(path) as whole, whole.open("accuracies.npy") as array:
            np.lib.format.read_magic(array)
            return np.lib.format.read_array_header_1_0(array)[0][0]  # of an array [N, 2], which is not read
    except (OSError, EOFError, zipfile.BadZipFile, *UNREADABLE, IndexError):
        return 1


def load_pool(path: Path, identity: Callable[[int], dict], shape: tuple[int, int]) -> list[Record]:
    """The oracles in a file, verified against what oracle 0, 1, 2 ... of a task must be.

    Args:
        shape: (E, C) of one oracle's logits.
    Raises:
        RecordError: the file cannot be read, is damaged, or its oracles are of another task.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise RecordError(f"{path} is no file of oracles ({type(error).__name__}: {error})") from error
    return pool_in(content, path, identity, shape)


def pool_in(
    content: bytes, path: Path | str, identity: Callable[[int], dict], shape: tuple[int, int], most: int | None = None
) -> list[Record]:
    """As `load_pool`, of the content of a file; `path` names it in errors.

    Args:
        most: bytes that all arrays together may take; None for no limit.
    Raises:
        RecordError: it is damaged, or its oracles are of another task.
    """
    try:
        arrays, _ = unseal_bytes(content, path, most)
        logits, accuracies, about = arrays["forget_logits"], arrays["accuracies"], json.loads(str(arrays["about"]))
        identities, facts = list(map(dict, about["identities"])), list(map(plain_facts, about["facts"]))
        if len(identities) != len(facts):
            raise ValueError(f"it names {len(identities)} oracles and tells of {len(facts)}")
    except (DamagedFile, *UNREADABLE) as error:
        text = f"{type(error).__name__}: {str(error)[:LONGEST]}"
        raise RecordError(f"{path} is no file of oracles ({text})") from error
    count = len(identities)
    foreign = [k for k in range(count) if identities[k] != identity(k)]
    if foreign:
        raise RecordError(
            f"{path} holds oracles of another task, or of another version of it: "
            f"{str(identities[foreign[0]])[:LONGEST]}, expected {identity(foreign[0])}"
        )
    check_values(path, logits, accuracies, (count, *shape), (count, 2))
    together = controls_in(path, arrays, (count,))
    return [
        Record(Evaluation(one, float(ra), float(ta), _nth(together, k)), identities[k], facts[k])
        for k, (one, (ra, ta)) in enumerate(zip(logits, accuracies))
    ]


def _nth(together: Controls | None, k: int) -> Controls | None:
    return Controls(*(getattr(together, f.name)[k] for f in fields(Controls))) if together else None


def unpack_pool(records: list[Record], folder: Path) -> None:
    """Put oracles where the grader looks for them, but for those that are there already."""
    with locked(folder):
        for k, record in enumerate(records):
            if not record_path(folder, k).exists():
                save_record(record_path(folder, k), record)


FIRST_ORACLE_SEED = 1_000_000  # far from the original's, so that none starts from its weights
FIRST_ORIGINAL_SEED = 2_000_000  # of the further originals that `headroom` and `--originals` need


@dataclass(frozen=True)
class OraclePlan:
    """What a worker needs to train a job of oracles, or of more originals."""

    task: str
    task_fingerprint: str
    device: str
    models_per_job: int
    forget_too: bool = False  # train on the forget set as well: another original model, not an oracle
    weights: Path | None = None  # folder in which to keep the weights, too, of the models below `keep`
    keep: int = 0

    @property
    def kind(self) -> str:
        return "original" if self.forget_too else "oracle"

    def identity(self, index: int) -> dict:
        """What must agree for a cached model to be this one."""
        return {"kind": self.kind, "task": self.task_fingerprint, "index": index}

    def lacks_weights(self, index: int) -> bool:
        """Are this model's weights to be kept, and not there?"""
        if self.weights is None or index >= self.keep:
            return False
        return not holds_weights(record_path(self.weights, index), self.task_fingerprint)

    # The rest is for cluster/, which says what each is for.

    def luggage(self) -> list[Parcel]:
        """The task alone."""
        return [{"task.npz": boxed(self.task)}]

    def moved(self, folders: list[Path], left: Path) -> OraclePlan:
        """The same plan in the folder of its parcel; weights go to the folder `left`."""
        weights = self.weights and left
        device = self.device.partition(":")[0]
        return replace(self, task=spec_of(folders[0] / "task.npz"), device=device, weights=weights)

    def reported(self, result: dict[int, Record] | Failure, index: int, folders: list[Path]) -> tuple:
        """As it is, since oracles name no files, and the weights, if they are kept."""
        return result, taken_from(self.weights, (record_path(Path(), k).name for k in self.indices(index)))

    def take(self, files: dict[str, bytes], index: int) -> None:
        """Write the weights that came with job `index`. Raises OutputError."""
        for k in self.indices(index):
            if self.lacks_weights(k) and (name := record_path(Path(), k).name) in files:
                write_atomically(self.weights / name, files[name])

    def indices(self, job: int) -> range:
        """The models that a job makes."""
        return range(job * self.models_per_job, (job + 1) * self.models_per_job)

    def is_known(self) -> bool:
        """The task is all that is read."""
        return True

    def having_made(self, result: dict[int, Record]) -> OraclePlan:
        """Nothing is learned from it."""
        return self


def finish_oracles(
    plan: OraclePlan,
    folder: Path,
    count: int,
    shape: tuple[int, int],
    workers: int | None,
    engine: Engine | None = None,
    before_training: Callable[[], None] = lambda: None,
    workspace: Workspace | None = None,
) -> list[Record]:
    """Train the oracles 0..count-1 that are not in `folder` yet, and return them.

    Oracles are trained in jobs of a few, always the same ones together, so that each is the same to the bit on a CPU
    whichever were missing. The last job may make some more than were asked for; they are kept. There is no time limit:
    the loop is our own, and one oracle may take two seconds or an hour, as task and machine will have it.

    Args:
        engine: makes the jobs; None for processes of this machine.
        before_training: called if any is missing.
        workspace: which knows what was read; None for one of this call alone.
    Raises:
        WorkError: an oracle could not be trained; the others are kept.
        OutputError: the folder is in use, read-only or full; what was finished is kept.
    """
    workspace = workspace or Workspace(folder.parent)
    with locked(folder):
        size = plan.models_per_job
        done = workspace.read(folder, plan.identity, -(-count // size) * size, shape)  # whole jobs
        missing = sorted({k // size for k in range(count) if k not in done or plan.lacks_weights(k)})
        if missing:
            before_training()
        failures = {}
        if engine:
            jobs = engine.run_jobs(one_job, plan, missing, workers, None, f"{plan.kind}s", models=size)
        else:
            there = replace(plan, device=kind_of(plan.device))
            how = (workers, None, f"{plan.kind}s", size, True)  # training fills a card by itself
            jobs = run_on_device(plan.device, one_job, there, missing, *how)
        with contextlib.closing(jobs):  # an error in here stops the workers at once
            for job, result in jobs:
                if isinstance(result, Failure):
                    failures[job * size] = result
                    continue
                for index, record in result.items():
                    if index not in done:
                        workspace.save(record_path(folder, index), record)
                        done[index] = record
    if failures:
        index, failure = next(iter(failures.items()))
        raise WorkError(
            f"{len(failures)} of {len(missing)} jobs failed, each with {size} {plan.kind}s; "
            f"from {plan.kind} {index}: {failure.reason}\n{failure.traceback}"
        )
    return [done[k] for k in range(count)]


def one_job(plan: OraclePlan, job: int) -> dict[int, Record]:
    """Train and evaluate a job's oracles, in this process; returns them by index."""
    trainer = trainer_of(plan.task, plan.device, plan.forget_too)
    indices = plan.indices(job)
    start = time.perf_counter()
    seeds = [(FIRST_ORIGINAL_SEED if plan.forget_too else FIRST_ORACLE_SEED) + index for index in indices]
    evaluations = []
    for index, net in zip(indices, trainer.train(seeds)):
        evaluations.append(evaluate(net, trainer.task))
        if plan.lacks_weights(index):
            save_original(record_path(plan.weights, index), net.state_dict(), plan.task_fingerprint)
    for index, evaluation in zip(indices, evaluations):
        if not np.isfinite(evaluation.forget_logits).all():
            raise TaskError(f"{plan.kind} {index} diverged: its outputs are NaN or infinite. Change the task's recipe")
    facts = {"seconds": (time.perf_counter() - start) / len(indices), **versions(plan.device)}
    return {index: Record(e, plan.identity(index), facts) for index, e in zip(indices, evaluations)}


@lru_cache(maxsize=1)
def trainer_of(spec: str, device: str, forget_too: bool = False, tf32: bool = False) -> Trainer:
    """This process's trainer for a task, on its retain set or on retain and forget set; what it measured is kept."""
    task = load_task(spec, tried=True).to(device)
    return Trainer(task, task.retain + task.forget if forget_too else task.retain, tf32=tf32)
