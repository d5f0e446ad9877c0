"""One unlearning run, in a process of its own; and the N runs of a submission on a pool, resumable.

Run i depends on (task, submission with all that it reads, seed, i) alone, never on the number of workers, the order, an
interruption or another run. Every finished run is on disk before the next is counted, so the same command goes on where
the last one stopped.

How to run this stage: python -m local_eval run fanchuan --task digits --runs 64
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import pickle
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from local_eval.isolation.cards import cards_of, kind_of
from local_eval.isolation.child import Clock, Failure, Standby
from local_eval.isolation.device import forget_precision, wait
from local_eval.isolation.share_gpu import Engine, run_on_device
from local_eval.methods.contract import check_result, load_telling
from local_eval.methods.handover import as_it_stands, check_at_rest, ended, pack, unpack
from local_eval.methods.identity import Reads, Trace
from local_eval.methods.loaders import handed_out
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import Submission, source_files
from local_eval.runs.checkpoints import kept_checkpoints, save_checkpoint
from local_eval.runs.plan import RunPlan, run_confined
from local_eval.store.errors import many
from local_eval.store.files import locked, user_path, write_atomically
from local_eval.store.provenance import versions
from local_eval.store.records import Record, record_path
from local_eval.store.sealed import load_state
from local_eval.store.workspace import Workspace
from local_eval.tasks.evaluate import evaluate
from local_eval.tasks.loading import load_task
from local_eval.tasks.names import files_of, split_spec
from local_eval.tasks.task import Task

HANDED = ("retain", "forget", "validation")  # splits that a submission gets; it can see the test set nowhere

# One unlearning run: a function of (task, submission with all that it reads, seed, index) and of nothing else.
#
# As on Kaggle, the submission only leaves weights. It runs in a process of its own, forked for this run alone from
# one that has loaded torch, the task and the original model and has never run a submission. That one loads what comes
# back into a fresh network and evaluates it, so nothing that a submission patches or leaves behind reaches a score or
# another run.


def one_run(plan: RunPlan, index: int) -> Record | Failure:
    """Run `index` of a plan. Whatever the submission does short of killing this process too ends in a Failure."""
    _, original, _, _ = workplace(plan.task, plan.original_of(index))
    fresh_net(plan.task)  # before the fork
    if torch.device(plan.device).type == "cuda" and torch.cuda.is_initialized():  # nothing of the kit's does so here
        return Failure(
            f"{split_spec(plan.task)[0]} has used the GPU while the task was loaded; every run is forked from the "
            "process that loads it, and CUDA cannot follow. Leave data and networks on the CPU; the kit moves them"
        )
    work = partial(unlearned_weights, plan, index)
    answer = run_confined(plan.sandbox, plan.submission, plan.device, work, plan.timeout)
    if isinstance(answer.content, Failure):
        return replace(answer.content, printed=answer.printed)
    try:
        state, read = unpack(answer.content, original)
        if plan.submission.as_it_is_now().digest() != plan.submission_hash:
            text = f"{plan.submission.path} was edited while it was being graded"
            raise SubmissionError(f"{text}; run the same command again")
        read.pop("kept", None)  # told in words, too
        facts = {"seconds": answer.seconds, "read": Reads.now(**read).as_json()}
        if plan.checkpoints is not None:
            facts["checkpoint"] = save_checkpoint(state, plan.checkpoints, index)
        if plan.sandbox is not None:
            facts["sandbox"] = plan.sandbox.as_json()
        return evaluated(plan, index, state, facts)
    except SubmissionError as error:
        return Failure(str(error))


def unlearned_weights(plan: RunPlan, index: int, clock: Clock) -> bytes:
    """In the submission's own process: seed, unlearn, check; the weights and what was read, packed.

    Raises:
        SubmissionError: the contract is broken.
        BaseException: whatever the submission raises.
    """
    task, original, digests, data = workplace(plan.task, plan.original_of(index))
    task, loaders = handed_out(task.without_test(), plan.device, plan.batches_on)  # this process has copies of its own
    net = fresh_net(plan.task).to(plan.device)  # drawing one can take longer than a short run
    net.load_state_dict(original)
    net.train(index == 0)  # the official driver's quirk; see contract.py
    forget_precision()
    seed_everything(plan.seed, index)  # torch reads the sources of all that calls it, the first time: that is no read
    with followed(plan.submission, data, clock.home) as trace:
        unlearning = load_telling(plan.submission)
        seed_everything(plan.seed, index)
        returned = timed(clock, plan.device, lambda: unlearning(net, *loaders))
    state = as_it_stands(net)
    check_result(net, returned, original)
    check_data(task, digests, loaders)
    check_at_rest(net, state)
    return pack(state, original, trace.as_json())


@contextlib.contextmanager
def followed(submission: Submission, data: list[Path], home: str) -> Iterator[Trace]:
    """What is read from here on, to the end of this process, which works in an empty folder.

    Args:
        data: the task's own files, as `data_of` names them where the command was given.
        home: the folder in which the command was given.
    Raises:
        SubmissionError: a file was looked for by a relative path and lies in `home`.
    """
    trace = Trace([*source_files(submission.path), *data], home)
    trace.start()
    try:
        yield trace
    except Exception as error:
        if reported := trace.refusal(submission.path, error):
            raise SubmissionError(reported) from error
        raise
    if reported := trace.refusal(submission.path):
        raise SubmissionError(reported)


def data_of(spec: str) -> list[Path]:
    """The task's own file and data, and what is changed in it, which its fingerprint follows; whole paths."""
    path, where = split_spec(spec)
    return [path, *(file.absolute() for file in ([] if where is None else [user_path(where)]) + files_of(spec))]


