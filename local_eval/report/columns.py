"""The columns of all tables of several results, and the forms that a table takes: text, Markdown, CSV, JSON.

A table is a choice of columns and the rows that they read. What is shown of a method, and how many digits of it, is
said here once; HTML tables take their cells from here too.

How it is used: print(as_text([METHOD, SCORE, INTERVAL], [Row("mine", Result.read(path))]))
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from local_eval.metric.uncertainty.paired import Comparison
from local_eval.report.result import Result
from local_eval.store.lines import NARROWEST, short, wrapped

UNSTATED = "-"  # where a submission's file does not say how it did in the competition
ABOUT = "~"  # before an official score that nobody published as a number
ABOUT_IN_WORDS = f"Official scores with {ABOUT} are read from a chart: no number was published."


@dataclass(frozen=True)
class Row:
    """One method of a table: its result, and what is known of it beside the other methods."""

    name: str
    result: Result
    rank: int | None = None
    tier: int | None = None
    beside: Comparison | None = None  # the test against the best of its tier; None for that one itself
    official_rank: str = UNSTATED
    official_private: str = UNSTATED
    report: Path | None = None  # its page, if one was drawn


@dataclass(frozen=True)
class Column:
    """What a table shows of its rows, which are `Row` unless a table says otherwise."""

    key: str  # in files for programs
    title: str  # for people
    read: Callable[[Any], object]  # None where it is not known
    show: Callable[[object], str] = str
    hint: str = ""  # a title that a page explains
    left: bool = False  # aligned to the left

    def text(self, row: Any) -> str:
        """The cell as people read it."""
        return self.show(self.read(row))

    def order(self, row: Any) -> object:
        """What a page sorts by: the first of several numbers, -1 where nothing is known."""
        value = self.read(row)
        value = value[0] if isinstance(value, list | tuple) else value
        if isinstance(value, str):
            value = value.removeprefix(ABOUT)
        return -1 if value in (None, UNSTATED) else value

    def titled(self, title: str) -> Column:
        """The same column under another title."""
        return replace(self, title=title)


def of_result(key: str) -> Callable[[Row], object]:
    """Reads a field of score.json."""
    return lambda row: row.result[key]


def fixed(digits: int, unknown: str = "nan") -> Callable[[float | None], str]:
    """Shows a number with so many digits behind the point."""
    return lambda value: unknown if value is None else f"{value:.{digits}f}"


def _ends(interval: Sequence[float | None]) -> str:
    return " to ".join(map(fixed(4), interval))


def _with_ends(values: tuple | None) -> str:
    return "-" if values is None else "{:.4f} ({:.4f} to {:.4f})".format(*values)


def in_percent(share: float | None) -> str:
    """Shows a share in percent, without the sign; '-' where it is not known."""
    return "-" if share is None or math.isnan(share) else f"{100 * share:.1f}"


def _said_if_invalid(row: Row) -> str:
    return SCORE.text(row) + (" (not valid: over the limit)" if row.result["within_budget"] is False else "")


RANK = Column("rank", "rank", lambda row: row.rank, hint="by the score at this N")
TIER = Column("tier", "tier", lambda row: row.tier, hint="a paired test cannot tell methods of a tier from its best")
METHOD = Column("method", "method", lambda row: row.name, hint="the submission's name", left=True)
RUNS = Column("runs", "N", of_result("runs"))
SCORE = Column("score", "score", of_result("score"), fixed(4), "the official score at this N")
SCORE_IF_VALID = Column("score", "score", _said_if_invalid)
INTERVAL = Column(
    "interval",
    "90 % interval",
    of_result("interval"),
    _ends,
    "holds the score of another draw of runs and oracles in 90 % of all cases",
)
LOW = Column("low", "low", lambda row: row.result["interval"][0])
HIGH = Column("high", "high", lambda row: row.result["interval"][1])
FORGETTING_QUALITY = Column("forgetting_quality", "forgetting quality", of_result("forgetting_quality"), fixed(4))
QUALITY_OF_CEILING = Column(
    "quality_of_ceiling",
    "of ceiling",
    lambda row: row.result.quality_over_ceiling,
    fixed(2),
    "forgetting quality divided by what retraining gets against itself; 1 is as good as retraining",
)
SCORE_OF_CEILING = Column("of_ceiling", "score of ceiling", of_result("score_over_ceiling"))  # as it was first
AT_512 = Column(
    "at_512",
    "at N = 512",
    lambda row: row.result["projected"]["score"] if row.result["projected"] else None,
    fixed(4, "-"),
    "the score to be expected of 512 models, as many as the competition took, with a 90 % interval",
)
AT_512_WITH_ENDS = Column("projected", "at N = 512", lambda row: row.result.at_official_n, _with_ends)
RETAIN = Column("retain_accuracy", "RA", of_result("retain_accuracy"), fixed(3))
TEST = Column("test_accuracy", "TA", of_result("test_accuracy"), fixed(3))
RETAIN_PERCENT = Column("retain_percent", "retain %", of_result("retain_accuracy"), in_percent)
TEST_PERCENT = Column("test_percent", "test %", of_result("test_accuracy"), in_percent)
RETAIN_RATIO = Column(
    "ra_ratio",
    "RA ratio",
    of_result("retain_accuracy_ratio"),
    fixed(3),
    "retain accuracy divided by that of the oracles",
)
TEST_RATIO = Column(
    "ta_ratio", "TA ratio", of_result("test_accuracy_ratio"), fixed(3), "test accuracy divided by that of the oracles"
)
AT_CAP = Column("share_at_cap", "at epsilon 50", of_result("share_at_epsilon_cap"), "{:.0%}".format)
SECONDS = Column(
    "seconds_per_run",
    "s / run",
    of_result("seconds_per_run"),
    fixed(2, "-"),
    "median seconds of a run where it was made",
)
OFFICIAL_RANK = Column("official_rank", "rank", lambda row: row.official_rank)
OFFICIAL_PRIVATE = Column(
    "official_private",
    "official",
    lambda row: row.official_private,
    hint=f"private score in the competition, at N = 512 on its own data; {ABOUT} where it is read from a chart",
)
FROM_CHART = Column("official_from_chart", "", lambda row: row.official_private.startswith(ABOUT))
P_BESIDE = Column("p_beside_best_of_tier", "p", lambda row: row.beside and row.beside.p)


def as_number(column: Column) -> Column:
    """What the competition gave, as a number for programs; FROM_CHART says whether it is read from a chart."""
    plain = without_mark(column)
    return replace(column, read=lambda row: None if column.read(row) == UNSTATED else float(plain.read(row)))


def without_mark(column: Column) -> Column:
    """What the competition gave, as the text of a number."""
    return replace(column, read=lambda row: str(column.read(row)).removeprefix(ABOUT))


def cells(columns: Sequence[Column], rows: Iterable) -> list[list[str]]:
    """The texts of a table, its titles first."""
    return [[column.title for column in columns], *([column.text(row) for column in columns] for row in rows)]


def aligned(columns: Sequence[Column], lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells as text in columns; the last cell of a line that has fewer of them reaches over the others."""
    whole = [line for line in lines if len(line) == len(columns)]
    widths = [max(map(len, column)) for column in zip(*whole)]
    widths[0] = max(len(line[0]) for line in lines)
    return [_line(columns, line, widths).rstrip() for line in lines]


