"""The oracles: models retrained from scratch without the forget set, and a file of them for others.

They depend on the task alone, so they are made once per task fingerprint, shared by all submissions, and extended when
more are asked for. Of an oracle only what the score needs is kept: the forget set's logits and the two accuracies.

How to run this stage: python -m local_eval oracles --task digits --runs 64
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from local_eval.cluster.node import Parcel, taken_from
from local_eval.isolation.cards import card_name, kind_of
from local_eval.isolation.child import Failure
from local_eval.isolation.share_gpu import Engine, run_on_device
from local_eval.oracles.original import holds_weights, save_original
from local_eval.oracles.train_many import Trained, Trainer, steps_of, taking
from local_eval.store.errors import InputError, WorkError
from local_eval.store.files import OutputError, locked, own_folder, write_atomically
from local_eval.store.provenance import versions
from local_eval.store.records import (
    UNREADABLE,
    Controls,
    Evaluation,
    Record,
    RecordError,
    check_values,
    controls_in,
    load_record,
    plain_facts,
    record_path,
    save_record,
)
from local_eval.store.sealed import LONGEST, DamagedFile, seal, unseal_bytes
from local_eval.store.workspace import Workspace
from local_eval.tasks.data.box import boxed, spec_of
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
    desk: Path | None = None  # folder of the Desk, where there is one
    tf32: dict | None = None  # what the gate has found, if they are trained in TF32
    wanted: tuple[int, ...] = ()  # models to be taken from the desk; without any, a job makes those of its number

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
        return replace(self, task=spec_of(folders[0] / "task.npz"), device=kind_of(self.device), weights=weights)

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


class Desk:
    """A folder between the process that wants models and those that train: who takes which, how far, what is finished.

    A worker on a GPU knows best how many networks to train at once. So it takes as many as it can use, and the next
    ones when these are done; what is finished lies here at once and is not lost with it. All are small files, since
    either side may be killed at any time.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._told = 0.0

    def take(self, wanted: Iterable[int], most: int) -> list[int]:
        """Up to so many of the models that are wanted, for the caller alone."""
        taken = []
        for index in wanted:
            if len(taken) == most:
                break
            with contextlib.suppress(FileExistsError):
                (self.folder / f"{index}.taken").touch(exist_ok=False)
                taken.append(index)
        return taken

    def has(self, wanted: Iterable[int]) -> bool:
        """Is there one that nobody has taken?"""
        return any(not (self.folder / f"{index}.taken").exists() for index in wanted)

    def tell(self, models: float, now: bool = False) -> None:
        """How much this process has done of models that are not finished; written at most twice a second."""
        if now or time.monotonic() - self._told > 0.5:
            self._told = time.monotonic()
            with contextlib.suppress(OSError):  # a full disk is told by those who keep something
                (self.folder / f"{os.getpid()}.part").write_text(f"{models:.3f}")

    def leave(self, index: int, record: Record) -> bool:
        """Put a finished model there; False if there is no room for it."""
        with contextlib.suppress(OutputError):
            save_record(record_path(self.folder, index), record)
            return True
        return False

    def under_way(self) -> float:
        """What all processes together have done of models that are not finished."""
        parts = 0.0
        for path in self.folder.glob("*.part"):
            with contextlib.suppress(OSError, ValueError):  # being written
                parts += float(path.read_text())
        return parts

    def collect(self, plan: OraclePlan, shape: tuple[int, int]) -> dict[int, Record]:
        """The models that were left since the last time. Raises RecordError."""
        found = {}
        for path in sorted(self.folder.glob("[0-9]*.npz")):
            index = int(path.stem)
            found[index] = load_record(path, plan.identity(index), shape)
            path.unlink()
        return found


