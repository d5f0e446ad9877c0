"""What a grading leaves behind: tables for people, score.json and epsilons.npy for programs."""

from __future__ import annotations

import hashlib
import io
import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np

from local_eval.metric.measures import shown_in_table
from local_eval.metric.score import BUDGET_SECONDS, OFFICIAL_RUNS, ForgottenClasses, Repeats, Score
from local_eval.metric.uncertainty.interval import LEVEL
from local_eval.store.files import write_atomically
from local_eval.store.records import RecordError
from local_eval.store.sealed import with_seal

# The second table on the console: the further measures that matter most; all are in score.json.


Row = tuple[str, str, str]  # name, value, what to make of it


def measure_rows(score: Score) -> list[Row]:
    """The rows; none where there is no further measure."""
    found = {measure.key: measure for measure in score.measures}
    if not found:
        return []
    rows = []
    for measure in shown_in_table(score.measures):
        usual = f"perfect unlearning {measure.perfect:.3f} ({max(measure.low, 0):.3f} to {measure.high:.3f})"
        rows.append((measure.name, f"{measure.value:.3f}", f"{measure.words}; {usual}"))
    if "test_control" not in found:
        text = "not kept: models given as numbers, or of an earlier version (deleted, they are made again with them)"
        rows.append(("controls", "none", text))
    rows.append((f"{len(found)} further measures", "", "in score.json; docs/scores.md says what each is"))
    return rows


# What several seeds, or several original models, add to a score, in a line for people and fields for programs.


def repeats_line(found: Repeats, first: Score) -> str:
    """All scores, their mean and standard deviation, beside the first one's interval."""
    scores = " ".join(f"{score:.4f}" for score in found.scores)
    low, high = first.interval
    against = {"disjoint": "each against oracles of its own", "shared": "all against the same oracles"}[found.oracles]
    more = "" if found.oracles == "disjoint" else ", which hides up to half of the variance"
    return (
        f"seeds {found.seeds[0]} to {found.seeds[-1]}: {scores}; mean {found.mean:.4f}, "
        f"standard deviation {found.deviation:.4f}; {against}{more}. "
        f"The interval of seed {found.seeds[0]} is {low:.4f} to {high:.4f}"
    )


def repeats_fields(found: Repeats | None) -> dict | None:
    """For score.json; None where there is one seed."""
    if found is None:
        return None
    scores = {"seeds": list(found.seeds), "scores": list(found.scores), "oracles": found.oracles}
    return scores | {"mean": found.mean, "standard_deviation": found.deviation}


def originals_line(single: Score, several: Score, originals: int) -> str:
    """Both scores side by side."""
    factor = f", {several.score / single.score:.1f} times as much" if single.score else ""
    return (
        f"from one original model {single.score:.4f}, as in the competition; "
        f"from {originals} original models in turn {several.score:.4f}{factor}"
    )


CHECKSUM = "sha256"
WITH_CHECKSUM = {"when", "kit", "made_from"}  # came with it: a score with one of these has lost its own


def table(score: Score, submission: str, task: str) -> str:
    """The score as a few aligned lines."""
    low, high = score.interval
    ra, oracle_ra = score.retain_accuracy, score.oracle_retain_accuracy
    ta, oracle_ta = score.test_accuracy, score.oracle_test_accuracy
    rows = [
        ("forgetting quality", f"{score.forgetting_quality:.4f}", "" if score.is_known else _quality_alone(score)),
        (
            "x retain accuracy ratio",
            _told(score.retain_accuracy_ratio),
            f"RA {_told(ra)}, oracles {_told(oracle_ra)}",
        ),
        (
            "x test accuracy ratio",
            _told(score.test_accuracy_ratio),
            f"TA {_told(ta)}, oracles {_told(oracle_ta)}",
        ),
        ("= score", _told(score.score), _interval(low, high) if score.is_known else "without accuracies there is none"),
        ("ceiling", f"{score.ceiling:.4f}", _ceiling(score)),
        ("of the ceiling", _told(score.quality_over_ceiling, 2), "forgetting quality / ceiling; 1 is as retraining"),
        *_projected(score),
        ("examples at epsilon 50", f"{score.share_at_cap:.1%}", "told apart without error"),
        ("seconds per run", _seconds(score), f"here; Kaggle's budget is {BUDGET_SECONDS} on its GPU"),
        *_forgotten(score),
        *measure_rows(score),
    ]
    lines = [f"{submission} on {task}, N = {score.runs}"]
    lines += [f"  {name:<24}{value:>9}  {note}".rstrip() for name, value, note in rows]
    lines += [f"  note: {text}" for text in notes(score)]
    return "\n".join(lines)


