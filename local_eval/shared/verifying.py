"""Score a shared file anew from its records, draw its page anew, and say whether that is what the file tells.

What is shown of a shared file is always what was computed here; what it tells is held against that.

How it is used: shared = read_shared(path); score = score_anew(shared); print(check_score(shared, score).said)
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np
import torch

from local_eval.commands import command
from local_eval.grader import Grader
from local_eval.methods.settings import label
from local_eval.metric.measures import Labels, further_measures
from local_eval.metric.score import Score, compute_score, confidences, with_accuracies
from local_eval.report.page.facts import PageSource, measures_in
from local_eval.report.page.render import write_page
from local_eval.report.result import Result, notes
from local_eval.shared.contents import METHOD, UNUSABLE, Shared, read_shared
from local_eval.store.errors import InputError, WorkError, many
from local_eval.store.files import write_atomically
from local_eval.store.for_others import SharedError
from local_eval.store.records import Evaluation, Record
from local_eval.tasks.task import Task

# What is computed from the records, and so never has to be believed; the rest of score.json is told.
COMPUTED = (
    "score", "interval", "interval_level", "standard_errors", "forgetting_quality", "ceiling", "ceiling_interval",
    "ceiling_runs", "quality_over_ceiling", "score_over_ceiling", "retain_accuracy", "retain_accuracy_ratio",
    "test_accuracy", "test_accuracy_ratio", "oracles", "projected", "not_projected", "forgotten_classes",
    "share_at_epsilon_cap", "seconds_per_run", "runs", "cautions", "beyond", "epsilons",
)  # fmt: skip
FACTS = ("seconds", "device", "instructions", "torch", "numpy")  # of a record; others may name files and machines
NOT_TOLD = "the reason is not in a shared file"
HUGE = 1e150  # no number of a score is as large
ROUNDING = 1e-9  # relative difference below which numbers were computed alike, with other instructions


def scored(
    runs: dict[int, Record], pool: Sequence[Record], original: Record, task: Task, missing: Sequence[int] = ()
) -> Score:
    """The score of these models with further measures, as `Grader.score` computes it; of the task, labels are used."""
    forget, ours = task.forget, [runs[index] for index in sorted(runs)]
    persons = forget.person_id.cpu().numpy()
    score = compute_score(runs, pool, forget.labels.cpu().numpy(), persons, missing, original.evaluation)
    score = with_accuracies(score, ours, pool, original.evaluation, task)
    return replace(score, measures=tuple(further_measures(ours, pool, Labels.of(task))))


def score_anew(shared: Shared) -> Score:
    """The score as the records give it. Raises SharedError if they give none."""
    try:
        return scored(shared.runs, shared.pool, shared.original, shared.task, shared.result["missing_runs"])
    except UNUSABLE as error:
        raise SharedError(f"{shared.path}: its records cannot be scored ({error})") from error


def source_of_page(shared: Shared, score: Score) -> PageSource:
    """What its page is drawn from: what was computed, and beside that what the file tells."""
    shown = _shown(shared, score)
    missing, name = shown["missing_runs"], label(shared.method.name, tuple(shown["settings"].items()))
    where = {"task": shown["task_spec"], "runs": shown["runs"] + len(missing), "seed": shown["seed"]}
    return PageSource(
        shown,
        shared.runs,
        shared.pool,
        shared.original,
        shared.task,
        command("grade", [name], **where, more=["--allow-missing"] if missing else [], whole=False),
        failures=dict.fromkeys(missing, NOT_TOLD),
        measures=measures_in(shown),
        larger=Result({"runs": shared.contents["larger"]}) if shared.contents["larger"] else None,
        shortened=tuple(shared.contents["files_named"]),
        method=shared.method,
    )


def _shown(shared: Shared, score: Score) -> Result:
    """What the file tells, with all that was computed in its place."""
    computed = Result.of(score, shared.label, shared.result["task"], {})
    beyond = shared.result.get("beyond") or []  # none where it was graded without further measures
    fields = {key: computed[key] for key in COMPUTED} | ({} if beyond else {"beyond": []})
    told = shared.result["notes"]
    return shared.result.changed(**fields, notes=[*told, *(note for note in notes(score) if note not in told)])


def drawn_with() -> dict:
    """What decides the bytes of a page, and the bits of a score."""
    versions = {"matplotlib": matplotlib.__version__, "numpy": np.__version__, "torch": torch.__version__}
    return versions | {"python": platform.python_version()}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    holds: bool
    said: str


def differences(shared: Shared, score: Score) -> dict[str, float]:
    """The fields in which a score is not what the file says, each with its largest relative difference."""
    anew = json.loads(Result.of(score, shared.label, shared.result["task"], {}).to_json())
    there = {key: shared.result[key] for key in COMPUTED if key in shared.result}  # earlier kits told less
    if not there.get("beyond"):
        there.pop("beyond", None)
    found = {key: far for key, value in there.items() if (far := _distance(value, anew[key]))}
    original = shared.result["original"]
    for key in ("retain_accuracy", "test_accuracy"):
        if far := _distance(original.get(key), getattr(shared.original.evaluation, key)):
            found[f"original {key}"] = far
    if gone := [note for note in notes(score) if note not in shared.result["notes"]]:
        found[f"a note that is left out, {gone[0]!r},"] = math.inf
    return found


def _distance(one: object, other: object) -> float:
    """0 for the same, the largest relative difference for numbers in the same places, else infinite."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return max((_distance(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max(map(_distance, one, other), default=0.0)
    if type(one) is type(other) and one == other:
        return 0.0
    if {type(one), type(other)} <= {float, int} and -HUGE < one < HUGE and -HUGE < other < HUGE:
        return abs(one - other) / max(abs(one), abs(other), 1 / HUGE)
    return math.inf


