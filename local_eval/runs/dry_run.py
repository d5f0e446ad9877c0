"""The dry run of `check`: a submission on the first examples of every set, in processes of its own; and the remarks.

Two batches a loader are enough for most. Where a loader gave nothing, or something failed or did not change that may
have rested on that (asked.py), the dry run is done again with more examples, at last with all that the task has. What
still rests on too few is not remarked but said to be so.

How it is used: `dry_run(plan, 0)` in a job of runs/check.py.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from local_eval.engine.apart import Answer, Clock
from local_eval.engine.failure import Failure, first_lines
from local_eval.runs.asked import Asked, Seen, enough
from local_eval.runs.confined import Sandbox, run_confined
from local_eval.runs.contract import check_result, load_telling
from local_eval.runs.handover import as_it_stands, check_at_rest, ended, pack, unpack
from local_eval.runs.loaders import make_loaders
from local_eval.runs.one_run import check_data, data_of, followed, seed_everything, timed
from local_eval.runs.seeds import State, on_seeds, same
from local_eval.runs.signature import check_signature
from local_eval.runs.submissions import Submission, SubmissionError
from local_eval.runs.trace import left_behind
from local_eval.tasks.evaluate import initial_net
from local_eval.tasks.load import load_task
from local_eval.tasks.task import Task

TWO_BATCHES = 128  # examples of each loader
TIME_LIMIT = 300.0  # seconds for the dry runs together; a laptop needs most of a minute for a full resnet18
LONGER = 100.0  # seconds that larger dry runs may take, as far as that can be foreseen
IN_A_ROW = "the second of two runs in a row failed, on the net that the first one left, as on Kaggle: "
UNCHANGED = "the net was not changed at all"
CHATTY = 2000  # characters printed in one run; 512 runs fill a notebook's log
HANDED = ("retain", "forget", "validation")


@dataclass(frozen=True)
class CheckPlan:
    """What the dry run's process needs."""

    submission: Submission
    task: str
    device: str
    sandbox: Sandbox | None = None


@dataclass
class Attempt:
    """Dry runs on so many examples a loader: of run 0, run 1, run 0 again, and of run 0 and 1 in a row."""

    rows: int
    whole: bool  # whether these are all that the task has
    seen: list[Seen] = field(default_factory=list)  # of loaders, in the first run
    answers: list[Answer] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    told: dict = field(default_factory=dict)  # beside the weights of the first run
    failure: Failure | None = None
    stopped: bool = False  # out of time
    settled: bool = False  # a larger attempt showed the same
    remarks: list[str] = field(default_factory=list)  # on what came out
    looks: tuple[bool, bool] = (False, False)  # did two seeds give one net; was it not changed at all

    @property
    def empty(self) -> list[Seen]:
        """Loaders that gave nothing."""
        return [loader for loader in self.seen if loader.empty]

    @property
    def in_doubt(self) -> bool:
        """Would more examples perhaps show something else? A broken contract stays one, unless a loader was empty."""
        if self.whole or self.stopped or self.settled:
            return False
        failed = self.failure is not None and bool(self.failure.traceback)
        return failed or any(self.looks) or any(loader.grows for loader in self.empty)


def dry_run(plan: CheckPlan, _: int) -> list[str] | Failure:
    """Runs with two seeds, one of them twice, and both in one process as on Kaggle; returns remarks."""
    task, start = load_task(plan.task, tried=True), time.monotonic()
    found = _attempt(plan, task, TWO_BATCHES)
    while found.in_doubt:
        rows = _more(found, _largest(task))
        if time.monotonic() - start + (_foreseen(found, rows) or 0.0) > LONGER:
            break
        larger = _attempt(plan, task, rows, found.looks if found.failure is None and not found.empty else None)
        if larger.stopped:
            break
        if larger.settled:
            found.settled = True
        else:
            found = larger
    return _judged(task, found)


def _largest(task: Task) -> int:
    return max(len(task.splits[name]) for name in HANDED)


def _more(attempt: Attempt, most: int) -> int:
    """Examples for the next attempt: all, if that is quick or little more, else as many as the loaders asked for."""
    rows, seconds = enough(attempt.rows, attempt.seen, attempt.failure is not None), _foreseen(attempt, most)
    return most if 2 * rows > most or (seconds is not None and seconds < LONGER / 4) else rows


def _foreseen(attempt: Attempt, rows: int) -> float | None:
    """Seconds that dry runs on so many examples may take; None if nothing was timed."""
    seconds = [answer.seconds for answer in attempt.answers if answer.seconds == answer.seconds]
    return 5 * max(seconds) * rows / attempt.rows if seconds else None