def _told(value: float, digits: int = 4) -> str:
    return "unknown" if math.isnan(value) else f"{value:.{digits}f}"


def _interval(low: float, high: float) -> str:
    return f"90 % interval {low:.4f} to {high:.4f}: another draw of runs and oracles"


def _quality_alone(score: Score) -> str:
    """The interval of the forgetting quality, where that is all that is known."""
    return _interval(score.drawn_again.low, score.drawn_again.high) if score.drawn_again else ""


def _ceiling(score: Score) -> str:
    low, high = score.ceiling_interval
    return f"90 % interval {low:.4f} to {high:.4f}: retrained against retrained, N = {score.ceiling_runs}; not 1"


def _forgotten(score: Score) -> list[tuple[str, str, str]]:
    """Test accuracies by kind of class, where a whole class is to be forgotten; of the validation set without them."""
    if (found := score.forgotten) is None:
        return []
    split = "test" if found.oracles["test"]["forgotten"] is not None else "validation"
    rows = []
    for kind in ("forgotten", "kept"):
        ours, theirs = found.unlearned[split][kind], found.oracles[split][kind]
        before = "" if found.original is None else f", original {_share(found.original[split][kind])}"
        rows.append((f"{split}, {kind} classes", _share(ours), f"oracles {_share(theirs)}{before}"))
    return rows


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def projected_score(score: Score) -> tuple[float, float, float]:
    """The score expected at the official N and its 90 % interval: forgetting quality there times utility here."""
    p = score.projected
    return score.utility * p.value, score.utility * p.low, score.utility * p.high


def _projected(score: Score) -> list[tuple[str, str, str]]:
    if score.projected is None:
        return [(f"score at N = {OFFICIAL_RUNS}", "unknown", score.not_projected)] if score.not_projected else []
    if not score.is_known:
        p = score.projected
        note = f"projected; 90 % interval {p.low:.4f} to {p.high:.4f}"
        return [(f"quality at N = {OFFICIAL_RUNS}", f"{p.value:.4f}", note)]
    value, low, high = projected_score(score)
    return [(f"score at N = {OFFICIAL_RUNS}", f"{value:.4f}", f"projected; 90 % interval {low:.4f} to {high:.4f}")]


def _seconds(score: Score) -> str:
    return "unknown" if math.isnan(score.seconds_per_run) else f"{score.seconds_per_run:.2f}"


def notes(score: Score) -> list[str]:
    """What must be said beside the score."""
    found = []
    if score.runs < OFFICIAL_RUNS:
        found.append(f"N = {score.runs} is not the official {OFFICIAL_RUNS}; compare it only with scores at the same N")
    if score.forgotten is not None:
        found.append(_about_forgotten(score.forgotten))
    if score.missing:
        found.append(
            f"{len(score.missing)} failed runs are left out of this score: {', '.join(map(str, score.missing[:8]))}"
        )
    if score.within_budget is False:
        found.append("NOT A VALID SCORE: 512 such runs take longer than the limit, by the seconds of this machine")
    if score.over_budget:
        shown = ", ".join(map(str, score.over_budget[:8]))
        found.append(f"{len(score.over_budget)} runs took longer than their share of the limit: {shown}")
    return found + list(score.warnings)


def _about_forgotten(found: ForgottenClasses) -> str:
    """What accuracies mean where no oracle knows a class."""
    named = ", ".join(map(str, found.classes[:8])) + (" ..." if len(found.classes) > 8 else "")
    named = f"class {named} is" if len(found.classes) == 1 else f"classes {named} are"
    return (
        f"{named} in the forget set alone. Oracles never predict what they never saw, and a method that never does "
        "looks right by accuracy, whatever it still knows; one that does gains by the test accuracy ratio, over all of "
        "them. Judge by forgetting quality and by the accuracies on forgotten and on kept classes"
    )


