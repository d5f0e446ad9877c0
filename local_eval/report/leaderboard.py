"""All that was graded on one task at one N, ranked, and in tiers within which no two can be distinguished.

A tier is opened by the best method that is in none yet, its anchor. Whatever a paired test
(metric/uncertainty/paired.py) cannot tell from the anchor shares the tier. Anchors are fixed and tests run against them
alone, so that chains of small differences do not put everything into one tier. Two members of a tier may still differ
from each other, and one test in ten distinguishes methods that are equal.

How to see it: python -m local_eval leaderboard --task digits --runs 64
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from local_eval.metric.uncertainty.interval import LEVEL
from local_eval.metric.uncertainty.paired import Comparison, comparison_of, distinguished_from
from local_eval.report.columns import (
    ABOUT,
    ABOUT_IN_WORDS,
    AT_512,
    FROM_CHART,
    HIGH,
    INTERVAL,
    LOW,
    METHOD,
    OFFICIAL_PRIVATE,
    OFFICIAL_RANK,
    P_BESIDE,
    QUALITY_OF_CEILING,
    RANK,
    RETAIN_RATIO,
    SCORE,
    SCORE_OF_CEILING,
    SECONDS,
    TEST_RATIO,
    TIER,
    Column,
    Row,
    as_fields,
    as_number,
)
from local_eval.report.columns import as_csv as csv_of
from local_eval.report.columns import as_markdown as markdown_of
from local_eval.report.columns import as_text as text_of
from local_eval.report.compare import row_of
from local_eval.report.result import Result, at_official_n
from local_eval.store.errors import many
from local_eval.store.lines import wrapped


def ends_at_512(row: Row) -> tuple[float, float] | None:
    """The interval of the score expected at N = 512, in the bits that the leaderboard's files have always had."""
    quality = row.result["forgetting_quality"]
    if row.result.projection is None or not quality:
        return None
    return at_official_n(row.result.projection, row.result["score"] / quality)[1:]


def _end_at_512(which: int) -> Callable[[Row], float | None]:
    return lambda row: (ends_at_512(row) or (None, None))[which]


