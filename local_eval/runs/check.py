"""Check a submission against the contract in seconds: import, signature, dry runs, and what their seeds changed.

The dry run happens in a process of its own, so a submission that exits, hangs or crashes cannot take the checker along.

How to run it: python -m local_eval check my_method.py
"""

from __future__ import annotations

import ast
import contextlib
import copy
import functools
import json
import math
import mmap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from local_eval.isolation.cards import kind_of
from local_eval.isolation.child import Answer, Clock, Failure, first_lines
from local_eval.isolation.pool import run_jobs
from local_eval.isolation.share_gpu import run_on_device
from local_eval.methods.contract import check_result, load_telling, work_at_import
from local_eval.methods.handover import as_it_stands, check_at_rest, ended, pack, unpack
from local_eval.methods.identity import left_behind
from local_eval.methods.loaders import handed_out
from local_eval.methods.misread import counts_on_cpu_batches
from local_eval.methods.signature import check_signature
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import TRAVELS, Submission
from local_eval.runs.one_run import HANDED, check_data, data_of, followed, in_worker, seed_everything, timed
from local_eval.runs.plan import Sandbox, run_confined
from local_eval.tasks.evaluate import initial_net
from local_eval.tasks.task import Task

# Why runs come out the same although their seeds differ, or differ although the seed is the same.


SEEDING = {"manual_seed", "manual_seed_all", "seed", "seed_everything", "set_seed", "fix_seed", "set_random_seed"}
GENERATORS = {"default_rng", "RandomState", "Random", "Generator", "SeedSequence"}
UNSEEDED = {"urandom", "SystemRandom", "token_bytes", "randbits", "time", "time_ns", "perf_counter", "uuid4", "getpid"}
State = dict[str, Tensor]


def same(one: State, other: State) -> bool:
    """Are two state dicts equal to the bit?"""
    return all(torch.equal(value, other[name]) for name, value in one.items())


def on_seeds(
    submission: Submission, first: State, second: State, again: State, in_a_row: State, exact: bool = True
) -> list[str]:
    """Remarks on the nets of runs.

    Args:
        first, second: of run 0 and of run 1, each the first in its process.
        again: of run 1 alone once more.
        in_a_row: of run 1 after run 0 in one process, as in Kaggle's loop.
        exact: whether equal runs are equal to the bit here; on a GPU sums may come in another order.
    """
    remarks = []
    if same(first, second):
        text = "two seeds gave the same net: a deterministic method scores 0, because its runs have no spread"
        remarks.append(text + _because(fixed_seeds(submission)))
    elif exact and not same(second, again):
        text = "one seed gave two nets: a run cannot be repeated, which grading allows"
        remarks.append(text + _because(unseeded(submission)))
    elif same(first, in_a_row):
        text = "two runs in a row in one process gave the same net, as they would on Kaggle: that scores 0 there"
        remarks.append(text + _because(fixed_seeds(submission)))
    if exact and same(second, again) and not same(second, in_a_row):
        text = "a run after another in one process, as on Kaggle, gives another net than alone: something survives, "
        text += "in the file or on the net (hooks, requires_grad, half precision)"
        remarks.append(text + _because(kept(submission)))
    return remarks


def _because(places: list[str]) -> str:
    return f"; a likely reason: {', '.join(places[:3])}" if places else ""


def fixed_seeds(submission: Submission) -> list[str]:
    """Calls that seed something with a value of their own, such as '`torch.manual_seed(0)` in line 7'."""
    given = [call for call in _calls(submission) if call.args or call.keywords]
    return [_reported(submission, call) for call in given if _name(call) in SEEDING | GENERATORS]


def unseeded(submission: Submission) -> list[str]:
    """Calls whose result no seed decides: fresh generators, the clock, the system."""
    return [
        _reported(submission, call)
        for call in _calls(submission)
        if _name(call) in UNSEEDED or _name(call) in GENERATORS | {"seed"} and not (call.args or call.keywords)
    ]


def kept(submission: Submission) -> list[str]:
    """What is made once, when the file is imported, and may change from run to run."""
    found = []
    for node in submission.tree().body:
        values = [node.value] if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None else []
        if any(isinstance(value, ast.Call | ast.List | ast.Dict | ast.Set | ast.ListComp) for value in values):
            found.append(_reported(submission, node))
    for node in ast.walk(submission.tree()):
        if isinstance(node, ast.Global):
            found.append(_reported(submission, node))
    return sorted(found, key=lambda text: "Generator" not in text and "global" not in text)


def _calls(submission: Submission) -> Iterator[ast.Call]:
    return (node for node in ast.walk(submission.tree()) if isinstance(node, ast.Call))


