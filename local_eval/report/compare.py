"""Several graded submissions in one table, as Markdown, JSON and rows for pandas.

How it is used: pandas.DataFrame(local_eval.graded("outputs"))
"""

from __future__ import annotations

import ast
import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import spearmanr

from local_eval.methods.submission import Submission
from local_eval.metric.score import Score
from local_eval.report.table import of_ceiling, projected_score, read_score
from local_eval.store.files import OutputError, write_atomically
from local_eval.store.provenance import provenance
from local_eval.store.records import RecordError

# Put a generated table between its markers in a page, such as README.md.


def around_markers(path: Path, name: str) -> tuple[str, str]:
    """What a file holds up to and with `<!-- name -->`, and from `<!-- end name -->` on.

    Raises:
        OutputError: there is no such file, or it has no such markers.
    """
    start, end = f"<!-- {name} -->\n", f"<!-- end {name} -->"
    content = path.read_text() if path.is_file() else ""
    if start not in content or end not in content:
        raise OutputError(f"{path} has no lines {start.strip()} and {end}; add them where the table should go")
    before, rest = content.split(start, 1)
    return before + start, end + rest.split(end, 1)[1]


def write_between_markers(path: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- end name -->` in a file; raises OutputError."""
    before, after = around_markers(path, name)
    write_atomically(path, f"{before}{text}\n{after}".encode())


# Several graded submissions in one table: score with interval, accuracies, time, official score.


NAMES = "method, rank, score, 90 % interval, of ceiling, at N = 512, RA, TA, at epsilon 50, s / run, official private"
COLUMNS = NAMES.split(", ")
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


@dataclass(frozen=True)
class Graded:
    """Several methods' scores on one task, and what they were graded with."""

    scores: dict[str, Score]
    task: str
    spec: str  # as --task takes it
    fingerprint: str
    runs: int
    seed: int
    device: str


def markdown(graded: Graded) -> str:
    """The table, best score first, with what it was measured on."""
    ranked_first = sorted(graded.scores.items(), key=lambda item: -item[1].score)
    rows = [_markdown_row(name, score) for name, score in ranked_first]
    ceiling = next(iter(graded.scores.values())).ceiling
    facts = provenance(graded.device)
    correlation, ranked = rank_agreement(graded.scores)
    agreement = f" Spearman's correlation with the {ranked} official ranks: {correlation:.2f}." if ranked > 2 else ""
    legend = (
        f"Ceiling {ceiling:.4f}.{agreement} Task `{graded.task}`, N = {graded.runs}, seed {graded.seed}, "
        f"{facts['hardware']}, torch {facts['torch']}, commit {facts['commit']}; "
        f"`python -m local_eval compare --task {graded.spec.partition(':')[0]} --runs {graded.runs}`."
    )
    return "\n".join([HEAD, *rows, "", legend])


def _markdown_row(name: str, s: Score) -> str:
    rank, official = rank_and_official_score(name)
    low, high = s.interval
    return (
        f"| `{name}` | {rank} | {s.score:.4f} | {low:.4f} to {high:.4f} | "
        f"{s.quality_over_ceiling:.2f} | {_at_512(s)} | {s.retain_accuracy:.3f} | {s.test_accuracy:.3f} | "
        f"{s.share_at_cap:.0%} | {s.seconds_per_run:.2f} | {official} |"
    )


def _at_512(s: Score) -> str:
    return "-" if s.projected is None else "{:.4f} ({:.4f} to {:.4f})".format(*projected_score(s))


def rank_and_official_score(name: str) -> tuple[str, str]:
    """The final rank and the official private score that a submission's docstring states, or '-', as for a variant."""
    submission = Submission.find(name)
    text = "" if submission.settings else ast.get_docstring(submission.tree()) or ""
    rank = re.search(r"^Rank:\s+(\d+)", text, re.MULTILINE)
    score = re.search(r"private (0\.\d+)", text)
    return rank.group(1) if rank else "-", f"{float(score.group(1)):.4f}" if score else "-"


def rank_agreement(scores: dict[str, Score]) -> tuple[float, int]:
    """Spearman's correlation of our order with the official private ranks, and over how many methods; 1 is the same."""
    ranks = {name: rank_and_official_score(name)[0] for name in scores}
    ranked = [name for name in scores if ranks[name].isdigit()]
    if len(ranked) < 2:
        return float("nan"), len(ranked)
    ours = [-scores[name].score for name in ranked]
    return float(spearmanr(ours, [int(ranks[name]) for name in ranked]).statistic), len(ranked)


def as_json(graded: Graded) -> str:
    """The same numbers for programs."""
    methods = {
        name: {
            "score": s.score,
            "interval": list(s.interval),
            "forgetting_quality": s.forgetting_quality,
            "quality_over_ceiling": s.quality_over_ceiling,
            "projected": s.projected and list(projected_score(s)),
            "retain_accuracy": s.retain_accuracy,
            "test_accuracy": s.test_accuracy,
            "seconds_per_run": s.seconds_per_run,
            "share_at_cap": s.share_at_cap,
            "official_rank": rank_and_official_score(name)[0],
            "official_private": rank_and_official_score(name)[1],
        }
        for name, s in graded.scores.items()
    }
    about = {"task": graded.task, "fingerprint": graded.fingerprint, "runs": graded.runs, "seed": graded.seed}
    first = next(iter(graded.scores.values()))
    about |= {"ceiling": first.ceiling, "ceiling_runs": first.ceiling_runs}
    correlation, ranked = rank_agreement(graded.scores)
    about |= {"rank_correlation": correlation if ranked > 2 else None, "ranked_methods": ranked}
    return json.dumps({**about, **provenance(graded.device), "methods": methods}, indent=1) + "\n"


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
