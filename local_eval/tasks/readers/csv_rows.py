"""CSV files whose errors name the file and the row. Row 1 is the first line, mostly the header.

How it is used: `read_rows(Path("faces.csv"), ("image", "label"))[0].integer("label")`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from local_eval.tasks.names import TaskError
from local_eval.tasks.readers.csv_text import SEPARATORS, Table, read_table
from local_eval.tasks.readers.faults import Faults

TOO_LARGE = 2**63  # integers end up in int64 tensors
CLOSE = 0.75  # of difflib: lable and label, groups and group
MEANT = {  # what people call a column; only suggested, since it may be something else
    "image": ("file", "filename", "file_name", "filepath", "path", "picture", "img", "image_path"),
    "label": ("class", "target", "category", "y"),
    "split": ("set", "subset", "part", "partition"),
    "group": ("person", "subject", "identity", "patient", "subject_id", "patient_id", "group_id", "person_ids"),
}


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
        if not text.isdecimal() or len(text) > len(str(TOO_LARGE)) or int(text) >= TOO_LARGE:
            raise TaskError(f"{self.place}: {column} is {text!r}, not an integer >= 0")
        return int(text)


@dataclass(frozen=True)
class Listed:
    """What a row says of an image: which one it is, in which split, and of whom, if that is known."""

    row: Row
    image: str
    split: str
    group: str = ""


def faults_apart(listed: Iterable[Listed]) -> list[str]:
    """A message, with both rows, for every image listed twice and every group in both retain and forget."""
    images: dict[str, Listed] = {}
    groups: dict[str, Listed] = {}
    found, told = [], set()
    for one in listed:
        first = images.setdefault(one.image, one)
        if first is not one:
            found.append(f"{one.row.file}: {one.image} is listed twice, in {_both(first, one)}; leave one out")
        if one.split not in ("retain", "forget") or not one.group:
            continue
        first = groups.setdefault(one.group, one)
        if first.split != one.split and one.group not in told:
            told.add(one.group)
            both = _both(first, one)
            found.append(f"{one.row.file}: the group {one.group} is in {both}; it must be wholly in one of them")
    return found


def _both(first: Listed, second: Listed) -> str:
    """Such as "row 2 (retain) and row 7 (forget)"; the first row's file too where it is another."""
    place = f"row {first.row.number}" if first.row.file == second.row.file else first.row.place
    return f"{place} ({first.split}) and row {second.row.number} ({second.split})"


def read_rows(
    file: Path,
    columns: tuple[str, ...],
    optional: tuple[str, ...] = (),
    also: dict[str, str] | None = None,
    faults: Faults | None = None,
) -> list[Row]:
    """The data rows of a CSV file that has at least these columns, whatever the case of their names.

    Args:
        optional: columns that may be missing; a column with nearly such a name is refused, not passed over.
        also: further names of columns, {"person_id": "group"}.
        faults: where to note rows of another length than the header's, which are then left out; without it they raise.
    Raises:
        TaskError: the file cannot be read, lacks a column, has one twice, has rows with more or fewer cells than the
            header, or has no data rows. Up to ten rows are told at once.
    """
    table = read_table(file, columns)
    header = _header(file, table, columns, optional, also or {})
    if not table.rows:
        raise TaskError(f"{file} lists no images")
    found, rows = faults or Faults(file), []
    for number, cells in table.rows:
        row = Row(file, number, dict(zip(header, cells)))
        if wrong := _faults_of_length(row, cells, header, columns, table.separator):
            found.add(wrong)
        else:
            rows.append(row)
    if faults is None:
        found.tell()
    return rows


def _header(
    file: Path, table: Table, columns: tuple[str, ...], optional: tuple[str, ...], also: dict[str, str]
) -> list[str]:
    """The names of the columns, by their first names; raises TaskError for missing, doubtful and double ones."""
    place, known = f"{file}, row {table.header_line}", (*columns, *optional)
    named: dict[str, str] = {}
    for name in table.header:
        if (meant := also.get(name, name)) in named and meant in known:
            both = name if named[meant] == name else f"{named[meant]} and {name}"
            raise TaskError(f"{place}: there are two columns {both}; leave one of them out")
        named.setdefault(meant, name)
    if missing := [column for column in columns if column not in named]:
        found = ", ".join(filter(None, table.header)) or "nothing"
        near = _near(missing[0], [n for n in named if n not in known])
        advice = f"; rename {near!r} if that is it" if near else ""
        raise TaskError(f"{place}: no column {missing[0]!r}; it needs {', '.join(columns)}, and has {found}{advice}")
    for column in optional:
        if column not in named and (near := _near(column, [n for n in named if n not in known])):
            raise TaskError(
                f"{place}: the column {near!r} looks like {column!r}; rename it to that, or to something else if it "
                "is none"
            )
    return [also.get(name, name) for name in table.header]


def _near(column: str, names: list[str]) -> str | None:
    """The name that was probably meant to be this column."""
    synonyms = [name for name in names if name in MEANT.get(column, ())]
    return next(iter(synonyms or get_close_matches(column, names, n=1, cutoff=CLOSE)), None)


def _faults_of_length(
    row: Row, cells: list[str], header: list[str], columns: tuple[str, ...], separator: str
) -> list[str]:
    """A message if a row has not the header's number of cells; empty ones at its end do no harm."""
    if len(cells) == len(header) or (len(cells) > len(header) and not any(cells[len(header) :])):
        return []
    count = f"{len(cells)} cell{'s' * (len(cells) != 1)}, the header has {len(header)}"
    if len(cells) > len(header):
        extra = cells[len(header)]
        return [f"{row.place}: {count}; {extra!r} is too much. A cell that holds {separator!r} needs quotes around it"]
    lacking = next((name for name in header[len(cells) :] if name in columns), None)
    others = [name for s, name in SEPARATORS.items() if s != separator and any(s in cell for cell in cells)]
    advice = f"it has {others[0]} where the header has {SEPARATORS[separator]}" if others else "write empty cells too"
    return [f"{row.place}: " + (f"the column {lacking} is empty: " if lacking else "") + f"{count}; {advice}"]