def evaluated(plan: RunPlan, index: int, state: dict[str, torch.Tensor], facts: dict) -> Record:
    """What the grader sees of a run: a fresh network that strictly takes the weights.

    Raises:
        SubmissionError: its outputs on the forget set are not finite.
    """
    if torch.device(plan.device).type == "cpu":
        return _evaluated(plan, workplace(plan.task, plan.original_of(index))[0], index, state, facts)
    # This process is to be forked again, and what has touched a GPU cannot be. The pickles are our own processes'.
    evaluator = _evaluator()
    answer = evaluator.ask(pickle.dumps((plan, index, pack(state, state, {}), facts)))
    if isinstance(answer, Failure) or plan.alone:
        evaluator.end()
        _evaluator.cache_clear()
    if isinstance(answer, Failure):
        raise SubmissionError(f"its weights cannot be evaluated: {answer.reason}")
    return pickle.loads(answer)


@lru_cache(maxsize=1)
def _evaluator() -> Standby:
    """This worker's process for evaluation: it starts CUDA once for all runs."""
    return Standby(_evaluated_there)


def _evaluated_there(request: bytes) -> bytes:
    plan, index, packed, facts = pickle.loads(request)
    state, _ = unpack(packed, workplace(plan.task, plan.original_of(index))[1])
    record = _evaluated(plan, _data_on(plan.device, plan.task), index, state, facts)
    torch.cuda.empty_cache()  # it waits from now on, and runs need the memory
    return pickle.dumps(record)


@lru_cache(maxsize=1)
def _data_on(device: str, spec: str) -> Task:
    return _loaded(spec)[0].to(device)


def _evaluated(plan: RunPlan, task: Task, index: int, state: dict[str, torch.Tensor], facts: dict) -> Record:
    """`task` has its data on the device."""
    net = copy.deepcopy(fresh_net(plan.task)).to(plan.device)
    net.load_state_dict(state)
    forget_precision()
    evaluation = evaluate(net, task)
    if not np.isfinite(evaluation.forget_logits).all():
        raise SubmissionError("the net's weights are finite, but its outputs on the forget set are NaN or infinite")
    return Record(evaluation, plan.identity(index), {**facts, **versions(plan.device)})