def _name(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _reported(submission: Submission, node: ast.stmt | ast.expr) -> str:
    return f"`{ast.unparse(node)[:60]}` in {submission.place(node.lineno)}"


# What a submission asks of loaders in a dry run, so that a dry run can tell whether it was too small for that.
#
# A DataLoader with batch_size=256 and drop_last=True over 128 examples gives no batch; a fifth of 128 examples may
# hold none of a class. What then comes out of the dry run says nothing about the submission. So the submission's
# process notes every DataLoader that is made or gone through, in a page of memory that both processes see: what it
# noted is there even if it crashed.


PAGE, MOST = 1 << 15, 100  # bytes of the page; loaders that are noted
STEP = 8  # how many times more examples where it cannot be told how many would do


@dataclass(frozen=True)
class Seen:
    """A DataLoader that was made or gone through."""

    over: str  # which set it is over, "" if that cannot be told
    examples: int  # of its data set
    batch: int | None  # examples that it asks for in a batch, where that can be told
    batches: int  # that it gives
    drop_last: bool
    grows: bool  # the set is larger in the task than in this dry run, or may be

    @property
    def empty(self) -> bool:
        """Does it give nothing?"""
        return self.batches == 0

    @property
    def lacks(self) -> float:
        """How many times more examples would make two batches; at most 1 if there are enough."""
        if not self.grows:
            return 1.0
        if not self.examples or self.batch is None:
            return float(STEP) if self.empty else 1.0
        return 2 * self.batch / self.examples if self.empty or self.batch > self.examples else 1.0

    def reported(self) -> str:
        """In words, for one that gives nothing."""
        over = f"the {self.over} set" if self.over else "a data set"
        how = f"batch_size={self.batch}" if self.batch is not None else "a sampler of its own"
        how += ", drop_last=True" if self.drop_last else ""
        here = "" if self.grows else ", and the task has no more"
        return f"a DataLoader over {over} ({self.examples} examples{here}) with {how} gives no batch"


class Asked:
    """What the loaders of one run were asked for. Make it before the fork; `watch` in the run, `seen` outside."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, PAGE)
        self._noted: list[Seen] = []

    def run_ended(self) -> None:
        """One of the runs of this process has come to its end."""
        self._page[-1] = 1

    @property
    def any_ended(self) -> bool:
        """Had a run come to its end, whatever became of the next?"""
        return self._page[-1] != 0

    def watch(self, sets: Mapping[str, tuple[Dataset, int]]) -> None:
        """From now on note the DataLoaders of this process, to its end.

        Args:
            sets: by name, a data set as it is handed over and how many examples it has in the task.
        """
        made, gone_through = DataLoader.__init__, DataLoader.__iter__

        @functools.wraps(made)
        def init(loader: DataLoader, *args: object, **options: object) -> None:
            made(loader, *args, **options)
            self._note(loader, sets)

        @functools.wraps(gone_through)
        def walk(loader: DataLoader):
            self._note(loader, sets)
            return gone_through(loader)

        DataLoader.__init__, DataLoader.__iter__ = init, walk

    def _note(self, loader: DataLoader, sets: Mapping[str, tuple[Dataset, int]]) -> None:
        with contextlib.suppress(Exception):  # no length, or one that fails: there is nothing to tell then
            found = _seen(loader, sets)
            if found not in self._noted and len(self._noted) < MOST:
                self._noted.append(found)
                text = json.dumps([asdict(seen) for seen in self._noted]).encode()
                if len(text) < PAGE - 2:  # the last byte is `run_ended`'s
                    self._page[: len(text) + 1] = text + b"\0"

    def seen(self) -> list[Seen]:
        """What was noted."""
        text = self._page[:-1].partition(b"\0")[0]
        with contextlib.suppress(ValueError, TypeError):  # written by a process that may do anything
            return [Seen(**values) for values in json.loads(text or b"[]")]
        return []


def _seen(loader: DataLoader, sets: Mapping[str, tuple[Dataset, int]]) -> Seen:
    root = loader.dataset
    while isinstance(inner := vars(root).get("dataset"), Dataset):  # of a Subset
        root = inner
    over = next((name for name, (dataset, _) in sets.items() if dataset is root), "")
    sampler = loader.batch_sampler
    batch = loader.batch_size or getattr(sampler, "batch_size", None)
    return Seen(
        over=over,
        examples=len(loader.dataset),
        batch=batch if isinstance(batch, int) else None,
        batches=len(loader),
        drop_last=bool(loader.drop_last or getattr(sampler, "drop_last", False)),
        grows=not over or len(root) < sets[over][1],
    )


def enough(rows: int, seen: Iterable[Seen], failed: bool) -> int:
    """How many examples a loader a larger dry run should have.

    Args:
        rows: that this one had.
        seen: in this one.
        failed: whether it failed; then every loader counts, else those alone that gave nothing.
    """
    lacking = [loader.lacks for loader in seen if failed or loader.empty]
    factor = max([1.0, *lacking])
    return math.ceil(rows * (factor if factor > 1 else STEP))


# The dry run of `check`: a submission on the first examples of every set, in processes of its own; and the remarks.
#
# Two batches a loader are enough for most. Where a loader gave nothing, or something failed or did not change that
# may have rested on that, the dry run is done again with more examples, at last with all that the task
# has. What still rests on too few is not remarked but said to be so.


TWO_BATCHES = 128  # examples of each loader
TIME_LIMIT = 300.0  # seconds for the dry runs together; a laptop needs most of a minute for a full resnet18
LONGER = 100.0  # seconds that larger dry runs may take, as far as that can be foreseen
IN_A_ROW = "the second of two runs in a row failed, on the net that the first one left, as on Kaggle: "
UNCHANGED = "the net was not changed at all"
CHATTY = 2000  # characters printed in one run; 512 runs fill a notebook's log


@dataclass(frozen=True)
class CheckPlan:
    """What the dry run's process needs."""

    submission: Submission
    task: str
    device: str
    sandbox: Sandbox | None = None
    batches_on: str = "device"


@dataclass
class Attempt:
    """Dry runs on so many examples a loader: of run 1 alone, and of run 0 and run 1 in a row."""

    rows: int
    whole: bool  # whether these are all that the task has
    seen: list[Seen] = field(default_factory=list)  # of loaders, in the first run
    answers: list[Answer] = field(default_factory=list)
    reported: dict = field(default_factory=dict)  # beside the weights of the first run
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
    """Runs with two seeds, one alone and both in one process as on Kaggle; returns remarks."""
    task, start = in_worker(plan.task).without_test(), time.monotonic()
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
    if found.failure is not None and torch.device(plan.device).type != "cpu" and plan.batches_on != "cpu":
        found.failure = _with_cpu_batches(plan, task, found)
    return _judged(task, found)


def _with_cpu_batches(plan: CheckPlan, task: Task, found: Attempt) -> Failure:
    """The failure; if it may come of batches that lie on a GPU, with what a dry run with CPU batches gave."""
    if not counts_on_cpu_batches(found.failure.reason + found.failure.traceback):
        return found.failure
    other = _attempt(replace(plan, batches_on="cpu"), task, found.rows).failure
    verdict = "it keeps the contract" if other is None else f"it fails too: {other.reason}"
    return replace(found.failure, reason=f"{found.failure.reason}; tried with --batches-on cpu: {verdict}")


def _largest(task: Task) -> int:
    return max(len(task.splits[name]) for name in HANDED)


def _more(attempt: Attempt, most: int) -> int:
    """Examples for the next attempt: all, if that is quick or little more, else as many as the loaders asked for."""
    rows, seconds = enough(attempt.rows, attempt.seen, attempt.failure is not None), _foreseen(attempt, most)
    return most if 2 * rows > most or (seconds is not None and seconds < LONGER / 4) else rows


def _foreseen(attempt: Attempt, rows: int) -> float | None:
    """Seconds that dry runs on so many examples may take; None if nothing was timed."""
    seconds = [answer.seconds for answer in attempt.answers if answer.seconds == answer.seconds]
    return 3 * max(seconds) * rows / attempt.rows if seconds else None


def _attempt(plan: CheckPlan, task: Task, rows: int, looks: tuple[bool, bool] | None = None) -> Attempt:
    """Dry runs on so many examples; fewer of them if these look as those of a smaller attempt did, `looks`."""
    whole = _largest(task) <= rows
    found = Attempt(rows, whole)
    part = task if whole else replace(task, **{n: split[slice(0, rows)] for n, split in task.splits.items()})
    net = initial_net(part, seed=0)
    original = copy.deepcopy(net.state_dict())
    sizes = {name: len(task.splits[name]) for name in HANDED}
    tried = partial(_tried, found, plan, partial(_dry_once, plan, part, sizes, net, original, data_of(plan.task)))
    alone = tried(original, 1)
    if alone is None or (any(loader.grows for loader in found.empty) and not whole):
        return found  # more examples first
    second, row = alone[0], tried(original, 0, 1)
    if row is None:
        return found
    first, in_a_row = row
    found.looks = same(first, second), same(first, original)
    found.settled = found.looks == looks
    if found.settled:
        return found
    exact, again = torch.device(plan.device).type == "cpu", [second]
    if exact and not same(second, in_a_row):  # else run 1 has been repeated already
        again = tried(original, 1)
        if again is None:
            return found
    found.remarks = on_seeds(plan.submission, first, second, again[0], in_a_row, exact)
    if found.looks[1]:
        found.remarks.append(UNCHANGED)
    return found


def _tried(
    found: Attempt, plan: CheckPlan, work: Callable[..., bytes], original: State, *indices: int
) -> list[State] | None:
    """The states after each of these runs, one after the other in one process; None if `found` says what went wrong."""
    asked, begun = Asked(), time.monotonic()
    answer = run_confined(plan.sandbox, plan.submission, plan.device, partial(work, asked, indices), TIME_LIMIT / 4)
    found.answers.append(answer)
    found.seen = found.seen or asked.seen()
    if isinstance(answer.content, Failure):
        reason = (IN_A_ROW if asked.any_ended else "") + answer.content.reason
        found.failure = replace(answer.content, reason=reason, printed=answer.printed)
        found.stopped = time.monotonic() - begun > TIME_LIMIT / 4
        return None
    try:
        state, reported = unpack(answer.content, _of_runs(indices, [original] * len(indices)))
    except SubmissionError as error:
        found.failure = Failure(str(error))
        return None
    found.reported = found.reported or reported
    return [{name: state[_of_run(index, name)] for name in original} for index in indices]


def _of_runs(indices: Sequence[int], states: Sequence[State]) -> State:
    """States of several runs as one."""
    return {_of_run(k, name): value for k, state in zip(indices, states) for name, value in state.items()}


def _of_run(index: int, name: str) -> str:
    return f"{name} after run {index}"


def _judged(task: Task, found: Attempt) -> list[str] | Failure:
    """What is told in the end."""
    of = f"at most {found.rows} examples a loader, of up to {_largest(task)} in the task"
    empty = list(dict.fromkeys(loader.reported() for loader in found.empty))
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
    remarks += [left_behind(str(name)) for name in found.reported.get("kept", ())]
    remarks += [*found.reported.get("notes", []), *_on_printed(found.answers[0])]
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
    net: nn.Module,  # forked for every call: each has it for itself
    original: State,
    data: list[Path],
    asked: Asked,
    indices: tuple[int, ...],
    clock: Clock,
) -> bytes:
    """In the submission's own process: these runs one after the other, as in Kaggle's loop; the weights after each."""
    task, loaders = handed_out(task, plan.device, plan.batches_on)
    digests = {name: split.digest() for name, split in task.splits.items()}
    unlearning, net, notes, states = None, net.to(plan.device), [], []
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
            states.append(as_it_stands(net))
            check_result(net, returned, original)
            check_data(task, digests, loaders)
            asked.run_ended()
    check_at_rest(net, states[-1])
    reported = trace.as_json()
    trace.remove_made()  # else the runs of a grading would find what was made from two batches
    like = _of_runs(indices, [original] * len(indices))
    return pack(_of_runs(indices, states), like, {**reported, "notes": [*notes, *unlearning.reported]})


