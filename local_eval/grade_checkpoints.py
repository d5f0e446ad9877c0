"""Look at checkpoints that someone else made: a submission.zip from Kaggle, or a folder of them.

One checkpoint is in memory at a time, in a process of its own, so 512 of 45 MB grade in well under 2 GB and a file
that crashes torch does not take the grader along. What was looked at is kept: the same command goes on from there.

How to run it: python -m local_eval grade submission.zip --task digits
"""

from __future__ import annotations

import math
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

from local_eval.engine.failure import Failure
from local_eval.engine.files import locked
from local_eval.engine.pool import run_jobs
from local_eval.engine.provenance import versions
from local_eval.engine.records import Record, read_records, record_path, save_record
from local_eval.engine.state_files import CheckpointError
from local_eval.grader import Grader
from local_eval.runs.checkpoints import Checkpoints
from local_eval.tasks.evaluate import evaluate
from local_eval.tasks.load import load_task
from local_eval.tasks.task import Task

TOLD = 5  # wrong checkpoints after which to stop and tell


@dataclass(frozen=True)
class CheckpointPlan:
    """What a worker needs to evaluate checkpoint i."""

    task: str
    checkpoints: Checkpoints
    device: str


def evaluate_checkpoints(grader: Grader, checkpoints: Checkpoints, folder: Path) -> dict[int, Record]:
    """Every checkpoint as the grader sees it, kept in a folder as soon as it is looked at; what is there is taken.

    Raises:
        CheckpointError: with the first few that cannot be used; the others are kept.
        OutputError: the folder cannot be used.
    """
    plan, wrong = CheckpointPlan(grader.task_spec, checkpoints, grader.device), []
    with locked(folder):
        kept = kept_evaluations(grader, checkpoints, folder)
        records = {k: record for k, record in kept.items() if _is_of(record, checkpoints, k)}
        missing = [index for index in range(len(checkpoints.names)) if index not in records]
        with closing(run_jobs(one_checkpoint, plan, missing, grader.workers, grader.timeout, "checkpoints")) as results:
            for index, result in results:
                if isinstance(result, Failure):
                    wrong.append(f"checkpoint {index}: {result.reason}")
                else:
                    records[index] = replace(result, identity=evaluation_identity(grader, checkpoints, index))
                    save_record(record_path(folder, index), records[index])
                if len(wrong) == TOLD:
                    break
    if wrong:
        raise CheckpointError("\n".join(sorted(wrong)))
    return dict(sorted(records.items()))


def kept_evaluations(grader: Grader, checkpoints: Checkpoints, folder: Path) -> dict[int, Record]:
    """The evaluations of these very checkpoints that a folder holds."""
    shape = (len(grader.task.forget), grader.task.num_classes)
    identity = partial(evaluation_identity, grader, checkpoints)
    return read_records(folder, identity, len(checkpoints.names), shape)


def _is_of(record: Record, checkpoints: Checkpoints, index: int) -> bool:
    """Is it the evaluation of what the file holds now? A folder knows only sizes and times, which can be set."""
    return checkpoints.path.is_file() or record.facts.get("content") == checkpoints.content(index)


def evaluation_identity(grader: Grader, checkpoints: Checkpoints, index: int) -> dict:
    """What the evaluation of one checkpoint belongs to."""
    return {"kind": "checkpoint", "task": grader.fingerprint, "checkpoints": checkpoints.digest, "index": index}


def how_read(checkpoints: Checkpoints, records: dict[int, Record]) -> str:
    """What was unusual about names and contents, in one line; empty if all was as the competition has it."""
    forms = Counter(form for record in records.values() if (form := record.facts.get("form")))
    some = [
        form + (f" (in {count} of {len(records)})" if count < len(records) else "") for form, count in forms.items()
    ]
    return "; ".join(filter(None, [checkpoints.said, *some[:4]]))


def one_checkpoint(plan: CheckpointPlan, index: int) -> Record | Failure:
    """Load and evaluate checkpoint `index`, in this process."""
    task = _task(plan.task, plan.device)
    net = task.make_net().to(plan.device)
    try:
        form, content = plan.checkpoints.load(index, net)
    except CheckpointError as error:
        return Failure(str(error))
    facts = {"seconds": math.nan, "form": form, "content": content, **versions(plan.device)}
    return Record(evaluate(net, task), {"kind": "checkpoint", "index": index}, facts)


@lru_cache(maxsize=1)
def _task(spec: str, device: str) -> Task:
    return load_task(spec, tried=True).to(device)
