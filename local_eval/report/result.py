"""One graded method as score.json holds it: what it scored, on what, and how that came about.

How it is used: Result.of(score, "mine", "digits", about).save(folder); Result.read(folder / "score.json")["score"]
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from local_eval.metric.score import OFFICIAL_RUNS, ForgottenClasses, Repeats, Score
from local_eval.metric.uncertainty.interval import LEVEL
from local_eval.metric.uncertainty.projection import Projection
from local_eval.store.files import write_atomically
from local_eval.store.records import RecordError
from local_eval.store.sealed import with_seal
from local_eval.tasks.names import option_words, split_changes

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
            again = "score again to make it anew"
            raise RecordError(f"{path} is no score that can be trusted ({error}); {again}") from None

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
        write_atomically(folder / "epsilons.npy", with_seal(buffer.getvalue()))
        write_atomically(folder / "score.json", self.to_json().encode())
        return folder / "score.json"

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


def save_score(score: Score, folder: Path, submission: str, task: str, about: dict) -> Path:
    """Write a score that was just computed, as `Result.save` does; returns score.json's path."""
    return Result.of(score, submission, task, about).save(folder)


def repeats_fields(found: Repeats | None) -> dict | None:
    """The scores of several seeds, for score.json; None where there is one seed."""
    if found is None:
        return None
    scores = {"seeds": list(found.seeds), "scores": list(found.scores), "oracles": found.oracles}
    return scores | {"mean": found.mean, "standard_deviation": found.deviation}


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


def command_line(command: str, names: list[str], task_spec: str, runs: int, seed: int) -> str:
    """The command that makes a result or a table again; folders of this machine are left out, as is seed 0."""
    spec, _ = split_changes(task_spec)
    task = [spec if spec.endswith(".py") else spec.partition(":")[0], *option_words(task_spec)]
    words = ["python", "-m", "local_eval", command, *names, "--task", *task, "--runs", str(runs)]
    return shlex.join(words + (["--seed", str(seed)] if seed else []))
