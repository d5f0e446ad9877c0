"""Grade checkpoints that someone else made: a submission.zip from Kaggle, or a folder of them.

One checkpoint is in memory at a time, in a process of its own, so 512 of 45 MB grade in well under 2 GB and a file
that crashes torch does not take the grader along.

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
from local_eval.engine.pool import run_jobs
from local_eval.engine.provenance import versions
from local_eval.engine.records import Record, read_records, record_path, save_record
from local_eval.engine.state_files import CheckpointError
from local_eval.grader import Grader
from local_eval.metric.score import Score, check_runs, compute_score
from local_eval.report.prediction import as_json
from local_eval.report.table import save_score
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


def grade_checkpoints(grader: Grader, path: Path) -> tuple[Score, Path]:
    """Score the checkpoints in a zip or folder; their number is N. Returns the score and the path of score.json.

    Raises:
        CheckpointError: wrong names, numbers or contents; the message names the file.
        ScoreError: fewer than 16.
        OutputError: the output folder cannot be used.
    """
    checkpoints = Checkpoints.find(path, grader.task.make_net())
    grader = replace(grader, runs=len(checkpoints.names))
    check_runs(grader.runs)
    grader.finish_oracles()
    folder = _folder(grader, checkpoints)
    records = evaluate_checkpoints(grader, checkpoints)
    for index, record in records.items():  # the report draws from them
        save_record(record_path(folder, index), replace(record, identity=_identity(grader, checkpoints, index)))
    if said := how_read(checkpoints, records):
        print(f"checkpoints: {said}")
    oracles = grader.cached_oracles()
    score = compute_score(records, oracles, *grader.labels_and_persons, original=grader.original())
    score = grader.with_further(score, records, oracles)
    score = replace(score, warnings=score.warnings + grader.other_original())
    about = grader.about() | {"kaggle": as_json(grader.predicted(score)), "seed": None}
    about |= {"made_from": _identity(grader, checkpoints) | {"out": str(folder)}}
    return score, save_score(score, folder, path.name, grader.task.name, about)


def kept_evaluations(grader: Grader, path: Path) -> tuple[Path, dict[int, Record]]:
    """The folder of a zip's or folder's grading, and the evaluations that it kept; raises CheckpointError."""
    checkpoints = Checkpoints.find(path, grader.task.make_net())
    folder, shape = _folder(grader, checkpoints), (len(grader.task.forget), grader.task.num_classes)
    identity = partial(_identity, grader, checkpoints)
    return folder, read_records(folder, identity, len(checkpoints.names), shape)


def _folder(grader: Grader, checkpoints: Checkpoints) -> Path:
    original = grader.original_file.stem
    other = f"-{original}" if original != "original" else ""
    return grader.folder / f"checkpoints-{checkpoints.digest}{other}"


def _identity(grader: Grader, checkpoints: Checkpoints, index: int | None = None) -> dict:
    """What a grading of checkpoints, or the evaluation of one of them, belongs to."""
    kind = "checkpoints" if index is None else "checkpoint"
    identity = {"kind": kind, "task": grader.fingerprint, "checkpoints": checkpoints.digest}
    return identity if index is None else identity | {"index": index}


def evaluate_checkpoints(grader: Grader, checkpoints: Checkpoints) -> dict[int, Record]:
    """Every checkpoint as the grader sees it; raises CheckpointError with the first few that cannot be used."""
    plan, records, wrong = CheckpointPlan(grader.task_spec, checkpoints, grader.device), {}, []
    indices = list(range(len(checkpoints.names)))
    with closing(run_jobs(one_checkpoint, plan, indices, grader.workers, grader.timeout, "checkpoints")) as results:
        for index, result in results:
            if isinstance(result, Failure):
                wrong.append(f"checkpoint {index}: {result.reason}")
            else:
                records[index] = result
            if len(wrong) == TOLD:
                break
    if wrong:
        raise CheckpointError("\n".join(sorted(wrong)))
    return dict(sorted(records.items()))


def how_read(checkpoints: Checkpoints, records: dict[int, Record]) -> str:
    """What was unusual about names and contents, in one line; empty if all was as the competition has it."""
    forms = Counter(form for record in records.values() if (form := record.facts["form"]))
    some = [
        form + (f" (in {count} of {len(records)})" if count < len(records) else "") for form, count in forms.items()
    ]
    return "; ".join(filter(None, [checkpoints.said, *some[:4]]))


def one_checkpoint(plan: CheckpointPlan, index: int) -> Record | Failure:
    """Load and evaluate checkpoint `index`, in this process."""
    task = _task(plan.task, plan.device)
    net = task.make_net().to(plan.device)
    try:
        form = plan.checkpoints.load(index, net)
    except CheckpointError as error:
        return Failure(str(error))
    facts = {"seconds": math.nan, "form": form, **versions(plan.device)}
    return Record(evaluate(net, task), {"kind": "checkpoint", "index": index}, facts)


@lru_cache(maxsize=1)
def _task(spec: str, device: str) -> Task:
    return load_task(spec).to(device)
