"""All that was graded on one task at one N, ranked, and in tiers within which nothing can be told apart.

A tier is opened by the best method that is in none yet, its anchor. Whatever a paired test
(metric/uncertainty/paired.py) cannot tell from the anchor shares the tier. Anchors are fixed and tests run against them
alone, so that chains of small differences do not put everything into one tier. Two members of a tier may still differ
from each other, and one test in ten tells equal methods apart.

How to see it: python -m local_eval leaderboard --task digits --runs 64
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from local_eval.metric.uncertainty.interval import LEVEL
from local_eval.metric.uncertainty.paired import Comparison, comparison_of, told_from
from local_eval.report.compare import rank_and_official_score
from local_eval.report.table import of_ceiling

FIELDS = ("rank", "tier", "method", "score", "low", "high", "of_ceiling", "at_512", "at_512_low", "at_512_high")
FIELDS += ("ra_ratio", "ta_ratio", "seconds_per_run", "official_rank", "official_private", "p_beside_best_of_tier")
FIELDS += ("quality_of_ceiling",)  # what the board shows; of_ceiling is score / ceiling, as it was first


@dataclass(frozen=True)
class Entry:
    """A graded method: what score.json holds of it, and its confidences [N, E]."""

    name: str
    content: dict
    confidences: np.ndarray
    official: bool = False  # a submission of the kit: its file says what it got in the competition


@dataclass(frozen=True)
class LeftOut:
    """What is not on the board, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Row:
    """A place on the board. `beside` is the test against the tier's anchor, None for the anchor itself."""

    rank: int
    tier: int
    name: str
    content: dict
    beside: Comparison | None
    official_rank: str
    official_private: str

    @property
    def projected(self) -> tuple[float, float, float] | None:
        """The score expected at N = 512, and its 90 % interval."""
        found, quality = self.content.get("projected"), self.content["forgetting_quality"]
        if not found or not quality:
            return None
        utility = self.content["score"] / quality
        return found["score"], found["low"] * utility, found["high"] * utility

    def fields(self) -> dict:
        """The row as FIELDS, numbers as they are, None where there is none."""
        c, ahead = self.content, self.projected or (None, None, None)
        values = [self.rank, self.tier, self.name, c["score"], *c["interval"], c["score_over_ceiling"], *ahead]
        values += [c["retain_accuracy_ratio"], c["test_accuracy_ratio"], c["seconds_per_run"]]
        stated = [None if text == "-" else float(text) for text in (self.official_rank, self.official_private)]
        values += [*stated, None if self.beside is None else self.beside.p, of_ceiling(c)]
        return dict(zip(FIELDS, values))


@dataclass(frozen=True)
class Board:
    """The rows, best first, what was left out, and on what all this was graded."""

    rows: list[Row]
    left_out: list[LeftOut]
    facts: dict  # task, fingerprint, runs, seed, ceiling, hardware, torch, commit, command

    @property
    def needed(self) -> tuple[float, float] | None:
        """Scores below and above the best one from which on a method is told from it; None if it is alone."""
        errors = [row.beside.error for row in self.rows if row.beside is not None and row.tier == 1]
        errors = errors or [row.beside.error for row in self.rows if row.beside is not None]
        return told_from(self.rows[0].content["score"], float(np.median(errors))) if errors else None


def make_board(
    entries: Sequence[Entry],
    left_out: Sequence[LeftOut],
    oracles: np.ndarray,
    persons: np.ndarray,
    facts: dict,
    tell: Callable[[str], None] = lambda text: None,
) -> Board:
    """Rank the entries and find their tiers.

    Args:
        oracles: confidences [N, E] that all were graded against.
        persons: [E] as in `score_interval`.
        facts: see Board.
        tell: called with a line a tier, since tests take about 0.3 s each.
    """
    order = sorted(entries, key=lambda one: (-one.content["score"], one.name))
    place: dict[int, tuple[int, Comparison | None]] = {}
    tier = 0
    while len(place) < len(order):
        tier += 1
        waiting = [k for k in range(len(order)) if k not in place]
        anchor = order[waiting[0]]
        place[waiting[0]] = tier, None
        tell(f"tier {tier}: {anchor.name}; {len(waiting) - 1} methods are held against it")
        for k in waiting[1:]:
            found = _beside(order[k], anchor, oracles, persons)
            if found.verdict == "cannot tell":
                place[k] = tier, found
    rows = [_row(k + 1, *place[k], entry) for k, entry in enumerate(order)]
    return Board(rows, list(left_out), facts)


