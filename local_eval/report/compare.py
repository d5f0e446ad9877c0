"""Several graded submissions beside each other: the comparison, what `grade a b c` ends with, and rows for pandas.

How it is used: pandas.DataFrame(local_eval.graded("outputs"))
"""

from __future__ import annotations

import ast
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from local_eval.commands import command
from local_eval.isolation.cards import card_name
from local_eval.methods.submission import Submission, looks_like_checkpoints
from local_eval.metric.score import Score
from local_eval.metric.uncertainty.paired import comparison_of
from local_eval.report.columns import (
    ABOUT,
    ABOUT_IN_WORDS,
    AT_512,
    AT_512_WITH_ENDS,
    AT_CAP,
    FORGETTING_QUALITY,
    FROM_CHART,
    INTERVAL,
    METHOD,
    OFFICIAL_PRIVATE,
    OFFICIAL_RANK,
    QUALITY_OF_CEILING,
    RETAIN,
    RUNS,
    SCORE,
    SCORE_IF_VALID,
    SECONDS,
    TEST,
    UNSTATED,
    Column,
    Row,
    aligned,
    as_fields,
    as_markdown,
    cells,
    those_that_fit,
    without_mark,
)
from local_eval.report.columns import as_text as text_of
from local_eval.report.result import Result, result_folder
from local_eval.store.errors import many
from local_eval.store.files import OutputError, write_atomically
from local_eval.store.lines import NARROWEST, wrapped
from local_eval.store.provenance import provenance
from local_eval.store.records import RecordError


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


COMPARED = (
    replace(METHOD, show="`{}`".format), OFFICIAL_RANK, SCORE, INTERVAL, QUALITY_OF_CEILING, AT_512_WITH_ENDS, RETAIN,
    TEST, AT_CAP, SECONDS, OFFICIAL_PRIVATE.titled("official private"),
)  # fmt: skip
IN_TEXT = (METHOD, *COMPARED[1:])
NARROWER = tuple(AT_512 if column is AT_512_WITH_ENDS else column for column in IN_TEXT)
SPARE = (OFFICIAL_RANK, COMPARED[-1], AT_CAP, SECONDS, RETAIN, TEST, AT_512, QUALITY_OF_CEILING)
IN_JSON = (
    SCORE, INTERVAL, FORGETTING_QUALITY, replace(QUALITY_OF_CEILING, key="quality_over_ceiling"), AT_512_WITH_ENDS,
    RETAIN, TEST, SECONDS, AT_CAP, OFFICIAL_RANK, without_mark(OFFICIAL_PRIVATE), FROM_CHART,
)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """Several methods' scores on one task, and what they were graded with."""

    scores: dict[str, Score]
    task: str
    spec: str  # as --task takes it
    fingerprint: str
    runs: int
    seed: int
    device: str
    names: tuple[str, ...] = ()  # what `compare` was asked for; empty where that was everything
    options: tuple[str, ...] = ()  # words of the command beside the task's and those for runs and seed

    def rows(self) -> list[Row]:
        """A row for each method, in the order in which they were graded."""
        return [row_of(name, Result.of(score, name, self.task, {})) for name, score in self.scores.items()]


def row_of(name: str, result: Result) -> Row:
    """The row of a method, with what its file says of the competition."""
    rank, private = rank_and_official_score(name)
    return Row(name, result, official_rank=rank, official_private=private)


def best_first(compared: Compared) -> list[Row]:
    """Its rows by score."""
    return sorted(compared.rows(), key=lambda row: -row.result["score"])


def as_text(compared: Compared, width: int | None = None, again: str = "") -> str:
    """The table for the console, aligned and no wider than `width`, with what it is about above and below.

    Args:
        again: the command that makes it again; the one for others, without folders of this machine, unless given.
    """
    rows, f = best_first(compared), compared
    heading = f"{many(len(rows), 'method')} on {f.task}, N = {f.runs}, seed {f.seed}"
    whole = text_of(IN_TEXT, rows)
    table = whole if width is None or len(max(whole, key=len)) <= width else text_of(NARROWER, rows, width, SPARE)
    below = wrapped(f"{facts_of(f).replace('`', '')}.", width)
    return "\n".join([heading, "", *table, "", *below, f"made again by: {again or command_of(f)}"])


def markdown(compared: Compared, again: str = "") -> str:
    """The table, best score first, with what it was measured on. `again` as for `as_text`."""
    below = f"{facts_of(compared)}; `{again or command_of(compared)}`."
    return "\n".join([*as_markdown(COMPARED, best_first(compared)), "", below])