SHOWN = (
    RANK, TIER, METHOD, SCORE, INTERVAL, QUALITY_OF_CEILING, AT_512, RETAIN_RATIO, TEST_RATIO, SECONDS,
    OFFICIAL_PRIVATE,
)  # fmt: skip
IN_FILES = (
    RANK, TIER, METHOD, SCORE, LOW, HIGH, SCORE_OF_CEILING, AT_512,
    Column("at_512_low", "", _end_at_512(0)),
    Column("at_512_high", "", _end_at_512(1)),
    RETAIN_RATIO, TEST_RATIO, SECONDS, as_number(OFFICIAL_RANK), as_number(OFFICIAL_PRIVATE), P_BESIDE,
    QUALITY_OF_CEILING, FROM_CHART,
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A graded method: its result, and its confidences [N, E]."""

    name: str
    result: Result
    confidences: np.ndarray
    official: bool = False  # a submission of the kit: its file says what it got in the competition
    report: Path | None = None  # its page, if one was drawn


@dataclass(frozen=True)
class LeftOut:
    """What is not on the leaderboard, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Leaderboard:
    """The rows, best first, what was left out, and on what all this was graded."""

    rows: list[Row]
    left_out: list[LeftOut]
    facts: dict  # task, fingerprint, runs, seed, ceiling, hardware, torch, commit, command

    @property
    def needed(self) -> tuple[float, float] | None:
        """Scores below and above the best one from which on a method is distinguished from it; None if it is alone."""
        errors = [row.beside.error for row in self.rows if row.beside is not None and row.tier == 1]
        errors = errors or [row.beside.error for row in self.rows if row.beside is not None]
        return distinguished_from(self.rows[0].result["score"], float(np.median(errors))) if errors else None


def make_leaderboard(
    entries: Sequence[Entry],
    left_out: Sequence[LeftOut],
    oracles: np.ndarray,
    persons: np.ndarray,
    facts: dict,
    progress: Callable[[str], None] = lambda text: None,
) -> Leaderboard:
    """Rank the entries and find their tiers.

    Args:
        oracles: confidences [N, E] that all were graded against.
        persons: [E] as in `score_interval`.
        facts: see Leaderboard.
        progress: called with a line a tier, since tests take about 0.3 s each.
    """
    order = sorted(entries, key=lambda one: (-one.result["score"], one.name))
    place: dict[int, tuple[int, Comparison | None]] = {}
    tier = 0
    while len(place) < len(order):
        tier += 1
        waiting = [k for k in range(len(order)) if k not in place]
        anchor = order[waiting[0]]
        place[waiting[0]] = tier, None
        progress(f"tier {tier}: {anchor.name}; {many(len(waiting) - 1, 'method')} beside it")
        for k in waiting[1:]:
            found = _beside(order[k], anchor, oracles, persons)
            if found.verdict == "cannot tell":
                place[k] = tier, found
    rows = [_row(k + 1, *place[k], entry) for k, entry in enumerate(order)]
    return Leaderboard(rows, list(left_out), facts)


def _beside(entry: Entry, anchor: Entry, oracles: np.ndarray, persons: np.ndarray) -> Comparison:
    utilities = entry.result.utility, anchor.result.utility
    return comparison_of(entry.confidences, anchor.confidences, oracles, persons, utilities, ahead=False)


def _row(rank: int, tier: int, beside: Comparison | None, entry: Entry) -> Row:
    row = row_of(entry.name, entry.result) if entry.official else Row(entry.name, entry.result)
    return replace(row, rank=rank, tier=tier, beside=beside, report=entry.report)


SPARE = (SECONDS, TEST_RATIO, RETAIN_RATIO, OFFICIAL_PRIVATE, QUALITY_OF_CEILING, TIER, AT_512)  # the first goes first


def as_text(leaderboard: Leaderboard, width: int | None = None) -> str:
    """The table as aligned lines, no wider than `width`, and what must be said below it."""
    lines = [line for text in _below(leaderboard) for line in wrapped(text, width, 2)]
    return "\n".join([heading(leaderboard), "", *text_of(SHOWN, leaderboard.rows, width, SPARE), "", *lines])


def as_markdown(leaderboard: Leaderboard) -> str:
    """The same in Markdown."""
    return "\n".join([heading(leaderboard), "", *markdown_of(SHOWN, leaderboard.rows), "", *_below(leaderboard)])


def _below(leaderboard: Leaderboard) -> list[str]:
    return [*said(leaderboard), *left_out_lines(leaderboard)]


def heading(leaderboard: Leaderboard) -> str:
    """What the leaderboard is about."""
    f, methods = leaderboard.facts, many(len(leaderboard.rows), "method")
    start = f", runs from --original {f['original']}" if f.get("original") else ""
    return f"{f['task']}, N = {f['runs']}, seed {f['seed']}{start}: {methods}, ceiling {f['ceiling']:.4f}"


def said(leaderboard: Leaderboard) -> list[str]:
    """How to read it, in sentences."""
    lines = [
        f"Methods of one tier cannot be told from its best (paired test, level {100 * LEVEL:.0f} %).",
        f"The interval holds the score of another draw of runs and oracles in {100 * LEVEL:.0f} % of all cases.",
    ]
    if leaderboard.needed is not None:
        best, (low, _) = leaderboard.rows[0].result["score"], leaderboard.needed
        text = f"At N = {leaderboard.facts['runs']} a method must score below {low:.4f} to be told from the best,"
        lines[:0] = [f"{text} {best:.4f}: by {best - low:.4f}."] if low < best else []
    if any(row.official_private.startswith(ABOUT) for row in leaderboard.rows):
        lines.append(ABOUT_IN_WORDS)
    return lines


def left_out_lines(leaderboard: Leaderboard) -> list[str]:
    """What is not on it, and why."""
    return [f"left out: {one.name}: {one.reason}" for one in leaderboard.left_out]


def as_csv(leaderboard: Leaderboard) -> str:
    """The rows; the columns are IN_FILES."""
    return csv_of(IN_FILES, leaderboard.rows)


def as_json(leaderboard: Leaderboard) -> str:
    """The same for programs, with what was left out."""
    needed = None if leaderboard.needed is None else list(leaderboard.needed)
    rows = [as_fields(IN_FILES, row) for row in leaderboard.rows]
    content = {**leaderboard.facts, "told_from_best": needed, "rows": rows}
    content["left_out"] = [{"name": one.name, "reason": one.reason} for one in leaderboard.left_out]
    return json.dumps(content, indent=1) + "\n"
