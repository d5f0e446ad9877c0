"""One graded method as score.json holds it: what it scored, on what, and how that came about.

How it is used: Result.of(score, "mine", "digits", about).save(folder); Result.read(folder / "score.json")["score"]
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from local_eval.metric.score import OFFICIAL_RUNS, ForgottenClasses, Repeats, Score
from local_eval.metric.uncertainty.interval import LEVEL
from local_eval.metric.uncertainty.projection import Projection
from local_eval.store.errors import many
from local_eval.store.files import OutputError, write_atomically
from local_eval.store.records import RecordError
from local_eval.store.sealed import with_seal

SCORE, EPSILONS, PAGE, FIGURES = "score.json", "epsilons.npy", "report.html", "figures"  # files about one grading
NOT_OF_THE_MODELS = ("out", "index")  # in made_from: where the results lie, and nothing
CHECKSUM = "sha256"
WITH_CHECKSUM = {"when", "kit", "made_from"}  # came with it: a score with one of these has lost its own


@dataclass(frozen=True, eq=False)
class Result(Mapping):
    """A score.json: its fields are read like those of a dictionary, `result["score"]`; None is what is not known.

    docs/scores.md describes the fields. What follows from them is a property.
    """

    fields: Mapping[str, object]

    def __getitem__(self, key: str):
        return self.fields[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    @classmethod
    def of(cls, score: Score, submission: str, task: str, about: dict) -> Result:
        """The result of a score that was just computed; `about` holds what is to be known of how it came about."""
        return cls(without_nan(_fields_of(score, submission, task, about)))

    @classmethod
    def from_json(cls, text: str) -> Result:
        """Raises ValueError for a text that holds no fields, or whose checksum is wrong or lost."""
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("it holds no fields")
        if CHECKSUM in content and content[CHECKSUM] != checksum(content):
            raise ValueError("its checksum does not fit its content")
        if CHECKSUM not in content and WITH_CHECKSUM & content.keys():
            raise ValueError("it has lost its checksum")
        return cls(content)

    @classmethod
    def read(cls, path: Path) -> Result:
        """The result in a score.json.

        Raises:
            RecordError: it is damaged, was edited, is none, or is not there.
        """
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise RecordError(f"{path} cannot be read ({error.strerror}); give the path of a score.json") from None
        except (ValueError, TypeError, RecursionError) as error:
            raise RecordError(f"{path} is no score that can be trusted ({error}); grade it again") from None

    def to_json(self) -> str:
        """The text of score.json, with a checksum of the other fields at its end."""
        content = {key: value for key, value in self.fields.items() if key != CHECKSUM}
        return json.dumps(content | {CHECKSUM: checksum(content)}, indent=2) + "\n"

    def save(self, folder: Path) -> Path:
        """Write score.json and epsilons.npy (float64 [E], the forget set's order); returns score.json's path.

        Raises:
            OutputError: the folder cannot be written.
        """
        buffer = io.BytesIO()
        np.save(buffer, np.array(self["epsilons"], dtype=np.float64))
        write_atomically(folder / EPSILONS, with_seal(buffer.getvalue()))
        write_atomically(folder / SCORE, self.to_json().encode())
        return folder / SCORE

    def changed(self, **fields: object) -> Result:
        """A copy in which these fields are others."""
        return Result({**self.fields, **fields})

    @property
    def utility(self) -> float:
        """What forgetting quality is multiplied by: both accuracies as shares of those of the oracles."""
        return self["retain_accuracy_ratio"] * self["test_accuracy_ratio"]

    @property
    def quality_over_ceiling(self) -> float:
        """Forgetting quality as a share of the ceiling, of a score.json of any version; nan without a ceiling."""
        return self["forgetting_quality"] / self["ceiling"] if self["ceiling"] else math.nan

    @property
    def projection(self) -> Projection | None:
        """The forgetting quality expected at the official N; None if N is that, or it cannot be projected."""
        found = self.get("projected")
        return Projection(*(found.get(name) for name in ("value", "low", "high", "models"))) if found else None

    @property
    def at_official_n(self) -> tuple[float, float, float] | None:
        """The score expected at the official N, and its 90 % interval; None where that is not known."""
        return at_official_n(self.projection, self.utility) if self.projection else None


def at_official_n(quality: Projection, utility: float) -> tuple[float, float, float]:
    """The score expected at the official N and its 90 % interval: forgetting quality there times utility here."""
    return utility * quality.value, utility * quality.low, utility * quality.high


def _fields_of(score: Score, submission: str, task: str, about: dict) -> dict:
    return {
        "score": score.score,
        "interval": list(score.interval),
        "interval_level": LEVEL,
        "standard_errors": _standard_errors(score),
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
        "projected": score.projected
        and asdict(score.projected) | {"score": at_official_n(score.projected, score.utility)[0]},
        "not_projected": score.not_projected,
        "forgotten_classes": score.forgotten and asdict(score.forgotten) | {"classes": list(score.forgotten.classes)},
        "share_at_epsilon_cap": score.share_at_cap,
        "seconds_per_run": score.seconds_per_run,
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


def without_nan(value: object) -> object:
    """Fields with None for numbers that are not known, since JSON has no nan."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _standard_errors(score: Score) -> dict[str, float | None]:
    """Of the score: if only the runs, only the oracles, both, or the persons that are forgotten were others."""
    found = score.drawn_again
    parts = {name: getattr(found, name) if found else None for name in ("runs", "oracles", "models", "persons")}
    return {name: None if error is None else error * score.utility for name, error in parts.items()}


def checksum(content: Mapping) -> str:
    """sha256 of a score's content, however it is laid out, without the checksum itself."""
    plain = {key: value for key, value in content.items() if key != CHECKSUM}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def read_score(path: Path) -> dict:
    """What is in a score.json.

    Raises:
        RecordError: it is damaged, was edited, is none, or is not there.
    """
    return dict(Result.read(path))


def repeats_fields(found: Repeats | None) -> dict | None:
    """The scores of several seeds, for score.json; None where there is one seed."""
    if found is None:
        return None
    scores = {"seeds": list(found.seeds), "scores": list(found.scores), "oracles": found.oracles}
    return scores | {"mean": found.mean, "standard_deviation": found.deviation}


NOT_VALID, OVER_SHARE = "NOT A VALID SCORE", "took longer than their share of the limit"


def is_about_budget(note: str) -> bool:
    """Does a note say what came of a limit of time?"""
    return note.startswith(NOT_VALID) or OVER_SHARE in note


def notes(score: Score) -> list[str]:
    """What must be said beside the score."""
    found = []
    if score.runs < OFFICIAL_RUNS:
        found.append(f"N = {score.runs} is not the official {OFFICIAL_RUNS}; compare it only with scores at the same N")
    if score.forgotten is not None:
        found.append(_about_forgotten(score.forgotten))
    if score.missing:
        numbers = ", ".join(map(str, score.missing[:8])) + (" ..." if len(score.missing) > 8 else "")
        lacking = "run that failed or was not made is", "runs that failed or were not made are"
        found.append(f"{many(len(score.missing), *lacking)} left out of this score: {numbers}")
    if score.within_budget is False:
        found.append(
            f"{NOT_VALID}: {OFFICIAL_RUNS} such runs take longer than the limit, by the seconds of this machine"
        )
    if score.over_budget:
        shown = ", ".join(map(str, score.over_budget[:8]))
        found.append(f"{many(len(score.over_budget), 'run')} {OVER_SHARE}: {shown}")
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


# The scores of one method in its folder, one for each N: a later grading with fewer runs never replaces a larger one.
#
#     <folder>/score.json epsilons.npy report.html figures/   the largest N, which is what other tools look for
#              N16/                                           the same files of another N
#              N62-of-64/                                     and of one that was scored without two runs that failed
#
# Scores are compared with those of the same models only: if the original model, say, is another one by now, the new
# score is shown whatever its N, and the old one is kept under its N.


def place_of(result: Mapping) -> str:
    """The name of the folder in which a score lies while a larger one is shown: 'N16', 'N62-of-64'."""
    runs, missing = _runs(result), len(result.get("missing_runs") or ())
    return f"N{runs}-of-{runs + missing}" if missing else f"N{runs}"


def _runs(result: Mapping) -> int:
    runs = result.get("runs")
    return runs if isinstance(runs, int) else 0  # a file that does not say it is smaller than any


def _size(result: Mapping) -> tuple[int, int, str]:
    """By what one score is larger than another: N, then none missing, then the later one."""
    return _runs(result), -len(result.get("missing_runs") or ()), str(result.get("when", ""))


def of_the_same_models(one: Mapping, other: Mapping) -> bool:
    """Do two scores speak of the same method, original model and so on, as far as both say what they were made from?"""
    ours, theirs = (dict(found) if isinstance(found := each.get("made_from"), Mapping) else {} for each in (one, other))
    return all(ours[key] == theirs[key] for key in ours.keys() & theirs.keys() - set(NOT_OF_THE_MODELS))


def kept_under(folder: Path) -> list[Path]:
    """All score.json of a task's results, one folder below or two: those that are shown, and those at other N."""
    return sorted([*folder.glob(f"*/{SCORE}"), *folder.glob(f"*/N*/{SCORE}")])


def result_folder(score: Path) -> Path:
    """The folder of the runs, or of what was given, whose score lies at this path."""
    place = score.parent
    beside = place.name.startswith("N") and place.name[1:].partition("-of-")[0].isdigit()
    return place.parent if beside else place


def kept(folder: Path) -> list[tuple[Path, Result]]:
    """All scores in a folder that can be trusted, with the path of each score.json: the one shown, then by N."""
    shown = _trusted(folder / SCORE)
    others = [(path, found) for path in folder.glob(f"N*/{SCORE}") if (found := _trusted(path)) is not None]
    others.sort(key=lambda each: _size(each[1]), reverse=True)
    return ([(folder / SCORE, shown)] if shown is not None else []) + others


def _trusted(path: Path) -> Result | None:
    try:
        return Result.read(path)
    except RecordError:
        return None


def kept_at(folder: Path, runs: int, missing: int = 0) -> tuple[Path, Result] | None:
    """The score of `runs` models in a folder; None if there is none.

    Args:
        missing: how many runs were left out of it.
    """
    place = place_of({"runs": runs, "missing_runs": range(missing)})
    return next((each for each in kept(folder) if place_of(each[1]) == place), None)


def keep(result: Result, folder: Path) -> Path:
    """Write a score into a folder and leave those at other N as they are; returns the path of its score.json.

    What an earlier score of the same models and N knew from other seeds or of a limit of time, and this one was not
    asked for, goes on to stand in it.

    Raises:
        OutputError: the folder cannot be written.
    """
    there = kept(folder)
    same = [(path, old) for path, old in there if of_the_same_models(old, result)]
    for _, old in same:
        if place_of(old) == place_of(result):
            result = _with_what_was_known(result, old)
    larger = [(path, old) for path, old in same if place_of(old) != place_of(result) and _size(old) > _size(result)]
    if not larger:
        _make_room(folder, result)
        path = result.save(folder)
        _clear(folder / place_of(result))
        return path
    path, largest = max(larger, key=lambda each: _size(each[1]))
    if path.parent != folder:  # the one that was shown has been deleted or damaged, or is of other models
        _make_room(folder, largest)
        _copy(path.parent, folder)
        _clear(path.parent)
    return result.save(folder / place_of(result))


def _make_room(folder: Path, coming: Result) -> None:
    """Set the score that is shown aside, with its page, unless the one that comes takes its place."""
    shown = _trusted(folder / SCORE)
    if shown is not None and place_of(shown) != place_of(coming):
        _copy(folder, folder / place_of(shown))


def _copy(source: Path, target: Path) -> None:
    """Copy a score and move its page: what is interrupted in between has lost nothing that cannot be drawn again."""
    for name in (EPSILONS, SCORE):
        if (source / name).exists():
            write_atomically(target / name, (source / name).read_bytes())
    try:
        if (source / FIGURES).is_dir():
            shutil.rmtree(target / FIGURES, ignore_errors=True)
        for name in (FIGURES, PAGE):
            if (source / name).exists():
                os.replace(source / name, target / name)
    except OSError as error:
        raise OutputError(f"cannot move {source / PAGE} to {target}: {error.strerror or error}") from error


def _clear(place: Path) -> None:
    """Remove a score that is shown by now, or an older one instead of which it is, from its place under its N."""
    if not place.is_dir():
        return
    for name in (SCORE, EPSILONS, PAGE):
        (place / name).unlink(missing_ok=True)
    shutil.rmtree(place / FIGURES, ignore_errors=True)
    if not any(place.iterdir()):
        place.rmdir()


def _with_what_was_known(result: Result, old: Result) -> Result:
    """With other seeds' scores and what a limit of time said, which the same models had before."""
    if (result["score"], result.get("epsilons")) != (old.get("score"), old.get("epsilons")):
        return result
    fields = {}
    seeds = [len((each.get("repeats") or {}).get("seeds", ())) for each in (result, old)]
    if seeds[0] < seeds[1]:
        fields["repeats"] = old["repeats"]
    if result.get("within_budget") is None and old.get("within_budget") is not None:
        fields |= {"within_budget": old["within_budget"], "runs_over_budget": old.get("runs_over_budget", [])}
        fields["notes"] = [*filter(is_about_budget, old.get("notes", [])), *result.get("notes", [])]
    return result.changed(**fields)


def save_score(score: Score, folder: Path, submission: str, task: str, about: dict) -> Path:
    """Write a score that was just computed, as `keep` does; returns the path of its score.json."""
    return keep(Result.of(score, submission, task, about), folder)
