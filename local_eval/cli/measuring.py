"""The commands that measure what no grading pays for: measures, from records on disk; relearn, by training further.

How to run it: python -m local_eval measures fanchuan --runs 64
"""

from __future__ import annotations

from pathlib import Path

from local_eval.cli.checking import device_of
from local_eval.cli.grading import tell_failures
from local_eval.cli.request import Request
from local_eval.grader import Grader
from local_eval.isolation.cards import card_name
from local_eval.methods.submission import Submission, looks_like_checkpoints
from local_eval.metric.measures import Labels
from local_eval.metric.published import Asked, measures_on_request
from local_eval.metric.score import ScoreError
from local_eval.report.measured import (
    as_json,
    as_markdown,
    as_text,
    relearned_json,
    relearned_png,
    relearned_text,
)
from local_eval.runs.relearn import ORACLE, UNLEARNED, Relearning, curves
from local_eval.store.files import write_atomically
from local_eval.store.lines import terminal_width
from local_eval.store.provenance import made_with

FEWEST_TO_RELEARN = 2  # models a side: of one there is no interval


def measures(request: Request) -> int:
    """Measure finished runs of one method or several; print, and write measures-N<N>.json beside each score."""
    given = [name for name in request.names if looks_like_checkpoints(name)]
    if given:
        raise ScoreError(f"{given[0]} holds finished models; measures needs runs that `grade` has made")
    where = (request.task, request.out, request.runs, request.seed, device_of(request))
    grader = Grader(*where, batches_on=request.batches_on)
    found = {}
    for name in dict.fromkeys(request.names):
        submission = Submission.find(request.found[name])
        found[submission.label] = _measured(grader, submission, request)
    if request.markdown:
        print(as_markdown(found))
    return 0


def _measured(grader: Grader, submission: Submission, request: Request) -> list[Asked]:
    """Measure one, and write what was found."""
    done, _ = grader.runs_to_score(submission, allow_missing=False)
    pool = grader.cached_oracles()
    if len(pool) < len(done):
        train = grader.command("oracles", runs=len(done))
        raise ScoreError(f"{len(done)} runs need as many oracles, and {len(pool)} are there; train them: {train}")
    labels, originals = Labels.of(grader.task), grader.original_records()
    found = measures_on_request([done[k] for k in sorted(done)], pool, originals, labels, request.references)
    path = _folder(grader, submission) / f"measures-N{len(done)}.json"
    about = _about(grader, submission) | {"runs": len(done), "oracles": len(pool), "references": request.references}
    write_atomically(path, as_json(found, about).encode())
    if not request.markdown:
        print(as_text(found, submission.label, grader.task.name, len(done), terminal_width()))
        print(f"written to {path}")
    return found


def _folder(grader: Grader, submission: Submission) -> Path:
    return grader.workspace.of(grader.run_plan(submission).folder_name)


def _about(grader: Grader, submission: Submission) -> dict:
    """What was measured, on what, and with what."""
    plan = grader.run_plan(submission)
    return {
        "submission": submission.label,
        "settings": dict(submission.settings),
        "task": grader.task.name,
        "task_spec": grader.task_spec,
        "seed": grader.seed,
        "made_from": plan.made_from(),
        **made_with(grader.device, card_name(grader.device)),
    }


def relearn(request: Request) -> int:
    """Relearn K runs and K oracles; print the curves, write them and their figure beside the score."""
    if request.models < FEWEST_TO_RELEARN:
        raise ScoreError(f"--models {request.models}: give {FEWEST_TO_RELEARN} or more, or there is no interval")
    submission = Submission.find(request.found[request.submission])
    where = (request.task, request.out, request.models, request.seed, device_of(request))
    how = {"workers": request.workers, "timeout": request.timeout, "sandbox": request.sandbox}
    grader = Grader(*where, **how, batches_on=request.batches_on)
    settings = Relearning(request.relearn_epochs, request.tenth)
    weights = grader.weights_of_oracles()
    checkpoints, failures = grader.kept_runs(submission)
    if tell_failures(failures, grader, submission, [grader.seed]):
        return 1
    folder = _folder(grader, submission)
    plan = grader.relearn_plan(checkpoints, weights, settings)
    places = {UNLEARNED: grader.workspace.relearned(folder), ORACLE: grader.workspace.relearned(weights)}
    found = curves(plan, places, request.workers)
    on = "the retain set and a tenth of the forget set" if request.tenth else "the retain set alone"
    print(relearned_text(found, submission.label, grader.task.name, on, terminal_width()))
    about = _about(grader, submission) | {
        "tenth": settings.tenth,
        "learning_rate": settings.rate(grader.task),
        "batch_size": grader.task.recipe.batch_size,
    }
    path = folder / f"{settings.name}.json"
    write_atomically(path, relearned_json(found, about).encode())
    write_atomically(path.with_suffix(".png"), relearned_png(found, submission.label))
    print(f"written to {path}, and its figure to {path.with_suffix('.png').name} beside it")
    return 0