def _beside(entry: Entry, anchor: Entry, oracles: np.ndarray, persons: np.ndarray) -> Comparison:
    utilities = tuple(
        one.content["retain_accuracy_ratio"] * one.content["test_accuracy_ratio"] for one in (entry, anchor)
    )
    return comparison_of(entry.confidences, anchor.confidences, oracles, persons, utilities, ahead=False)


def _row(rank: int, tier: int, beside: Comparison | None, entry: Entry) -> Row:
    official = rank_and_official_score(entry.name) if entry.official else ("-", "-")
    return Row(rank, tier, entry.name, entry.content, beside, *official)


def as_text(board: Board) -> str:
    """The board as aligned lines, and what must be said below it."""
    lines = [["rank", "tier", "method", "score", "90 % interval", "of ceiling", "at N = 512", "RA ratio", "TA ratio"]]
    lines[0] += ["s / run", "official"]
    lines += [_cells(row) for row in board.rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    left = {2}
    table = [
        "  ".join(cell.ljust(w) if k in left else cell.rjust(w) for k, (cell, w) in enumerate(zip(line, widths)))
        for line in lines
    ]
    return "\n".join([heading(board), "", *(line.rstrip() for line in table), "", *said(board), *left_out_lines(board)])


def _cells(row: Row) -> list[str]:
    c, ahead = row.content, row.projected
    seconds = c["seconds_per_run"]
    return [
        str(row.rank),
        str(row.tier),
        row.name,
        f"{c['score']:.4f}",
        "{:.4f} to {:.4f}".format(*c["interval"]),
        f"{of_ceiling(c):.2f}",
        "-" if ahead is None else f"{ahead[0]:.4f}",
        f"{c['retain_accuracy_ratio']:.3f}",
        f"{c['test_accuracy_ratio']:.3f}",
        "-" if seconds is None else f"{seconds:.2f}",
        row.official_private,
    ]


def heading(board: Board) -> str:
    """What the board is about."""
    f, count = board.facts, len(board.rows)
    many = f"{count} method" + ("s" if count > 1 else "")
    start = f", runs from --original {f['original']}" if f.get("original") else ""
    return f"{f['task']}, N = {f['runs']}, seed {f['seed']}{start}: {many}, ceiling {f['ceiling']:.4f}"


def said(board: Board) -> list[str]:
    """How to read it, in sentences."""
    lines = [
        f"Methods of one tier cannot be told from its best (paired test, level {100 * LEVEL:.0f} %).",
        f"The interval holds the score of another draw of runs and oracles in {100 * LEVEL:.0f} % of all cases.",
    ]
    if board.needed is not None:
        best, (low, _) = board.rows[0].content["score"], board.needed
        text = f"At N = {board.facts['runs']} a method must score below {low:.4f} to be told from the best, {best:.4f}"
        lines.insert(0, f"{text}: by {best - low:.4f}.")
    return lines


def left_out_lines(board: Board) -> list[str]:
    """What is not on it, and why."""
    return [f"left out: {one.name}: {one.reason}" for one in board.left_out]


def as_csv(board: Board) -> str:
    """The rows; the columns are FIELDS."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.fields() for row in board.rows)
    return text.getvalue()


def as_json(board: Board) -> str:
    """The same for programs, with what was left out."""
    needed = None if board.needed is None else list(board.needed)
    content = {**board.facts, "told_from_best": needed, "rows": [row.fields() for row in board.rows]}
    content["left_out"] = [{"name": one.name, "reason": one.reason} for one in board.left_out]
    return json.dumps(content, indent=1) + "\n"