def check_submission(
    name: str | Submission,
    task: str,
    device: str,
    sandbox: Sandbox | None = None,
    batches_on: str = "device",
    forked: bool = False,
) -> list[str]:
    """Check a submission by name or path; returns remarks that are no errors.

    Args:
        batches_on: where batches lie: "device", or "cpu" as on Kaggle.
        forked: as in `run_jobs`: may the dry run's process be a copy of this one?
    Raises:
        SubmissionError: the contract is broken; the message says where and what to change.
        SandboxError: the sandbox cannot be had here.
    """
    submission = Submission.find(name)
    if sandbox is not None:
        sandbox.check(submission, device)
    book = submission.notebook()
    remarks = [*(book.left_out if book else ()), *foreign_imports(submission), *work_at_import(submission)]
    plan, limit = CheckPlan(submission, task, kind_of(device), sandbox, batches_on), 2 * TIME_LIMIT
    if forked:
        ((_, result),) = run_jobs(dry_run, plan, [0], 1, limit, "dry run", forked=True)
    else:
        ((_, result),) = run_on_device(device, dry_run, plan, [0], 1, limit, "dry run")
    if isinstance(result, Failure):
        raise SubmissionError(with_path(submission, result))
    return remarks + result


def with_path(submission: Submission, failure: Failure) -> str:
    """A failure's text, which names the submission's file once."""
    text = failure.as_text().rstrip()
    return text if failure.reason.startswith(str(submission.path)) else f"{submission.path}: {text}"


def foreign_imports(submission: Submission) -> list[str]:
    """Remarks on imports that a stand-alone notebook cannot take along."""
    remarks = []
    for node in ast.walk(submission.tree()):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names = [node.module or "."] if isinstance(node, ast.ImportFrom) else names
        for name in names:
            if name.split(".")[0] not in TRAVELS:
                where = submission.place(node.lineno)
                remarks.append(f"{where}: imports {name}, which an exported notebook cannot take along")
    return remarks