class _Incoming:
    """Models as they come in: saved, and counted."""

    def __init__(self, plan: OraclePlan, folder: Path, shape: tuple[int, int], done: dict, workspace: Workspace):
        self.plan, self.folder, self.shape, self.done, self.workspace = plan, folder, shape, done, workspace
        self.came: set[int] = set()

    def save(self, made: dict[int, Record]) -> None:
        """Raises OutputError."""
        for index, record in made.items():
            self.came.add(index)
            if index not in self.done:
                self.workspace.save(record_path(self.folder, index), record)
                self.done[index] = record

    def look(self) -> float:
        """Save what lies on the desk; how many models are made, those in training counted by their steps."""
        desk = Desk(self.plan.desk)
        under_way = desk.under_way()  # before those that are finished: none is to be counted twice
        self.save(desk.collect(self.plan, self.shape))
        return len(self.came) + under_way


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

    On a CPU they are trained in jobs of a few, always the same ones together, so that each is the same to the bit
    whichever were missing. The last job may make some more than were asked for; they are kept. On this machine's GPU
    one process trains, as many at once as are best, and takes them as it goes. There is no time limit: the loop is
    our own, and one oracle may take two seconds or an hour, as task and machine will have it.

    Args:
        workers: processes on a CPU; `--workers` means processes that make runs, and a GPU has one that trains.
        engine: makes the jobs; None for processes of this machine.
        before_training: called if any is missing.
        workspace: which knows what was read; None for one of this call alone.
    Raises:
        WorkError: an oracle could not be trained; the others are kept.
        OutputError: the folder is in use, read-only or full; what was finished is kept.
    """
    workspace = workspace or Workspace(folder.parent)
    on_card = engine is None and kind_of(plan.device) != "cpu"
    if on_card:
        plan = replace(plan, models_per_job=1)
    with locked(folder):
        size = plan.models_per_job
        done = workspace.read(folder, plan.identity, -(-count // size) * size, shape)  # whole jobs
        missing = sorted({k // size for k in range(count) if k not in done or plan.lacks_weights(k)})
        if missing:
            before_training()
            with own_folder() as desk:
                plan = replace(plan, desk=None if engine else desk, wanted=tuple(missing) if on_card else ())
                incoming = _Incoming(plan, folder, shape, done, workspace)
                failures = _trained(incoming, missing, workers, engine)
            _check_all_there(plan, missing, incoming.came, failures)
    return [done[k] for k in range(count)]


def _trained(incoming: _Incoming, missing: list[int], workers: int | None, engine: Engine | None) -> dict[int, Failure]:
    """Have jobs made, and what they make saved; returns why jobs failed, by their first model."""
    plan, failures, title = incoming.plan, {}, f"{incoming.plan.kind}s"
    if engine:
        jobs = engine.run_jobs(one_job, plan, missing, workers, None, title, models=plan.models_per_job)
    else:
        there, how = replace(plan, device=kind_of(plan.device)), (workers, None, title, plan.models_per_job)
        jobs = run_on_device(plan.device, one_job, there, missing, *how, one_each=True, reached=incoming.look)
    try:
        with contextlib.closing(jobs):  # an error in here stops the workers at once
            for job, result in jobs:
                if isinstance(result, Failure):
                    failures[job * plan.models_per_job] = result
                else:
                    incoming.save(result)
    finally:
        if plan.desk:  # what was finished a moment before the end, whatever ended it
            incoming.look()
    return failures


def _check_all_there(plan: OraclePlan, missing: list[int], came: set[int], failures: dict[int, Failure]) -> None:
    """Raise WorkError, with the first reason, if some were not made."""
    lost = f"{len(failures)} of {len(missing)} jobs failed, each with {plan.models_per_job} {plan.kind}s"
    if plan.wanted:
        if not (without := set(plan.wanted) - came):
            return
        lost = f"{len(without)} of {len(plan.wanted)} {plan.kind}s were not made"
        failures = failures or {min(without): Failure("its process was gone; run the same command again")}
    if failures:
        index, failure = min(failures.items())
        raise WorkError(f"{lost}; from {plan.kind} {index}: {failure.reason}\n{failure.traceback}")


def one_job(plan: OraclePlan, job: int) -> dict[int, Record]:
    """Train and evaluate models in this process: those of a job, or all that it can take from the desk.

    Returns:
        Them by index, but for those that it has left on the desk.
    """
    desk = Desk(plan.desk) if plan.desk else None
    if plan.wanted and not desk.has(plan.wanted):
        return {}
    trainer = trainer_of(plan.task, plan.device, plan.forget_too, plan.tf32 is not None)
    first = FIRST_ORIGINAL_SEED if plan.forget_too else FIRST_ORACLE_SEED
    take = taking(list(plan.indices(job)))
    if plan.wanted:
        take = lambda most: desk.take(plan.wanted, most)  # noqa: E731
    told = _Told(desk, steps_of(trainer.task, trainer.examples))
    made: dict[int, Record] = {}
    for group in trainer.groups(lambda most: [first + index for index in take(most)], told.step):
        indices = [seed - first for seed in group.seeds]
        records = _measured(plan, indices, group)
        del group  # what it holds of the card's memory is for the next ones
        diverged = [index for index in indices if not np.isfinite(records[index].evaluation.forget_logits).all()]
        good = {index: record for index, record in records.items() if index not in diverged}
        made |= {index: record for index, record in good.items() if not (plan.wanted and desk.leave(index, record))}
        if diverged:
            text = f"{plan.kind} {diverged[0]} diverged: its outputs are NaN or infinite. Change the task's recipe"
            raise TaskError(text)
        told.finished(len(indices), bool(plan.wanted))
    told.finished(len(made), True)
    return made


class _Told:
    """Tells the desk how far this process is; nothing if there is none."""

    def __init__(self, desk: Desk | None, steps: int):
        self.desk, self.steps, self.models = desk, steps, 0.0

    def step(self, networks: int) -> None:
        """So many networks have taken a step."""
        self.models += networks / self.steps
        if self.desk:
            self.desk.tell(self.models)

    def finished(self, networks: int, handed_in: bool) -> None:
        """So many are done, and counted elsewhere from now on if they were handed in."""
        if handed_in:
            self.models = max(self.models - networks, 0.0)
            if self.desk:
                self.desk.tell(self.models, now=True)


def _measured(plan: OraclePlan, indices: list[int], group: Trained) -> dict[int, Record]:
    """Records of models that were trained together; weights are saved where they are to be kept."""
    start = time.perf_counter()
    evaluations = group.evaluations()
    keep = [index for index in indices if plan.lacks_weights(index)]
    for index, net in zip(indices, group.nets() if keep else ()):
        if index in keep:
            save_original(record_path(plan.weights, index), net.state_dict(), plan.task_fingerprint)
    seconds = group.seconds + (time.perf_counter() - start) / len(indices)
    facts = {"seconds": seconds, **versions(plan.device)} | ({"precision": TF32, GATE: plan.tf32} if plan.tf32 else {})
    return {index: Record(e, plan.identity(index), facts) for index, e in zip(indices, evaluations)}


# Oracles in TF32, if it was shown that they score like those in float32: on this task, with this card and torch.
#
# TF32 keeps 10 bits of what is multiplied, and the newest cards are many times as fast in it. The competition's cards
# had none, so nothing is trained in it unasked; submissions never are. The gate is a file of `bench --parts tf32`: its
# permutation tests must not tell pools of both kinds apart. What they cannot see with so many models may be there.


TF32, GATE = "tf32", "tf32_gate"
KIND_TESTS = ("forgetting quality", "retain accuracy", "test accuracy")  # what must not tell the kinds apart
GATE_MODELS = 128  # of each kind, at least: with fewer the tests see nothing
GATE_LEVEL = 0.05 / 3  # three tests; pools of one kind are refused one time in twenty


def gate_for(fingerprint: str, device: str, models: int, chances: dict[str, float]) -> dict:
    """What is kept of a comparison of pools.

    Args:
        models: of each kind.
        chances: as `chances_of_one_kind` gives them.
    """
    about = versions(device, card_name(device))
    where = {"task": fingerprint, "device": about["device"], "torch": about["torch"]}
    return where | {"models": models, "chances": chances}


def why_not_tf32(gate: dict) -> str:
    """Why what is kept of a comparison does not let TF32 pass; empty if it does."""
    if gate["models"] < GATE_MODELS:
        return f"it compared {gate['models']} oracles of each kind; give bench --pool {GATE_MODELS} or more"
    if lacking := [name for name in KIND_TESTS if name not in gate["chances"]]:
        return f"it does not say whether {lacking[0]} tells TF32 from float32"
    told_apart = {name: chance for name, chance in gate["chances"].items() if not chance >= GATE_LEVEL}
    found = ", ".join(f"{name} (chance {chance:.3f})" for name, chance in told_apart.items())
    return f"oracles in TF32 are told from those in float32 by {found}" if found else ""


def read_gate(path: Path, fingerprint: str, device: str) -> dict:
    """What a file of `bench --parts tf32 --write FILE` found, if it lets oracles of this task be trained in TF32 here.

    Raises:
        InputError: it is no such file, is about another task, card or torch, or the pools were told apart.
    """
    again = "python -m local_eval bench --parts tf32 --pool 256 --write FILE.json makes one, on the task and the card"
    try:
        gate = json.loads(path.read_text())[GATE]
        chances = {str(name): float(chance) for name, chance in dict(gate["chances"]).items()}
        found = {key: str(gate[key]) for key in ("task", "device", "torch")} | {"models": int(gate["models"])}
    except (OSError, OverflowError, *UNREADABLE) as error:
        text = f"--tf32 {path} holds no comparison of pools ({type(error).__name__}: {str(error)[:LONGEST]})"
        raise InputError(f"{text}; {again}") from None
    gate = found | {"chances": chances}
    here = gate_for(fingerprint, device, gate["models"], chances)
    for key in ("task", "device", "torch"):
        if gate[key] != here[key]:
            raise InputError(f"--tf32 {path} is about the {key} {gate[key]}, and this is {here[key]}; {again}")
    if reason := why_not_tf32(gate):
        raise InputError(f"--tf32 {path}: {reason}")
    return gate


def remark_on_precision(oracles: list[Record]) -> tuple[str, ...]:
    """A note for a score whose oracles were trained in TF32, all or some."""
    count = sum(record.facts.get("precision") == TF32 for record in oracles)
    text = f"{count} of {len(oracles)} oracles were trained in TF32; a test did not tell such ones from others here"
    return (text,) if count else ()


@lru_cache(maxsize=1)
def trainer_of(spec: str, device: str, forget_too: bool = False, tf32: bool = False) -> Trainer:
    """This process's trainer for a task, on its retain set or on retain and forget set; what it measured is kept."""
    task = load_task(spec, tried=True).to(device)
    return Trainer(task, task.retain + task.forget if forget_too else task.retain, tf32=tf32)