def command_of(compared: Compared) -> str:
    """The command that makes the table again, for others."""
    where = {"task": compared.spec, "runs": compared.runs, "seed": compared.seed or None, "whole": False}
    return command("compare", compared.names, **where, more=compared.options)


def facts_of(compared: Compared) -> str:
    """What was measured on what."""
    rows = best_first(compared)
    facts = provenance(compared.device, card_name(compared.device))
    correlation, ranked = rank_agreement(compared.scores)
    marked = f" {ABOUT_IN_WORDS}" if any(row.official_private.startswith(ABOUT) for row in rows) else ""
    agreement = f" Spearman's correlation with the {ranked} official ranks: {correlation:.2f}." if ranked > 2 else ""
    return (
        f"Ceiling {rows[0].result['ceiling']:.4f}.{agreement}{marked} Task `{compared.task}`, N = {compared.runs}, "
        f"seed {compared.seed}, {facts['hardware']}, torch {facts['torch']}, commit {facts['commit']}"
    )


def rank_and_official_score(name: str | Submission) -> tuple[str, str]:
    """The final rank and the official private score that a submission's docstring states, or '-', as for a variant.

    A score that is "about" so much in the docstring was read from a chart: it has the mark ABOUT and the digits that it
    has there.
    """
    if isinstance(name, str) and looks_like_checkpoints(name):  # a shared file, which may call itself anything
        return UNSTATED, UNSTATED
    submission = Submission.find(name)
    text = "" if submission.settings else ast.get_docstring(submission.tree()) or ""
    rank = re.search(r"^Rank:\s+(\d+)", text, re.MULTILINE)
    score = re.search(r"private (about )?(0\.\d+)", text)
    return rank.group(1) if rank else UNSTATED, _official(*score.groups()) if score else UNSTATED


def _official(about: str | None, score: str) -> str:
    return f"{ABOUT}{score}" if about else f"{float(score):.4f}"


def rank_agreement(scores: dict[str, Score]) -> tuple[float, int]:
    """Spearman's correlation of our order with the official private ranks, and over how many methods; 1 is the same."""
    ranks = {name: rank_and_official_score(name)[0] for name in scores}
    ranked = [name for name in scores if ranks[name].isdigit()]
    if len(ranked) < 2:
        return float("nan"), len(ranked)
    ours = [-scores[name].score for name in ranked]
    return float(spearmanr(ours, [int(ranks[name]) for name in ranked]).statistic), len(ranked)


def as_json(compared: Compared) -> str:
    """The same numbers for programs."""
    rows = compared.rows()
    about = {"task": compared.task, "fingerprint": compared.fingerprint, "runs": compared.runs, "seed": compared.seed}
    about |= {key: rows[0].result[key] for key in ("ceiling", "ceiling_runs")}
    correlation, ranked = rank_agreement(compared.scores)
    about |= {"rank_correlation": correlation if ranked > 2 else None, "ranked_methods": ranked}
    methods = {row.name: as_fields(IN_JSON, row) for row in rows}
    about |= provenance(compared.device, card_name(compared.device))
    return json.dumps({**about, "methods": methods}, indent=1) + "\n"


def pairs_in_words(
    scores: Mapping[str, Score], runs: Mapping[str, np.ndarray], oracles: np.ndarray, persons: np.ndarray
) -> list[str]:
    """A line for every two methods: better, worse or cannot tell.

    Args:
        scores: by name of the method.
        runs: by the same names, confidences [N, E].
        oracles: confidences [N, E] that all were graded against.
        persons: [E] as in `score_interval`.
    """
    return [_in_words(pair, scores, runs, oracles, persons) for pair in combinations(scores, 2)]


def best_in_words(
    scores: Mapping[str, Score], runs: Mapping[str, np.ndarray], oracles: np.ndarray, persons: np.ndarray
) -> list[str]:
    """A line for every method but the best, which it is held against, from the best score down; as `pairs_in_words`."""
    best, *others = sorted(scores, key=lambda name: -scores[name].score)
    lines = [_in_words((name, best), scores, runs, oracles, persons) for name in others]
    if len(others) > 1:
        lines.append(
            f"Each of these {len(others)} tests takes one in ten equal methods for different, and the best score"
        )
        lines[-1] += f" of {len(scores)} owes something to luck."
    return lines


def _in_words(pair: tuple[str, str], scores: Mapping[str, Score], runs: Mapping[str, np.ndarray], *given) -> str:
    first, second = pair
    utilities = scores[first].utility, scores[second].utility
    return comparison_of(runs[first], runs[second], *given, utilities).in_words(first, second)


SEVERAL = (
    METHOD.titled(""), RUNS, SCORE_IF_VALID, INTERVAL, QUALITY_OF_CEILING, RETAIN, TEST, SECONDS
)  # fmt: skip
LONGEST = 120  # characters of a reason in the table; it was reported in full before


