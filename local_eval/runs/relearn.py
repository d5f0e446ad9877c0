"""Train models further on what they were to keep, epoch by epoch, and look what they know of the forget set.

As published (vision_relearning's scripts/train.sh): Adam without weight decay, at a tenth of the learning rate that the
models were trained with, falling to a tenth of that as a cosine; plain cross-entropy; the whole retain set, and on
request a tenth of the forget set, on which nothing is then measured. The published rate of 1e-5 is a tenth of their
training's 1e-4; here it is a tenth of the recipe's. Theirs are 100 epochs in batches of 128, ours fewer, in the task's
batches, and images are shown as they are.

Unlearned model k and oracle k see the batches in the same order, which depends on k alone. A finished curve is kept in
a file of its own, so that what was interrupted goes on, and oracles are relearned once for all methods.

How to run it: python -m local_eval relearn fanchuan --models 4
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from local_eval.isolation.cards import kind_of
from local_eval.isolation.child import Failure
from local_eval.isolation.device import exact_convolutions, seeded
from local_eval.isolation.share_gpu import run_on_device
from local_eval.metric.metric import confidences_of
from local_eval.metric.relearning import SEEN, Relearned
from local_eval.oracles.train import epoch_orders
from local_eval.runs.checkpoints import Checkpoints, checkpoint_name, checksum_of
from local_eval.store.errors import WorkError
from local_eval.store.files import locked, write_atomically
from local_eval.store.records import UNREADABLE, record_path
from local_eval.store.sealed import load_state
from local_eval.tasks.evaluate import accuracy, large_batch, predict
from local_eval.tasks.loading import load_task
from local_eval.tasks.task import Split, Task

EPOCHS = 10
SLOWER = 0.1  # of the recipe's learning rate, and the end of the cosine as a share of its start
TENTH = 10  # every tenth forget example is relearned, from the first on
VERSION = 1  # raise it when the training changes: kept curves are then made again
UNLEARNED, ORACLE = "unlearned", "oracle"


@dataclass(frozen=True)
class Relearning:
    """How it is trained further."""

    epochs: int = EPOCHS
    tenth: bool = False  # with a tenth of the forget set

    @property
    def name(self) -> str:
        """In the names of files."""
        return "relearn-tenth" if self.tenth else "relearn"

    def rate(self, task: Task) -> float:
        """The learning rate of the first step."""
        return SLOWER * task.recipe.lr

    def examples(self, task: Task) -> tuple[Split, Split]:
        """What is trained on, and the forget examples that are not."""
        if not self.tenth:
            return task.retain, task.forget
        again = torch.arange(len(task.forget), device=task.forget.labels.device) % TENTH == 0
        return task.retain + task.forget[again], task.forget[~again]


@dataclass(frozen=True)
class RelearnPlan:
    """What a worker needs to relearn one of 2 K models: job k is unlearned model k, job K + k oracle k."""

    task: str
    fingerprint: str
    device: str
    models: int  # K
    checkpoints: Path  # folder of the unlearned models' state dicts
    weights: Path  # folder of the oracles'
    how: Relearning

    def which(self, job: int) -> tuple[str, int]:
        """Kind and index of a job's model."""
        return (UNLEARNED, job) if job < self.models else (ORACLE, job - self.models)

    def file(self, job: int) -> Path:
        """Where a job's model lies."""
        kind, index = self.which(job)
        return self.checkpoints / checkpoint_name(index) if kind == UNLEARNED else record_path(self.weights, index)

    def identity(self, job: int) -> dict:
        """What must agree for a kept curve to be this job's."""
        kind, index = self.which(job)
        about = {"kind": kind, "index": index, "task": self.fingerprint, "weights": checksum_of(self.file(job))}
        return about | asdict(self.how) | {"version": VERSION, "device": kind_of(self.device)}


