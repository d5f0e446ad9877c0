"""Check a submission against the contract in seconds: import, signature, and a dry run on two batches.

The dry run happens in a process of its own, so a submission that exits, hangs or crashes cannot take the checker along.

How to run it: python -m local_eval check my_method.py
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from functools import partial

import torch

from local_eval.engine.apart import Answer, Clock
from local_eval.engine.failure import Failure, first_lines
from local_eval.engine.pool import run_jobs
from local_eval.runs.confined import Sandbox, run_confined
from local_eval.runs.contract import check_result, load_telling
from local_eval.runs.handover import pack, unpack
from local_eval.runs.imported import work_at_import
from local_eval.runs.loaders import make_loaders
from local_eval.runs.one_run import check_data, seed_everything, timed
from local_eval.runs.seeds import on_seeds, same
from local_eval.runs.submissions import TRAVELS, Submission, SubmissionError
from local_eval.tasks.evaluate import initial_net
from local_eval.tasks.load import load_task
from local_eval.tasks.task import Task

TWO_BATCHES = 128  # examples of each loader
TIME_LIMIT = 300.0  # seconds for the dry runs together; a laptop needs most of a minute for a full resnet18
IN_A_ROW = "the second of two runs in a row failed, on the net that the first one left, as on Kaggle: "
CHATTY = 2000  # characters printed in one run; 512 runs fill a notebook's log


@dataclass(frozen=True)
class CheckPlan:
    """What the dry run's process needs."""

    submission: Submission
    task: str
    device: str
    sandbox: Sandbox | None = None


def check_submission(name: str, task: str, device: str, sandbox: Sandbox | None = None) -> list[str]:
    """Check a submission by name or path; returns remarks that are no errors.

    Raises:
        SubmissionError: the contract is broken; the message says where and what to change.
        SandboxError: the sandbox cannot be had here.
    """
    submission = Submission.find(name)
    if sandbox is not None:
        sandbox.check(submission, device)
    book = submission.notebook()
    remarks = [*(book.left_out if book else ()), *foreign_imports(submission), *work_at_import(submission)]
    plan = CheckPlan(submission, task, device, sandbox)
    ((_, result),) = run_jobs(dry_run, plan, [0], workers=1, timeout=2 * TIME_LIMIT, title="dry run")
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


def dry_run(plan: CheckPlan, _: int) -> list[str] | Failure:
    """Runs with two seeds, one of them twice, and both in one process as on Kaggle; returns remarks."""
    task = _two_batches(load_task(plan.task, tried=True))
    original = initial_net(task, seed=0).state_dict()
    jobs = [partial(_dry_once, plan, task, original, (k,)) for k in (0, 1)]
    apart = partial(run_confined, plan.sandbox, plan.submission, plan.device, timeout=TIME_LIMIT / 4)
    answers = [apart(job) for job in jobs]
    if not any(isinstance(answer.content, Failure) for answer in answers):
        jobs = [partial(_dry_once, plan, task, original, indices) for indices in ((0,), (0, 1))]
        answers += [apart(job) for job in jobs]
    for number, answer in enumerate(answers):
        if isinstance(answer.content, Failure):
            reason = (IN_A_ROW if number == len(answers) - 1 and number > 1 else "") + answer.content.reason
            return replace(answer.content, reason=reason, printed=answer.printed)
    try:
        first, second, again, in_a_row = (unpack(answer.content, original)[0] for answer in answers)
    except SubmissionError as error:
        return Failure(str(error))
    remarks = on_seeds(plan.submission, first, second, again, in_a_row, exact=torch.device(plan.device).type == "cpu")
    if same(first, original):
        remarks.append("the net was not changed at all")
    remarks += _on_printed(answers[0])
    return [*remarks, f"dry run on two batches: {answers[0].seconds:.1f} s"]


def _on_printed(answer: Answer) -> list[str]:
    if not answer.printed.strip():
        return []
    remarks = [f"it printed: {first_lines(answer.printed)}"]
    if answer.printed_bytes > CHATTY:
        remarks.append(f"it prints {answer.printed_bytes} characters a run; 512 runs would flood the notebook")
    return remarks


def _dry_once(
    plan: CheckPlan, task: Task, original: dict[str, torch.Tensor], indices: tuple[int, ...], clock: Clock
) -> bytes:
    """In the submission's own process: these runs one after the other, as in Kaggle's loop; the last one's weights."""
    home, task = task, task.to(plan.device)
    digests = {name: split.digest() for name, split in task.splits.items()}
    unlearning, loaders, net = None, make_loaders(task, home), task.make_net().to(plan.device)
    for index in indices:  # with one net, as Kaggle's driver: what is left on it, such as hooks, is there for the next
        net.load_state_dict(original)
        net.train(index == 0)
        seed_everything(0, index)
        unlearning = unlearning or load_telling(plan.submission)
        if index == indices[-1]:  # a process tells one time
            returned = timed(clock, plan.device, lambda net=net: unlearning(net, *loaders))
        else:
            returned = unlearning(net, *loaders)
        check_result(net, returned, original)
        check_data(task, digests, loaders)
    return pack(net.state_dict(), original, {})


def _two_batches(task: Task) -> Task:
    return replace(task, **{name: split[slice(0, TWO_BATCHES)] for name, split in task.splits.items()})