def _attempt(plan: CheckPlan, task: Task, rows: int, looks: tuple[bool, bool] | None = None) -> Attempt:
    """Dry runs on so many examples; only two of them if these look as those of a smaller attempt did, `looks`."""
    whole = _largest(task) <= rows
    found = Attempt(rows, whole)
    part = task if whole else replace(task, **{n: split[slice(0, rows)] for n, split in task.splits.items()})
    sizes = {name: len(task.splits[name]) for name in HANDED}
    net = initial_net(part, seed=0)
    original = copy.deepcopy(net.state_dict())
    data = data_of(plan.task)
    for indices in ((0,), (1,), (0,), (0, 1)):
        asked, begun = Asked(), time.monotonic()
        work = partial(_dry_once, plan, part, sizes, asked, net, original, indices, data)
        answer = run_confined(plan.sandbox, plan.submission, plan.device, work, timeout=TIME_LIMIT / 4)
        found.answers.append(answer)
        found.seen = found.seen or asked.seen()
        if isinstance(answer.content, Failure):
            reason = (IN_A_ROW if len(indices) > 1 else "") + answer.content.reason
            found.failure = replace(answer.content, reason=reason, printed=answer.printed)
            found.stopped = time.monotonic() - begun > TIME_LIMIT / 4
            return found
        try:
            state, told = unpack(answer.content, original)
        except SubmissionError as error:
            found.failure = Failure(str(error))
            return found
        found.states.append(state)
        found.told = found.told or told
        if any(loader.grows for loader in found.empty) and not whole:
            return found  # more examples first
        if len(found.states) == 2:
            first, second = found.states
            found.looks = same(first, second), same(first, original)
            found.settled = found.looks == looks
            if found.settled:
                return found
    exact = torch.device(plan.device).type == "cpu"
    found.remarks = on_seeds(plan.submission, *found.states, exact=exact)
    if found.looks[1]:
        found.remarks.append(UNCHANGED)
    return found


def _judged(task: Task, found: Attempt) -> list[str] | Failure:
    """What is told in the end."""
    of = f"at most {found.rows} examples a loader, of up to {_largest(task)} in the task"
    empty = list(dict.fromkeys(loader.told() for loader in found.empty))
    if found.failure is not None:
        if not found.in_doubt and not empty:
            return found.failure
        why = [f"the dry run had {of}"] if found.in_doubt else []
        return replace(found.failure, reason="; ".join([found.failure.reason, *empty, *why]))
    remarks = list(empty)
    if found.in_doubt:
        remarks.append(f"the dry run had {of}, which may be too few to tell; more would have taken too long")
    if empty and found.looks[1]:  # the loader is the reason, for what two seeds give too
        remarks += [] if found.in_doubt else [f"{UNCHANGED}, for want of batches"]
    elif not (found.in_doubt and empty):  # what rests on an empty loader is not remarked
        remarks += found.remarks
    remarks += [left_behind(str(name)) for name in found.told.get("kept", ())]
    remarks += [*found.told.get("notes", []), *_on_printed(found.answers[0])]
    size = "two batches" if found.rows == TWO_BATCHES else f"{found.rows} examples a loader: two batches were too few"
    size = "all examples, since two batches were too few" if found.whole and found.rows > TWO_BATCHES else size
    return [*remarks, f"dry run on {size}: {found.answers[0].seconds:.1f} s"]


def _on_printed(answer: Answer) -> list[str]:
    if not answer.printed.strip():
        return []
    remarks = [f"it printed: {first_lines(answer.printed)}"]
    if answer.printed_bytes > CHATTY:
        remarks.append(f"it prints {answer.printed_bytes} characters a run; 512 runs would flood the notebook")
    return remarks


def _dry_once(
    plan: CheckPlan,
    task: Task,
    sizes: dict[str, int],
    asked: Asked,
    net: nn.Module,  # forked for every call: each has it for itself
    original: State,
    indices: tuple[int, ...],
    data: list[Path],
    clock: Clock,
) -> bytes:
    """In the submission's own process: these runs one after the other, as in Kaggle's loop; the last one's weights."""
    home, task = task, task.to(plan.device)
    digests = {name: split.digest() for name, split in task.splits.items()}
    unlearning, loaders, net, notes = None, make_loaders(task, home), net.to(plan.device), []
    asked.watch({name: (loader.dataset, sizes[name]) for name, loader in zip(HANDED, loaders)})
    with followed(plan.submission, data, clock.home) as trace:
        for index in indices:  # with one net, as Kaggle's driver: what is left on it, such as hooks, meets the next run
            net.load_state_dict(original)
            net.train(index == 0)
            seed_everything(0, index)
            if unlearning is None:
                unlearning = load_telling(plan.submission)
                notes = check_signature(unlearning.__wrapped__, plan.submission.path, plan.submission.tree())
            if index == indices[-1]:  # a process tells one time
                returned = timed(clock, plan.device, lambda: unlearning(net, *loaders))
            else:
                returned = ended(lambda: unlearning(net, *loaders))
            state = as_it_stands(net)
            check_result(net, returned, original)
            check_data(task, digests, loaders)
    check_at_rest(net, state)
    told = trace.as_json()
    trace.remove_made()  # else the runs of a grading would find what was made from two batches
    return pack(state, original, {**told, "notes": [*notes, *unlearning.told]})
