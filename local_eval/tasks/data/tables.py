"""CSV tables, whatever a spreadsheet made of them: text, separators and cells, with errors that name file and row.

How it is used: `read_rows(Path("faces.csv"), ("image", "label"))[0].integer("label")`.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from local_eval.tasks.names import TaskError

# Tell the first ten faults of a person's data at once, not one a try; paths are told once.
#
#     faults = Faults(Path("faces.csv"))
#     with faults.collecting():
#         row.integer("label")
#     faults.tell()  # raises TaskError if there were any


TOLD = 10  # faults in one message
LONGEST = 450  # characters of one fault; a cell may hold any text


class Faults:
    """What is wrong with the data that a file or folder describes."""

    def __init__(self, source: Path):
        self.source = source
        self.messages: list[str] = []

    def add(self, messages: Iterable[str]) -> None:
        """Note messages; each one names its file, as "faces.csv, row 7: ..."."""
        self.messages += messages

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Note a TaskError of the block instead of raising it."""
        try:
            yield
        except ManyFaults as error:
            self.messages += error.messages
        except TaskError as error:
            self.messages.append(str(error))

    def tell(self) -> None:
        """Raise ManyFaults if there are any."""
        if self.messages:
            raise ManyFaults(self.source, self.messages)


class ManyFaults(TaskError):
    """One fault or several, in the order in which they were noted."""

    def __init__(self, source: Path, messages: list[str]):
        self.messages = messages = [m if len(m) <= LONGEST else f"{m[:LONGEST]} ..." for m in messages]
        if len(messages) == 1:
            super().__init__(messages[0])
            return
        short = [m.removeprefix(f"{source}, ").removeprefix(f"{source}: ") for m in messages[:TOLD]]
        count = f"{len(messages)} faults" + (f"; the first {TOLD}" if len(messages) > TOLD else "")
        super().__init__("\n  ".join([f"{source} has {count}:", *short]))


# A CSV file's text and cells, whatever a spreadsheet made of it, where the meaning is plain.
#
# Taken: UTF-8, and UTF-16 or UTF-32 with a byte order mark; comma, semicolon, tab or | as the separator of the whole
# file, also as Excel's first line "sep=;" names it; spaces around cells; empty lines. All else is refused by its
# line.


LARGEST = 2**28  # bytes; a row takes about 50, so this is five million images
MARKS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SAVE_AS = "save it as 'CSV UTF-8' from the spreadsheet"


@dataclass(frozen=True)
class Table:
    """The cells of a CSV file, stripped; empty lines are left out."""

    header: list[str]  # in small letters
    header_line: int
    rows: list[tuple[int, list[str]]]  # number of the line, counted from 1, and the cells
    separator: str


def read_table(file: Path, columns: tuple[str, ...]) -> Table:
    """The cells of a file whose header should hold these columns; the separator is the one that finds most of them.

    Raises:
        TaskError: no such file, no text, or quotes that do not close; the message names the line.
    """
    text = _text(file)
    skipped, reported = (1, text[4]) if text[:4].lower() == "sep=" and text[4:5] in SEPARATORS else (0, None)
    lines = io.StringIO(text, newline="").readlines()[skipped:]
    first = next((line for line in lines if line.strip()), "").lower()
    separator = reported or max(SEPARATORS, key=lambda s: _found(first, s, columns))
    records = _records(file, lines, skipped, separator)
    if not records:
        return Table([], 1, [], separator)
    (number, header), *rows = records
    return Table([name.lower() for name in header], number, rows, separator)


def _found(header: str, separator: str, columns: tuple[str, ...]) -> tuple[int, int]:
    """How many of the columns this separator finds, and how often it is there."""
    names = {name.strip().strip('"').strip() for name in header.split(separator)}
    return len(names & set(columns)), header.count(separator)


def _text(file: Path) -> str:
    content = _content(file)
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    if content.startswith(b"PK\x03\x04"):
        raise TaskError(f"{file} cannot be read as a CSV file: it is a zip or an Excel workbook; {SAVE_AS}")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + (0 if b"\n" in before else before.count(b"\r")) + 1
        raise TaskError(
            f"{file} cannot be read as a CSV file in UTF-8: row {line} holds the byte {content[error.start]:#04x}, "
            f"which could be any of several letters; {SAVE_AS}"
        ) from error
    if "\0" in text:
        raise TaskError(
            f"{file} cannot be read as a CSV file in UTF-8: it holds zero bytes, as pictures do, or UTF-16 without "
            f"its mark; {SAVE_AS}"
        )
    return text


def _content(file: Path) -> bytes:
    try:
        if not file.is_file():
            what = "it is a folder" if file.is_dir() else "there is no such file"
            raise TaskError(f"{file} cannot be read as a CSV file: {what}")
        if (size := file.stat().st_size) > LARGEST:
            raise TaskError(f"{file} cannot be read as a CSV file: it has {size} bytes, and {LARGEST} are the most")
        return file.read_bytes()
    except OSError as error:
        raise TaskError(f"{file} cannot be read as a CSV file ({error.strerror})") from error


def _records(file: Path, lines: list[str], skipped: int, separator: str) -> list[tuple[int, list[str]]]:
    """The file's non-empty records with the numbers of their lines. Raises TaskError for quotes that go wrong."""
    # What follows a separator is a space or a quote far more often than part of a name: a, "b" is two cells.
    reader, records, before = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True), [], 0
    try:
        for cells in reader:
            number, before = skipped + before + 1, reader.line_num
            if any("\n" in cell or "\r" in cell for cell in cells):
                end = skipped + before
                raise TaskError(
                    f"{file}, row {number}: a quote opens here and closes in row {end}; close it in its row"
                )
            if any(cells := [cell.strip() for cell in cells]):
                records.append((number, cells))
    except csv.Error as error:
        number = skipped + before + 1
        if "unexpected end" in str(error):
            raise TaskError(f"{file}, row {number}: a quote opens here and never closes; close or remove it") from error
        value = lines[before].strip()[:80]
        if "field larger" in str(error):
            raise TaskError(
                f"{file}, row {number}: a cell has more than {csv.field_size_limit()} characters; shorten it"
            ) from error
        raise TaskError(
            f"{file}, row {number}: {value!r} has quotes that are not around a whole cell ({error}); remove them"
        ) from error
    return records


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
    found, reported = [], set()
    for one in listed:
        first = images.setdefault(one.image, one)
        if first is not one:
            found.append(f"{one.row.file}: {one.image} is listed twice, in {_both(first, one)}; leave one out")
        if one.split not in ("retain", "forget") or not one.group:
            continue
        first = groups.setdefault(one.group, one)
        if first.split != one.split and one.group not in reported:
            reported.add(one.group)
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