def save_score(score: Score, folder: Path, submission: str, task: str, about: dict) -> Path:
    """Write score.json and, beside it, epsilons.npy (float64 [E], the forget set's order). Returns score.json's path.

    docs/scores.md describes the fields. `about` holds what is to be known of how it came about.

    Raises:
        OutputError: the folder cannot be written.
    """
    content = content_of(score, submission, task, about)
    buffer = io.BytesIO()
    np.save(buffer, score.epsilons)
    write_atomically(folder / "epsilons.npy", with_seal(buffer.getvalue()))
    write_atomically(folder / "score.json", (json.dumps(content, indent=2) + "\n").encode())
    return folder / "score.json"


def content_of(score: Score, submission: str, task: str, about: dict) -> dict:
    """What score.json holds; what is not known is null."""
    content = {
        "score": score.score,
        "interval": list(score.interval),
        "interval_level": LEVEL,
        "standard_errors": standard_errors(score),
        "forgetting_quality": score.forgetting_quality,
        "ceiling": score.ceiling,
        "ceiling_interval": list(score.ceiling_interval),
        "ceiling_runs": score.ceiling_runs,
        "quality_over_ceiling": score.quality_over_ceiling,
        "score_over_ceiling": score.score_over_ceiling,
        "retain_accuracy": score.retain_accuracy,
        "retain_accuracy_ratio": score.retain_accuracy_ratio,
        "test_accuracy": score.test_accuracy,
        "test_accuracy_ratio": score.test_accuracy_ratio,
        "oracles": {"retain_accuracy": score.oracle_retain_accuracy, "test_accuracy": score.oracle_test_accuracy},
        "projected": score.projected and asdict(score.projected) | {"score": projected_score(score)[0]},
        "not_projected": score.not_projected,
        "forgotten_classes": score.forgotten and asdict(score.forgotten) | {"classes": list(score.forgotten.classes)},
        "share_at_epsilon_cap": score.share_at_cap,
        "seconds_per_run": None if math.isnan(score.seconds_per_run) else score.seconds_per_run,
        "within_budget": score.within_budget,
        "runs_over_budget": list(score.over_budget),
        "runs": score.runs,
        "missing_runs": list(score.missing),
        "submission": submission,
        "task": task,
        "notes": notes(score),
        "beyond": [asdict(measure) for measure in score.measures],
        "cautions": [asdict(one) for one in score.warning_details],
        **about,
        "epsilons": score.epsilons.tolist(),
    }
    content = without_nan(content)
    return content | {CHECKSUM: checksum(content)}


def without_nan(value: object) -> object:
    """Fields with None for numbers that are not known, since JSON has no nan."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def standard_errors(score: Score) -> dict[str, float | None]:
    """Of the score: if only the runs, only the oracles, both, or the persons that are forgotten were others."""
    found = score.drawn_again
    parts = {name: getattr(found, name) if found else None for name in ("runs", "oracles", "models", "persons")}
    return {name: None if error is None else error * score.utility for name, error in parts.items()}


def of_ceiling(content: dict) -> float:
    """Forgetting quality as a share of the ceiling, of a score.json of any version; nan without a ceiling."""
    return content["forgetting_quality"] / content["ceiling"] if content["ceiling"] else math.nan


def checksum(content: dict) -> str:
    """sha256 of a score's content, however it is laid out, without the checksum itself."""
    plain = {key: value for key, value in content.items() if key != CHECKSUM}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def read_score(path: Path) -> dict:
    """What is in a score.json.

    Raises:
        RecordError: it is damaged, was edited, is none, or is not there.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no fields")
        if CHECKSUM in content and content[CHECKSUM] != checksum(content):
            raise ValueError("its checksum does not fit its content")
        if CHECKSUM not in content and WITH_CHECKSUM & content.keys():
            raise ValueError("it has lost its checksum")
        return content
    except OSError as error:
        raise RecordError(f"{path} cannot be read ({error.strerror}); give the path of a score.json") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise RecordError(f"{path} is no score that can be trusted ({error}); score again to make it anew") from None
