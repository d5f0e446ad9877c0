"""CSV files whose errors name the file and the row. Row 1 is the header, so the first data row is row 2.

How it is used: `read_rows(Path("faces.csv"), ("image", "label"))[0].integer("label")`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from local_eval.tasks.names import TaskError

TOO_LARGE = 2**63  # integers end up in int64 tensors


@dataclass(frozen=True)
class Row:
    """One data row."""

    file: Path
    number: int
    cells: dict[str, str]

    @property
    def place(self) -> str:
        """For messages: "faces.csv, row 7"."""
        return f"{self.file}, row {self.number}"

    def text(self, column: str) -> str:
        """The cell's text; raises TaskError if it is empty."""
        if not (text := self.cells.get(column, "")):
            raise TaskError(f"{self.place}: the column {column} is empty")
        return text

    def integer(self, column: str) -> int:
        """The cell as an integer of at least 0; raises TaskError if it is none."""
        text = self.text(column)
        if not text.isdecimal() or int(text) >= TOO_LARGE:
            raise TaskError(f"{self.place}: {column} is {text!r}, not an integer >= 0")
        return int(text)


@dataclass(frozen=True)
class Listed:
    """What a row says of an image: which one it is, in which split, and of whom, if that is known."""

    row: Row
    image: str
    split: str
    group: str = ""


def check_apart(listed: Iterable[Listed]) -> None:
    """Raise TaskError, with both rows, for an image listed twice or a group in both retain and forget."""
    images: dict[str, Listed] = {}
    groups: dict[str, Listed] = {}
    for one in listed:
        first = images.setdefault(one.image, one)
        if first is not one:
            raise TaskError(f"{one.row.file}: {one.image} is listed twice, in {_both(first, one)}; leave one out")
        if one.split not in ("retain", "forget") or not one.group:
            continue
        first = groups.setdefault(one.group, one)
        if first.split != one.split:
            both = _both(first, one)
            raise TaskError(f"{one.row.file}: the group {one.group} is in {both}; it must be wholly in one of them")


def _both(first: Listed, second: Listed) -> str:
    """Such as "row 2 (retain) and row 7 (forget)"; the first row's file too where it is another."""
    place = f"row {first.row.number}" if first.row.file == second.row.file else first.row.place
    return f"{place} ({first.split}) and row {second.row.number} ({second.split})"


def read_rows(file: Path, columns: tuple[str, ...]) -> list[Row]:
    """The data rows of a CSV file that has at least these columns, whatever the case of their names.

    Blank lines are counted and passed over.

    Raises:
        TaskError: the file cannot be read, lacks a column or has no data rows.
    """
    try:
        with open(file, newline="", encoding="utf-8-sig") as lines:  # spreadsheets write a byte order mark
            table = [[cell.strip() for cell in cells] for cells in csv.reader(lines)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TaskError(f"{file} cannot be read as a CSV file in UTF-8 ({error})") from error
    header = [name.lower() for name in table[0]] if table else []
    if missing := [column for column in columns if column not in header]:
        found = ", ".join(header) or "nothing"
        raise TaskError(f"{file}, row 1: no column {missing[0]!r}; it needs {', '.join(columns)}, and has {found}")
    rows = [Row(file, k, dict(zip(header, cells))) for k, cells in enumerate(table[1:], start=2) if any(cells)]
    if not rows:
        raise TaskError(f"{file} lists no images")
    return rows
