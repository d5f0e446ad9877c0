"""Check a submission against the contract in seconds: import, signature, and a dry run on two batches.

The dry run happens in a process of its own, so a submission that exits, hangs or crashes cannot take the checker along.

How to run it: python -m local_eval check my_method.py
"""

from __future__ import annotations

import ast
import contextlib
import copy
import io
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from local_eval.contract import SubmissionError, check_result, load_submission, parse_source, submission_path
from local_eval.loaders import make_loaders
from local_eval.pool import Failure, run_jobs
from local_eval.runs import attempt, check_data, seed_everything, timed
from local_eval.sources import TRAVELS
from local_eval.task import Task, load_task

TWO_BATCHES = 128  # examples of each loader
TIME_LIMIT = 300.0  # seconds for the dry runs together; a laptop needs most of a minute for a full resnet18
CHATTY = 2000  # characters printed in one run; 512 runs fill a notebook's log


@dataclass(frozen=True)
class CheckPlan:
    """What the dry run's process needs."""

    submission: Path
    task: str
    device: str


def check_submission(name: str, task: str, device: str) -> list[str]:
    """Check a submission by name or path; returns remarks that are no errors.

    Raises:
        SubmissionError: the contract is broken; the message says where and what to change.
    """
    path = submission_path(name)
    remarks = foreign_imports(path)
    plan = CheckPlan(path, task, device)
    ((_, result),) = run_jobs(dry_run, plan, [0], workers=1, timeout=TIME_LIMIT, title="dry run")
    if isinstance(result, Failure):
        details = f"\n{result.traceback}" if result.traceback else ""
        raise SubmissionError(f"{path}: {result.reason}{details}")
    return remarks + result


def foreign_imports(path: Path) -> list[str]:
    """Remarks on imports that a stand-alone notebook cannot take along."""
    remarks = []
    for node in ast.walk(parse_source(path)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names = [node.module or "."] if isinstance(node, ast.ImportFrom) else names
        for name in names:
            if name.split(".")[0] not in TRAVELS:
                remarks.append(f"line {node.lineno}: imports {name}, which a notebook cannot take along")
    return remarks


def dry_run(plan: CheckPlan, _: int) -> list[str] | Failure:
    """Two runs with different seeds, in train and then in eval mode as on Kaggle; returns remarks."""
    return attempt(lambda: _dry_run(plan))


def _dry_run(plan: CheckPlan) -> list[str]:
    task = _two_batches(load_task(plan.task)).to(plan.device)
    original = task.make_net().to(plan.device)
    first, printed, seconds = _dry_once(plan, task, original, 0)
    second, _, _ = _dry_once(plan, task, original, 1)
    remarks = []
    if all(torch.equal(first[k], second[k]) for k in first):
        remarks.append("two seeds gave the same net: a deterministic method scores 0, because its runs have no spread")
    if all(torch.equal(first[k], v) for k, v in original.state_dict().items()):
        remarks.append("the net was not changed at all")
    if printed > CHATTY:
        remarks.append(f"it prints {printed} characters a run; 512 runs would flood the notebook")
    return [*remarks, f"dry run on two batches: {seconds:.1f} s"]


def _dry_once(plan: CheckPlan, task: Task, original: torch.nn.Module, index: int) -> tuple[dict, int, float]:
    net = copy.deepcopy(original).train(index == 0)
    digests = {name: split.digest() for name, split in task.splits.items()}
    said = io.StringIO()
    seed_everything(0, index)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        unlearning = load_submission(plan.submission)
        seconds, returned = timed(plan.device, lambda: unlearning(net, *make_loaders(task)))
    check_result(net, returned, original.state_dict())
    check_data(task, digests)
    return net.state_dict(), len(said.getvalue()), seconds


def _two_batches(task: Task) -> Task:
    return replace(task, **{name: split[slice(0, TWO_BATCHES)] for name, split in task.splits.items()})