def timed(clock: Clock, device: str, work: Callable[[], object]) -> object:
    """What `work()` returns; the clock counts what it takes, GPU work included. Timers that it leaves are stopped."""
    wait(device)
    clock.start()
    result = ended(work)
    wait(device)
    clock.stop()
    return result


def seed_everything(seed: int, index: int) -> None:
    """Seed torch, numpy and random from (seed, index) alone."""
    words = np.random.SeedSequence([seed, index]).generate_state(3)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))
    random.seed(int(words[2]))


def check_data(task: Task, digests: dict[str, str], loaders: Sequence[DataLoader] = ()) -> None:
    """Raise SubmissionError if a split was changed in place: on Kaggle the runs after it would see that."""
    changed = [name for name in HANDED if task.splits[name].digest() != digests[name]]
    handed = zip(HANDED, loaders)
    changed += [name for name, loader in handed if name not in changed and loader.dataset.rows_changed()]
    if changed:
        raise SubmissionError(
            f"the data of the {' and '.join(changed)} set was changed in place; later runs would see it. "
            "Copy what you change: images = batch['image'].clone()"
        )


def workplace(task_spec: str, original: Path) -> tuple[Task, dict[str, torch.Tensor], dict[str, str], list[Path]]:
    """A worker's task, original weights, the digests of its data, and its files; loaded once per process, on the CPU.

    A run's own process, which stands in another folder, inherits them: a relative path would lead nowhere there.
    """
    task, digests, files = _loaded(task_spec)
    return task, _weights(original), digests, files


@lru_cache(maxsize=1)
def _loaded(spec: str) -> tuple[Task, dict[str, str], list[Path]]:
    task = in_worker(spec)
    return task, {name: split.digest() for name, split in task.splits.items()}, data_of(spec)


def in_worker(spec: str) -> Task:
    """A task as the process loads it from which runs are forked: nothing of it lies in memory but in its splits."""
    task = load_task(spec, tried=True).apart()
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has this: what loading has freed holds pixels
        ctypes.CDLL(None).malloc_trim(0)
    return task


@lru_cache(maxsize=1)
def _weights(original: Path) -> dict[str, torch.Tensor]:
    return load_state(original)


@lru_cache(maxsize=1)
def fresh_net(task_spec: str) -> nn.Module:
    """The task's network, made once per worker. What a run's process does to it is done to the fork's own copy."""
    return _loaded(task_spec)[0].make_net()


WORKER_GRACE = 600.0  # seconds for what a worker does beside a run: load the task, evaluate


def finish_runs(
    plan: RunPlan,
    folder: Path,
    runs: int,
    shape: tuple[int, int],
    workers: int | None,
    timeout: float,
    engine: Engine | None = None,
    workspace: Workspace | None = None,
) -> tuple[dict[int, Record], dict[int, Failure]]:
    """Make the runs 0..runs-1 that are not in `folder` yet; returns all finished ones, and why others failed.

    Args:
        shape: (E, C) of the forget set's logits.
        workers: processes; None for one per core, or on a GPU for as many as are fastest.
        timeout: seconds after which a run counts as hanging.
        engine: makes the runs; None for processes of this machine.
        workspace: which knows what was read; None for one of this call alone.
    Raises:
        OutputError: the folder is in use, read-only or full; what was finished is kept.
    """
    workspace = workspace or Workspace(folder.parent)
    with locked(folder):
        batch = Batch(plan, folder, runs, shape, workspace, timeout, engine)
        run = engine.run_on_device if engine else run_on_device
        title = f"runs of {plan.submission.label}"
        jobs = run(plan.device, one_run, batch.plan, batch.missing, workers, limit_of(timeout), title)
        with contextlib.closing(jobs):  # an error in here stops the workers at once
            for index, result in jobs:
                batch.take(index, result)
    return batch.done, batch.failures