def curves(plan: RelearnPlan, folders: dict[str, Path], workers: int | None) -> Relearned:
    """Relearn the models whose curves are not kept yet; gives the curves of all.

    Args:
        folders: where curves are kept, by kind of model.
        workers: processes; None for as many as are best.
    Raises:
        WorkError: a model could not be relearned; the others' curves are kept.
        OutputError: a folder is in use, read-only or full.
    """
    with contextlib.ExitStack() as locks:
        for folder in sorted(set(folders.values())):
            locks.enter_context(locked(folder))
        found, failures = {}, {}
        places = [_place(plan, folders, job) for job in range(2 * plan.models)]
        for job, place in enumerate(places):
            found[job] = _kept(place, plan.identity(job), plan.how.epochs)
        missing = [job for job, curve in found.items() if curve is None]
        there = replace(plan, device=kind_of(plan.device))  # a worker calls its card `cuda`
        jobs = run_on_device(plan.device, one_curve, there, missing, workers, None, "relearning")
        with contextlib.closing(jobs):
            for job, result in jobs:
                if isinstance(result, Failure):
                    failures[job] = result
                    continue
                found[job] = result
                content = {"identity": plan.identity(job), "curve": result.tolist()}
                write_atomically(places[job], json.dumps(content).encode())
    if failures:
        job, failure = min(failures.items())
        kind, index = plan.which(job)
        text = f"{len(failures)} of {len(found)} models could not be relearned; {kind} {index}: {failure.reason}"
        raise WorkError(f"{text}\n{failure.traceback}")
    every = np.stack([found[job] for job in range(2 * plan.models)])
    return Relearned(every[: plan.models], every[plan.models :])


def _place(plan: RelearnPlan, folders: dict[str, Path], job: int) -> Path:
    kind, index = plan.which(job)
    return folders[kind] / f"{index:04d}-{plan.how.name}-{plan.how.epochs}.json"


def _kept(place: Path, identity: dict, epochs: int) -> np.ndarray | None:
    """The curve in a file, if it is whole and this one."""
    try:
        content = json.loads(place.read_text())
        curve = np.array(content["curve"], dtype=np.float64)
        fits = content["identity"] == identity and curve.shape == (epochs + 1, len(SEEN)) and np.isfinite(curve).all()
        return curve if fits else None
    except (OSError, OverflowError, *UNREADABLE):
        return None


def one_curve(plan: RelearnPlan, job: int) -> np.ndarray | Failure:
    """float64 [epochs + 1, 3]: what one model knows before and after every epoch, as SEEN."""
    task = _task(plan.task, plan.device)
    net, (kind, index) = task.make_net(), plan.which(job)
    if kind == UNLEARNED:
        Checkpoints.left_by_runs(plan.checkpoints, plan.models, net).load(index, net)
    else:
        net.load_state_dict(load_state(plan.file(job)))
    curve = relearned(net.to(plan.device), task, plan.how, seed=index)
    if np.isfinite(curve).all():
        return curve
    return Failure(f"its outputs became NaN or infinite within {plan.how.epochs} epochs")


@lru_cache(maxsize=1)
def _task(spec: str, device: str) -> Task:
    return load_task(spec, tried=True).to(device)


def relearned(net: nn.Module, task: Task, how: Relearning, seed: int) -> np.ndarray:
    """Train a network further, in place; gives [epochs + 1, 3] as `one_curve`.

    Args:
        net, task: on one device.
        seed: of the order of the batches, and of what the network draws in training.
    """
    examples, held = how.examples(task)
    orders = epoch_orders(len(examples), how.epochs, seed).to(examples.labels.device)
    batches = -(-len(examples) // task.recipe.batch_size)
    optimizer = torch.optim.Adam(net.parameters(), lr=how.rate(task))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, how.epochs * batches, SLOWER * how.rate(task))
    seen = [_seen(net, held, task.test)]
    with exact_convolutions(), seeded(seed, examples.images.device):
        for order in orders:
            net.train()
            for batch in order.split(task.recipe.batch_size):
                optimizer.zero_grad()
                F.cross_entropy(net(examples.pixels(batch)), examples.labels[batch]).backward()
                optimizer.step()
                schedule.step()
            seen.append(_seen(net, held, task.test))
    return np.array(seen)


def _seen(net: nn.Module, held: Split, test: Split) -> tuple[float, float, float]:
    """As SEEN; nan where outputs are not finite."""
    net.eval()
    with exact_convolutions(), seeded(0, held.images.device):
        logits, others = (predict(net, split, large_batch(split)) for split in (held, test))
    if not torch.isfinite(logits).all():
        return float("nan"), float("nan"), float("nan")
    confidence = confidences_of(logits.cpu().numpy()[None], held.labels.cpu().numpy()).mean()
    return accuracy(logits, held.labels), float(confidence), accuracy(others, test.labels)