def table_of_several(
    names: Sequence[str], scores: Mapping[str, Score], failed: Mapping[str, str], width: int | None = None
) -> str:
    """One row each, in the order in which they were given: aligned columns, or why there is no score.

    Args:
        width: of the terminal, so that reasons and names are cut to it.
    """
    rows = [Row(name, Result.of(scores[name], name, "", {})) for name in names if name in scores]
    columns = those_that_fit(SEVERAL, rows, width, SPARE)
    head, *known = cells(columns, rows)
    lines = {row.name: line for row, line in zip(rows, known)}
    room = LONGEST if width is None else max(width - max(map(len, names)) - len("  failed: "), NARROWEST)
    lines |= {name: [name, f"failed: {_shortened(failed[name], room)}"] for name in names if name not in lines}
    return "\n".join(aligned(columns, [head, *(lines[name] for name in names)]))


def _shortened(reason: str, room: int) -> str:
    text = " ".join(reason.split())
    return text if len(text) <= room else f"{text[: room - 4 if room < LONGEST else room]} ..."


NUMBERS = {
    "score", "forgetting_quality", "ceiling", "quality_over_ceiling", "score_over_ceiling", "retain_accuracy",
    "test_accuracy", "share_at_epsilon_cap", "seconds_per_run",
}  # fmt: skip


def _field(key: str) -> Column:
    """A single value of score.json."""
    unknown = math.nan if key in NUMBERS else None
    return Column(key, key, lambda result: unknown if result.get(key) is None else result[key])


def _end(key: str, which: int) -> Column:
    """An end of the interval."""

    def read(result: Result) -> float:
        end = (result.get("interval") or (None, None))[which]
        return math.nan if end is None else float(end)

    return Column(key, key, read)


def _given(side: str) -> Column:
    """The file of models that were made elsewhere."""
    return Column(side, side, lambda result: result[side]["from"] if result.get(side) else None)


def _of_ceiling(result: Result) -> float:
    """Earlier versions did not say it."""
    known = result.get("quality_over_ceiling")
    if known is None and {"forgetting_quality", "ceiling"} <= {key for key in result if result[key] is not None}:
        return result.quality_over_ceiling
    return math.nan if known is None else known


GRADED = (
    *map(_field, ("submission", "task", "score", "forgetting_quality", "ceiling")),
    Column("quality_over_ceiling", "quality_over_ceiling", _of_ceiling),
    *map(_field, ("score_over_ceiling", "retain_accuracy", "test_accuracy", "share_at_epsilon_cap", "seconds_per_run")),
    *map(_field, ("runs", "seed", "device", "torch", "when")),
    _end("interval_low", 0),
    _end("interval_high", 1),
    Column("missing_runs", "missing_runs", lambda result: len(result.get("missing_runs", [])) if result else None),
    Column("notes", "notes", lambda result: "; ".join(result.get("notes", [])) if result else None),
    _given("unlearned"),
    _given("retrained"),
)
NOTHING = Result({})


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
    rows = [graded_row(path) for path in sorted(folder.rglob("score.json")) if not _is_copy(path)]
    rows = [row for row in rows if task is None or row["task"] == task or (row["error"] and _of(row, task))]
    return sorted(rows, key=lambda row: (str(row["task"]), -row["score"] if row["score"] == row["score"] else math.inf))


def _is_copy(path: Path) -> bool:
    """Is a score kept under its N also what is shown? An interrupted grading may have left it in both places."""
    shown = result_folder(path) / path.name
    return shown != path and shown.is_file() and shown.read_bytes() == path.read_bytes()


def _of(row: dict, task: str) -> bool:
    """Does a damaged file lie in a folder of this task?"""
    return any(part.rpartition("-")[0] == task for part in Path(row["path"]).parts)


def graded_row(path: Path) -> dict:
    """The row of one score.json, damaged or not."""
    more = {"path": str(path), "error": None}
    try:
        return _checked(Result.read(path)) | more
    except RecordError as error:
        more["error"] = str(error)
    except (KeyError, TypeError, ValueError) as error:
        more["error"] = f"{path} is no score of this kit ({type(error).__name__}: {error})"
    return as_fields(GRADED, NOTHING) | more


def _checked(result: Result) -> dict:
    """The row of a score.json; raises KeyError, TypeError or ValueError for one that is none of this kit."""
    _, _ = result["interval"]
    row = as_fields(GRADED, result)
    known = result.get("score") is not None or ("score" in result and result.get("forgetting_quality") is not None)
    if any(not isinstance(row[key], int | float) for key in NUMBERS) or not known:
        raise ValueError("its numbers are none")
    return row
