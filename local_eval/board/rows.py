"""The rows of the board: methods and variants of which somebody has published a score of the competition.

docs/board.md says where they come from. `results/kaggle_board_rows.csv` holds the kit's own; a file of yours with the
same columns works too.

How to use it: python -m local_eval board --rows results/kaggle_board_rows.csv
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from local_eval.engine.errors import InputError
from local_eval.runs.submissions import ROOT, Submission

ROWS = ROOT / "results" / "kaggle_board_rows.csv"
RANKS = range(1, 9)
SPLITS = ("public", "private", "unknown")
CONFIDENCES = ("A", "B", "C", "?")  # several sources; one, the author's own; inferred; open
PARTS = ("tune", "test")


class BoardError(InputError):
    """A table of rows cannot be used; the message names the file, the line and what to change."""


@dataclass(frozen=True)
class Row:
    """One published score of one variant; docs/board.md describes the columns."""

    variant: str  # as every command takes it: fanchuan[EPOCHS=9]
    rank: int | None  # final rank, 1 to 8, on the row that was ranked
    published: float  # score of the competition, from 0 to 1
    split: str  # of the competition's data: public, private or unknown
    source: str
    confidence: str  # of the number, or of what the variant's constants were, whichever is less sure
    family: str  # variants of one method; a family is never divided between the parts
    part: str  # tune or test; empty as long as it is not drawn
    note: str


COLUMNS = tuple(field.name for field in fields(Row))


def read_rows(path: Path, drawn: bool = True) -> list[Row]:
    """The rows of a CSV file, checked; unless `drawn`, their part may be empty.

    Raises:
        BoardError: columns or values that do not fit, a variant that cannot be, a row twice, a family in both parts.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns, raw = tuple(reader.fieldnames or ()), [(reader.line_num, values) for values in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BoardError(f"{path} cannot be read as a CSV file: {error}") from None
    if columns != COLUMNS:
        raise BoardError(f"{path}: the first line must be {','.join(COLUMNS)}; it has {','.join(columns) or 'nothing'}")
    if not raw:
        raise BoardError(f"{path} has no rows")
    rows = [_row(values, f"{path}, line {line}", drawn) for line, values in raw]
    _check_together(rows, [f"{path}, line {line}" for line, _ in raw])
    return rows


def _row(values: dict, where: str, drawn: bool) -> Row:
    if None in values or None in values.values():
        raise BoardError(f"{where}: it must have {len(COLUMNS)} values; one with a comma in it needs quotes")
    found = {name: text.strip() for name, text in values.items()}
    for column in ("source", "family"):
        if not found[column]:
            raise BoardError(f"{where}: {column} is empty")
    for column, known in (("split", SPLITS), ("confidence", CONFIDENCES), ("part", PARTS if drawn else (*PARTS, ""))):
        if found[column] not in known:
            raise BoardError(
                f"{where}: {column} is {found[column]!r}; it must be one of {', '.join(filter(None, known))}"
            )
    try:
        Submission.find(found["variant"])
    except InputError as error:
        raise BoardError(f"{where}: {error}") from None
    return Row(**found | {"rank": _rank(found["rank"], where), "published": _score(found["published"], where)})


def _rank(text: str, where: str) -> int | None:
    if text and not (text.isdecimal() and int(text) in RANKS):
        raise BoardError(f"{where}: rank is {text!r}; it must be a number from 1 to 8, or empty")
    return int(text) if text else None


def _score(text: str, where: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = float("nan")
    if not 0 <= score <= 1:
        raise BoardError(f"{where}: published is {text!r}; it must be a score from 0 to 1")
    return score


def _check_together(rows: Sequence[Row], places: Sequence[str]) -> None:
    seen, parts = {}, {}
    for row, where in zip(rows, places):
        key = (same_run(row.variant), row.split, row.source)
        if key in seen:
            raise BoardError(f"{where}: the same variant, split and source as {seen[key]}; keep one of them")
        seen[key] = where
        if parts.setdefault(row.family, row.part) != row.part:
            raise BoardError(f"{where}: family {row.family} is in both parts; all its rows belong into one")


def same_run(variant: str) -> tuple[Path, tuple]:
    """Equal for two ways to write one variant: its file, and its settings in order of their names."""
    found = Submission.find(variant)
    return found.path, tuple(sorted(found.settings))


def save_rows(rows: Iterable[Row], path: Path) -> None:
    """Write rows as a CSV file that `read_rows` reads."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *(astuple(row) for row in rows)])