def check_score(shared: Shared, score: Score) -> Check:
    """Is the score what the records give, to the bit?"""
    differ = differences(shared, score)
    models = f"{many(len(shared.runs), 'run')} and {many(len(shared.pool), 'oracle')}"
    if not differ:
        text = f"{score.score:.4f}, computed anew from the records of {models}: equal to the bit, with its interval, "
        return Check("score", True, text + "ceiling, projection, measures and every example's epsilon")
    if max(differ.values()) < ROUNDING:
        text = f"{score.score:.4f}, computed anew from the records of {models}: equal but for rounding, by "
        text += f"{max(differ.values()):.0e} at most; it was computed with {_versions(shared.contents['made_with'])}"
        return Check("score", True, f"{text}, here with {_versions(drawn_with())}")
    which = ", ".join(differ)
    text = f"the file says {shared.result.get('score')}, its records give {score.score!r}; not the same: {which}"
    return Check("score", False, text)


def _versions(made_with: Mapping) -> str:
    return ", ".join(f"{name} {made_with.get(name, 'unknown')}" for name in ("numpy", "torch"))


def write_and_check_page(shared: Shared, score: Score, folder: Path) -> tuple[Path, Check]:
    """Draw the page anew from what was verified, into a folder, and hold the file's own page against it.

    Raises:
        SharedError: it cannot be drawn. OutputError: it cannot be written.
    """
    try:
        path = write_page(source_of_page(shared, score), folder, images=False)
    except (InputError, WorkError):
        raise
    except Exception as error:  # matplotlib and jinja have no common error for what hostile texts can cause
        raise SharedError(f"{shared.path}: its page cannot be drawn ({type(error).__name__}: {error})") from error
    write_atomically(folder / METHOD, shared.method.source.encode())
    if path.read_bytes() == shared.page.encode():
        return path, Check("page", True, "drawn anew from the records: the same as the one in the file, byte for byte")
    there, here = shared.contents["made_with"], drawn_with()
    other = [f"{name} {there.get(name, 'unknown')}" for name in here if there.get(name) != here[name]]
    if other:
        text = f"drawn anew from the records; the one in the file, drawn with {', '.join(other)}, has other bytes"
        return path, Check("page", True, f"{text}, so it was not verified: do not open that one")
    text = "the one in the file is not what its records give; the one that was unpacked is drawn anew"
    return path, Check("page", False, text)


# A row of a table: a shared file's runs, held against the oracles of this machine.


@dataclass(frozen=True)
class SharedRow:
    """The runs of a shared file as one of several methods that are graded here."""

    shared: Shared
    score: Score
    confidences: np.ndarray  # [N, E]
    remarks: tuple[str, ...]  # in what it is not as what is graded here

    def result(self) -> Result:
        """As a row of the leaderboard."""
        kept = {key: self.shared.result.get(key) for key in ("made_from", "settings", "torch", "device", "seed")}
        return Result.of(self.score, self.shared.label, self.shared.task.name, kept)


def row_of(grader: Grader, path: Path) -> SharedRow:
    """Score the first N runs of a shared file against the oracles here, which must be on disk.

    Raises:
        SharedError: it cannot be used, is of another task, or has fewer than N runs.
    """
    shared = read_shared(path)
    if shared.fingerprint != grader.fingerprint:
        spec = shared.result["task_spec"]
        raise SharedError(f"{path} was graded on another task, {spec} ({shared.fingerprint}), not {grader.fingerprint}")
    labels, persons = grader.labels_and_persons
    if (labels.tolist(), persons.tolist()) != (shared.labels.tolist(), shared.task.forget.person_id.tolist()):
        raise SharedError(f"{path} has other labels than the task whose fingerprint it names; it was changed")
    runs = {k: shared.runs[k] for k in range(grader.runs) if k in shared.runs}
    if len(runs) < grader.runs:
        raise SharedError(f"{path} holds {len(runs)} of {grader.runs} runs; give --runs {len(shared.runs)} or fewer")
    oracles = grader.cached_oracles()
    score = scored(runs, oracles, shared.original, grader.task)
    ours = [runs[k] for k in sorted(runs)]
    return SharedRow(shared, score, confidences(ours, labels), tuple(_remarks(grader, shared, score, oracles)))


def _remarks(grader: Grader, shared: Shared, score: Score, oracles: Sequence[Record]) -> Iterator[str]:
    if shared.result["seed"] != grader.seed:
        yield f"its runs have seed {shared.result['seed']}"
    if grader.original_file.exists() and shared.result["made_from"]["original"] != grader.original_hash():
        yield "its runs start from another original model"
    if any(bits_differ(one.evaluation, two.evaluation) for one, two in zip(oracles[: score.runs], shared.pool)):
        there = shared.result.get("score")
        yield f"it was graded against other oracles, which gave {there}; here it is held against those of this machine"


def bits_differ(one: Evaluation, other: Evaluation) -> str:
    """Empty if two evaluations are the same to the bit; else, in words, how far they are apart."""
    shares = (np.array([each.retain_accuracy, each.test_accuracy]) for each in (one, other))
    pairs = [(one.forget_logits, other.forget_logits), tuple(shares)]
    if one.controls is not None and other.controls is not None:
        pairs += zip(vars(one.controls).values(), vars(other.controls).values())
    if all(a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs):
        return ""
    a, b = pairs[0]
    if a.shape != b.shape:
        return "another number of examples or classes"
    far = float(np.abs(a.astype(np.float64) - b).max())
    wrong = int((a.argmax(axis=1) != b.argmax(axis=1)).sum())
    return f"logits differ by {far:.3g} at most, and {many(wrong, 'answer')} of {len(a)}"