def finish_runs_of_all(
    plans: Sequence[tuple[RunPlan, Path]],
    runs: int,
    shape: tuple[int, int],
    workers: int | None,
    timeout: float,
    workspace: Workspace,
) -> list[tuple[dict[int, Record], dict[int, Failure]]]:
    """As `finish_runs` of every plan and its folder, by the same processes, which start once for all of them.

    The plans are of one task and one device. Raises OutputError.
    """
    with contextlib.ExitStack() as locks:
        for folder in sorted({folder for _, folder in plans}):
            locks.enter_context(locked(folder))
        batches = [Batch(plan, folder, runs, shape, workspace, timeout) for plan, folder in plans]
        together = tuple(batch.plan for batch in batches)
        missing = [place * runs + index for place, batch in enumerate(batches) for index in batch.missing]
        device, title = plans[0][0].device, f"runs of {len(plans)} submissions"
        jobs = run_on_device(device, one_of_several, (together, runs), missing, workers, limit_of(timeout), title)
        with contextlib.closing(jobs):
            for number, result in jobs:
                batches[number // runs].take(number % runs, result)
    return [(batch.done, batch.failures) for batch in batches]


def one_of_several(plans: tuple[Sequence[RunPlan], int], number: int) -> Record | Failure:
    """Run `number` of plans that have so many runs each, numbered through."""
    several, runs = plans
    return one_run(several[number // runs], number % runs)


def limit_of(timeout: float) -> float:
    """Seconds after which the pool ends a worker. It ends a run that hangs, unless a run has stopped it, say."""
    return 2 * timeout + WORKER_GRACE


class Batch:
    """The runs 0..runs-1 of a plan in its folder, which the caller has locked: what is there, missing and failed.

    done, failures: by index. missing: indices. plan: as it is handed to those who make the missing ones.
    """

    def __init__(
        self,
        plan: RunPlan,
        folder: Path,
        runs: int,
        shape: tuple[int, int],
        workspace: Workspace,
        timeout: float,
        engine: Engine | None = None,
    ):
        self.folder, self.workspace, self.failures = folder, workspace, {}
        self.done = done = finished_runs(plan, folder, runs, shape, workspace)
        kept = set(done)
        if plan.checkpoints:
            kept = kept_checkpoints(plan.checkpoints, {i: run.facts.get("checkpoint") for i, run in done.items()})
        self.missing = [i for i in range(runs) if i not in kept]
        read = next((run.facts["read"] for run in done.values() if "read" in run.facts), None)
        is_cuda = kind_of(plan.device) == "cuda"
        alone = bool(self.missing) and is_cuda and not engine and cards_of(plan.device)[0].takes_one
        self.plan = replace(plan, timeout=timeout, reads=read, device=kind_of(plan.device), alone=alone)

    def take(self, index: int, result: Record | Failure) -> None:
        """Write what came of a run. Raises OutputError."""
        failed = self.workspace.failed(self.folder, index)
        if isinstance(result, Failure):
            self.failures[index] = result
            write_atomically(failed, result.as_text().encode(errors="replace"))
        else:
            self.workspace.save(record_path(self.folder, index), result)
            failed.unlink(missing_ok=True)
            self.done[index] = result


def finished_runs(
    plan: RunPlan, folder: Path, runs: int, shape: tuple[int, int], workspace: Workspace | None = None
) -> dict[int, Record]:
    """The runs on disk that still count: a run that read something that has changed since is named and left out."""
    workspace = workspace or Workspace(folder.parent)
    done, changed = workspace.read(folder, plan.identity, runs, shape), Counter()
    for index, run in list(done.items()):
        if changes := Reads.from_json(run.facts.get("read", {})).changes():
            changed.update(changes)
            del done[index]
    for what, count in changed.items():
        these = "this run does" if count == 1 else "these runs do"
        text = f"{what} has changed since {many(count, 'run')} read it; {these} not count any more"
        print(f"{plan.submission.label}: {text}", file=sys.stderr)
    return done
