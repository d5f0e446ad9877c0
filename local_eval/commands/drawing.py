"""Draw the page of a graded method from what lies on disk: for `report`, and at the end of `grade`.

How to run it: python -m local_eval report fanchuan --task digits
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from local_eval.engine.records import Record, RecordError
from local_eval.given_sides import find_given, score_folder
from local_eval.grader import Grader
from local_eval.metric.metric import example_epsilons
from local_eval.metric.score import ScoreError, confidences
from local_eval.oracles.original import original_record
from local_eval.report.page.render import write_page
from local_eval.report.page.results import Results, beyond_in
from local_eval.report.table import read_score
from local_eval.runs.runs import finished_runs
from local_eval.runs.settings import label
from local_eval.runs.submissions import SUBMISSIONS, Submission, looks_like_checkpoints
from local_eval.tasks.names import option_words, split_changes

ALIKE = ("runs", "originals", "interval_level", "retrained")  # in what may stand beside it
NEEDED = ("oracles", "projected", "not_projected", "missing_runs", "notes", "seed", "task_spec", "when")
CHECKED = 3  # examples whose epsilons are computed again: do the records still belong to the score?


def draw_report(grader: Grader, submission: str, images: bool = True) -> Path:
    """Write report.html beside score.json; returns its path.

    Args:
        submission: name or path of a submission, or of checkpoints.
        images: whether the page shows three images of the forget set.
    Raises:
        ScoreError: there is no score, or runs and oracles are not those of the score any more.
        RecordError: score.json cannot be trusted.
        OutputError: the page cannot be written.
    """
    if looks_like_checkpoints(submission):
        folder, score, records = _of_checkpoints(grader, Path(submission))
        named = str(Path(submission).name)
    else:
        folder, score, records = _of_runs(grader, submission)
        named = _as_given(Submission.find(submission))
    results = _results(grader, folder, score, records, _command(named, score))
    _check_fit(results)
    return write_page(results, folder, images)


def _of_runs(grader: Grader, submission: str) -> tuple[Path, dict, dict[int, Record]]:
    plan = grader.run_plan(submission)
    folder = grader.score_folder(plan.folder_name)
    score = _score_in(folder, submission)
    missing = set(score["missing_runs"])
    shape = len(grader.task.forget), grader.task.num_classes
    done = finished_runs(plan, grader.folder / plan.folder_name, score["runs"] + len(missing), shape)
    return folder, score, {k: run for k, run in done.items() if k not in missing}


def _of_checkpoints(grader: Grader, path: Path) -> tuple[Path, dict, dict[int, Record]]:
    side = find_given(grader, path, "unlearned", look=False)
    folder = score_folder(grader, side)
    return folder, _score_in(folder, path.name), {record.identity["index"]: record for record in side.records}


def _score_in(folder: Path, submission: str) -> dict:
    again = f"python -m local_eval grade {submission}"
    if not (folder / "score.json").exists():
        raise ScoreError(f"there is no score of {submission} in {folder}; make one first: {again}")
    score = read_score(folder / "score.json")
    if gone := [key for key in NEEDED if key not in score]:
        raise ScoreError(f"{folder / 'score.json'} is of an earlier version, without {gone[0]}; score again: {again}")
    if score["score"] is None:
        raise ScoreError(
            f"{folder / 'score.json'} knows no accuracies, which a page needs; put retain_accuracy and "
            "test_accuracy into the file that was given"
        )
    return score


def _results(grader: Grader, folder: Path, score: dict, records: dict[int, Record], command: str) -> Results:
    runs = score["runs"]
    if not grader.original_records():
        raise ScoreError("a page shows the original model, and none is there: both sides were given")
    pool = replace(grader, runs=runs).cached_oracles()
    if len(records) != runs or len(pool) < runs:
        raise ScoreError(
            f"{folder} has a score of {runs} runs, but {len(records)} runs and {len(pool)} oracles count now; "
            f"grade again: {command}"
        )
    original = original_record(grader.task, grader.fingerprint, grader.original_file, grader.device)
    failures = {k: _why(folder / f"{k:04d}.failed.txt") for k in score["missing_runs"]}
    others, beyond = _others(folder, score), beyond_in(score)
    return Results(score, records, pool, original, grader.task, command, failures, others, beyond)


def _check_fit(results: Results) -> None:
    """Raise ScoreError if these are not the models that the score was made from."""
    labels = results.task.forget.labels.cpu().numpy()
    runs = [results.unlearned[k] for k in sorted(results.unlearned)]
    some = [confidences(models, labels)[:, :CHECKED] for models in (runs, results.retrained)]
    if example_epsilons(*some).tolist() != results.score["epsilons"][:CHECKED]:
        raise ScoreError(f"runs or oracles have changed since they were scored; grade again: {results.command}")


def _why(path: Path) -> str:
    """The first line of what is kept of a failed run."""
    try:
        return path.read_text(errors="replace").partition("\n")[0]
    except OSError:
        return "the reason was not kept"


def _others(folder: Path, score: dict) -> tuple[dict, ...]:
    """What else was graded on this task at this N and seed; of a submission's versions the last."""
    found = {}
    for path in sorted(folder.parent.glob("*/score.json")):
        if path.parent == folder:
            continue
        try:
            other = read_score(path)
            seeds = {other["seed"], score["seed"]} - {None}  # of checkpoints it is not known
            originals = {s.get("made_from", {}).get("original") for s in (other, score)} - {None}  # likewise
            one = len(seeds) < 2 and len(originals) < 2 and other["score"] is not None
            if one and all(other.get(key) == score.get(key) for key in ALIKE):
                name = other["submission"]
                found[name] = max(found.get(name, other), other, key=lambda s: s["when"])
        except (RecordError, KeyError):  # damaged, or of an earlier version: it is not this page's matter
            continue
    return tuple(s for name, s in sorted(found.items()) if name != score["submission"])


def _as_given(submission: Submission) -> str:
    """How the command line names it, without the folders of whoever graded it."""
    own = submission.path.parent == SUBMISSIONS
    return submission.label if own else label(submission.path.name, submission.settings)


def _command(named: str, score: dict) -> str:
    spec, _ = split_changes(score["task_spec"])
    words = ["python", "-m", "local_eval", "grade", named, "--task", Path(spec).name]
    words += option_words(score["task_spec"])
    if score["seed"] is not None:
        words += ["--runs", str(score["runs"] + len(score["missing_runs"])), "--seed", str(score["seed"])]
    words += ["--allow-missing"] if score["missing_runs"] else []
    words += ["--retrained", score["retrained"]["from"]] if score.get("retrained") else []
    return shlex.join(words)
