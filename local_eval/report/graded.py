"""Everything that was graded under an outputs folder, as rows: for pandas.DataFrame, or to look through.

How it is used: pandas.DataFrame(local_eval.graded("outputs"))
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from local_eval.engine.records import RecordError
from local_eval.report.table import of_ceiling, read_score

PLAIN = ("submission", "task", "score", "forgetting_quality", "ceiling", "quality_over_ceiling", "score_over_ceiling")
PLAIN += ("retain_accuracy", "test_accuracy", "share_at_epsilon_cap", "seconds_per_run")
PLAIN += ("runs", "seed", "device", "torch", "when")
SIDES = ("unlearned", "retrained")  # the file of models that were made elsewhere
NUMBERS = {"score", "forgetting_quality", "ceiling", "quality_over_ceiling", "score_over_ceiling", "retain_accuracy"}
NUMBERS |= {"test_accuracy", "share_at_epsilon_cap", "seconds_per_run"}


def graded(out: str | os.PathLike = "outputs", task: str | None = None) -> list[dict]:
    """A row for every score.json under a folder of results: by task, the best score first.

    Args:
        out: the folder, as in `grade`.
        task: only of the task with this name ('digits'); None for all.
    Returns:
        Rows that all have the same keys: those of score.json that are single values, `interval_low`, `interval_high`,
        `missing_runs` (how many), `notes` (one text), `unlearned` and `retrained` (the file's name, of models that
        were made elsewhere), `path` and `error`. What a file does not say is None, numbers
        are NaN. A damaged file has a row of its own in which `error` says what is wrong; elsewhere it is None.
    Raises:
        RecordError: there is no such folder.
    """
    folder = Path(out)
    if not folder.is_dir():
        raise RecordError(f"{folder} is no folder of results; grade something first, or give the --out that you used")
    rows = [_row(path) for path in sorted(folder.rglob("score.json"))]
    rows = [row for row in rows if task is None or row["task"] == task or (row["error"] and _of(row, task))]
    return sorted(rows, key=lambda row: (str(row["task"]), -row["score"] if row["score"] == row["score"] else math.inf))


def _of(row: dict, task: str) -> bool:
    """Does a damaged file lie in a folder of this task?"""
    return any(part.rpartition("-")[0] == task for part in Path(row["path"]).parts)


def _row(path: Path) -> dict:
    row = dict.fromkeys(PLAIN) | dict.fromkeys(NUMBERS, math.nan)
    row |= {"interval_low": math.nan, "interval_high": math.nan, "missing_runs": None, "notes": None} | dict.fromkeys(
        SIDES
    )
    row |= {"path": str(path), "error": None}
    try:
        return row | _said(read_score(path))
    except RecordError as error:
        return row | {"error": str(error)}
    except (KeyError, TypeError, ValueError) as error:
        return row | {"error": f"{path} is no score of this kit ({type(error).__name__}: {error})"}


def _said(content: dict) -> dict:
    """What a score.json says; what it does not say, or says is unknown, is left out."""
    low, high = content["interval"]
    said = {key: content[key] for key in PLAIN if content.get(key) is not None}
    if "quality_over_ceiling" not in said and {"forgetting_quality", "ceiling"} <= said.keys():  # of earlier versions
        said["quality_over_ceiling"] = of_ceiling(said)
    known = "score" in said or ("forgetting_quality" in said and "score" in content)  # without accuracies: no score
    if any(not isinstance(said[key], int | float) for key in NUMBERS & said.keys()) or not known:
        raise ValueError("its numbers are none")
    more = {"missing_runs": len(content.get("missing_runs", [])), "notes": "; ".join(content.get("notes", []))}
    more |= {side: given["from"] for side in SIDES if (given := content.get(side))}
    ends = {"interval_low": low, "interval_high": high} if low is not None else {}
    return said | {key: float(end) for key, end in ends.items()} | more