def _line(columns: Sequence[Column], line: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(w) if c.left else cell.rjust(w) for c, cell, w in zip(columns, line, widths)]
    if len(line) < len(columns):
        padded[-1] = line[-1]
    return "  ".join(padded)


def as_text(
    columns: Sequence[Column], rows: Iterable, width: int | None = None, spare: Sequence[Column] = ()
) -> list[str]:
    """The lines of a table for the console, titles first.

    Args:
        width: characters of a line, if the table is to fit: columns are left out until it does, which a last line
            says, and then the names in the first column are cut.
        spare: columns in the order in which they are left out; the others stay.
    """
    rows = list(rows)
    shown = those_that_fit(columns, rows, width, spare)
    lines = aligned(shown, cells(shown, rows))
    if width is not None and (too_much := _widest(lines) - width) > 0:
        lines = aligned(shown, _with_short_names(cells(shown, rows), too_much))
    left_out = ", ".join(column.title for column in columns if column not in shown)
    return lines + (wrapped(f"not shown, for want of width: {left_out}", width) if left_out else [])


def those_that_fit(
    columns: Sequence[Column], rows: Sequence, width: int | None, spare: Sequence[Column]
) -> list[Column]:
    """The columns without as many of `spare`, from its front, as it takes to be no wider; all if there is no width."""
    shown = list(columns)
    for column in spare if width is not None else ():
        if column in shown and _widest(aligned(shown, cells(shown, rows))) > width:
            shown.remove(column)
    return shown


def _widest(lines: Sequence[str]) -> int:
    return max(map(len, lines))


def _with_short_names(lines: Sequence[Sequence[str]], too_much: int) -> list[list[str]]:
    """The cells with names in the first left column so much shorter, cut in the middle: paths differ at their ends."""
    at = next((k for k, cell in enumerate(lines[0]) if not cell or cell == METHOD.title), 0)
    longest = max(max(len(line[at]) for line in lines) - too_much, NARROWEST)
    return [[short(cell, longest) if k == at else cell for k, cell in enumerate(line)] for line in lines]


def as_markdown(columns: Sequence[Column], rows: Iterable) -> list[str]:
    """The lines of a table for a page in Markdown."""
    head, *lines = cells(columns, rows)
    return [_bars(head), "|---" * len(columns) + "|", *map(_bars, lines)]


def _bars(line: Sequence[str]) -> str:
    return f"| {' | '.join(line)} |"


def as_csv(columns: Sequence[Column], rows: Iterable) -> str:
    """The values for programs under the columns' keys; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.key for column in columns])
    writer.writerows([column.read(row) for column in columns] for row in rows)
    return text.getvalue()


def as_fields(columns: Sequence[Column], row: Any) -> dict:
    """The values of one row by the columns' keys, for JSON."""
    return {column.key: column.read(row) for column in columns}
