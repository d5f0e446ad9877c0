"""N independent unlearning runs from the original model, on a pool of processes.

Run i depends on (seed, i) alone, never on the number of workers, the order or an interruption. Every finished run is on
disk before the next is counted, so the same command goes on where the last one stopped.

How to run this stage: python -m local_eval run fanchuan --task digits --runs 64
"""

from __future__ import annotations

import contextlib
import os
import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from local_eval.checkpoints import kept_checkpoints, save_checkpoint
from local_eval.contract import SubmissionError, check_result, load_submission, source_hash, submission_path
from local_eval.loaders import make_loaders
from local_eval.oracles import load_original, original_digest
from local_eval.pool import GPU_BROKEN, Failure
from local_eval.records import Record, locked, read_records, record_path, save_record, versions, write_atomically
from local_eval.share_gpu import run_on_device
from local_eval.task import Task, load_task
from local_eval.train import evaluate, forget_precision, wait


@dataclass(frozen=True)
class RunPlan:
    """What a worker needs to make run i; everything in it travels to other processes."""

    task: str  # name or path
    task_fingerprint: str
    original: Path  # state dict of the original model
    submission: Path
    submission_hash: str
    seed: int
    device: str
    checkpoints: Path | None = None  # folder in which to keep every run's state dict

    @classmethod
    def of(cls, submission: str, task: str, fingerprint: str, original: Path, seed: int, device: str) -> RunPlan:
        """The plan for a submission by name or path; raises SubmissionError if there is none."""
        path = submission_path(submission)
        return cls(task, fingerprint, original, path, source_hash(path), seed, device)

    def identity(self, index: int) -> dict:
        """What must agree for a finished run to count as this plan's run `index`."""
        return {
            "kind": "run",
            "task": self.task_fingerprint,
            "submission": self.submission_hash,
            "original": original_digest(self.original),
            "seed": self.seed,
            "index": index,
        }

    @property
    def folder_name(self) -> str:
        """Results of a changed submission or of another seed go to a folder of their own."""
        return f"{self.submission.stem}-{self.submission_hash}-seed{self.seed}"


def finish_runs(
    plan: RunPlan, folder: Path, runs: int, shape: tuple[int, int], workers: int | None, timeout: float
) -> tuple[dict[int, Record], dict[int, Failure]]:
    """Make the runs 0..runs-1 that are not in `folder` yet; returns all finished ones, and why others failed.

    Args:
        shape: (E, C) of the forget set's logits.
        workers: processes; None for one per core, or on a GPU for as many as are fastest.
        timeout: seconds after which a run counts as hanging.
    Raises:
        OutputError: the folder is in use, read-only or full; what was finished is kept.
    """
    with locked(folder):
        done = read_records(folder, plan.identity, runs, shape)
        failures = {}
        kept = kept_checkpoints(plan.checkpoints)
        missing = [i for i in range(runs) if i not in done or (plan.checkpoints and i not in kept)]
        jobs = run_on_device(plan.device, one_run, plan, missing, workers, timeout, f"runs of {plan.submission.stem}")
        with contextlib.closing(jobs):  # an error in here stops the workers at once
            for index, result in jobs:
                failed = folder / f"{index:04d}.failed.txt"
                if isinstance(result, Failure):
                    failures[index] = result
                    write_atomically(failed, f"{result.reason}\n\n{result.traceback}".encode())
                else:
                    save_record(record_path(folder, index), result)
                    failed.unlink(missing_ok=True)
                    done[index] = result
    return done, failures


def one_run(plan: RunPlan, index: int) -> Record | Failure:
    """Run `index` of a plan, in this process. Whatever the submission does short of killing it ends in a Failure."""
    result = attempt(lambda: unlearn_and_evaluate(plan, index))
    if isinstance(result, Failure):
        _workplace.cache_clear()  # the data may have been left half changed
        _leave_a_broken_gpu(plan.device)
    return result


def _leave_a_broken_gpu(device: str) -> None:
    """A device-side assertion spoils CUDA for the whole process; a fresh worker can go on."""
    try:
        wait(device)
    except RuntimeError:
        os._exit(GPU_BROKEN)


def clean_slate() -> None:
    """Undo settings of torch that an earlier run may have left behind in this process."""
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_grad_enabled(True)
    torch.use_deterministic_algorithms(False)
    forget_precision()


def attempt(work: Callable[[], Any]) -> Any | Failure:
    """The result of `work()`, or a Failure that says what the submission did."""
    try:
        return work()
    except SubmissionError as error:
        return Failure(str(error))
    except SystemExit as error:
        return Failure(f"the submission called exit({error.code!r}); return from the function instead")
    except BaseException as error:
        return Failure(f"{type(error).__name__}: {error}", traceback.format_exc())


def unlearn_and_evaluate(plan: RunPlan, index: int) -> Record:
    """Load, seed, unlearn, check, evaluate.

    Raises:
        SubmissionError: the contract is broken.
        BaseException: whatever the submission raises.
    """
    task, original, digests = _workplace(plan.task, plan.original, plan.device)
    net = task.make_net().to(plan.device)
    net.load_state_dict(original)
    net.train(index == 0)  # the official driver's quirk; see contract.py
    loaders = make_loaders(task)
    clean_slate()
    unlearning = load_submission(plan.submission)
    if source_hash(plan.submission) != plan.submission_hash:
        raise SubmissionError(f"{plan.submission} was edited while it was being graded; run the same command again")
    seed_everything(plan.seed, index)
    seconds, returned = timed(plan.device, lambda: unlearning(net, *loaders))
    check_result(net, returned, original)
    check_data(task, digests)
    if plan.checkpoints is not None:
        save_checkpoint(net, plan.checkpoints, index)
    clean_slate()
    evaluation = evaluate(as_loaded(task, net, plan.device), task)
    if not np.isfinite(evaluation.forget_logits).all():
        raise SubmissionError("the net's weights are finite, but its outputs on the forget set are NaN or infinite")
    return Record(evaluation, plan.identity(index), {"seconds": seconds, **versions(plan.device)})


def as_loaded(task: Task, net: nn.Module, device: str) -> nn.Module:
    """What the grader sees: a fresh network with the net's state dict, so hooks and modes do not count."""
    fresh = task.make_net().to(device)
    fresh.load_state_dict(net.state_dict())
    return fresh


def timed(device: str, work: Callable) -> tuple[float, object]:
    """Seconds that `work()` takes, GPU work included, and what it returns."""
    start = time.perf_counter()
    result = work()
    wait(device)
    return time.perf_counter() - start, result


def seed_everything(seed: int, index: int) -> None:
    """Seed torch, numpy and random from (seed, index) alone."""
    words = np.random.SeedSequence([seed, index]).generate_state(3)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))
    random.seed(int(words[2]))


def check_data(task: Task, digests: dict[str, str]) -> None:
    """Raise SubmissionError if a split was changed in place."""
    changed = [name for name, split in task.splits.items() if split.digest() != digests[name]]
    if changed:
        raise SubmissionError(
            f"the data of the {' and '.join(changed)} set was changed in place; later runs would see it. "
            "Copy what you change: images = batch['image'].clone()"
        )


@lru_cache(maxsize=1)
def _workplace(task_spec: str, original: Path, device: str) -> tuple[Task, dict, dict[str, str]]:
    """A worker's task, original weights and the digests of its data; loaded once per process."""
    task = load_task(task_spec).to(device)
    state = load_original(original, device)
    return task, state, {name: split.digest() for name, split in task.splits.items()}
