"""A CSV file's text and cells, whatever a spreadsheet made of it, where the meaning is plain.

Taken: UTF-8, and UTF-16 or UTF-32 with a byte order mark; comma, semicolon, tab or | as the separator of the whole
file, also as Excel's first line "sep=;" names it; spaces around cells; empty lines. All else is refused by its line.

How it is used: `read_table(Path("faces.csv"), ("image", "label"))`.
"""

from __future__ import annotations

import codecs
import csv
import io
from dataclasses import dataclass
from pathlib import Path

from local_eval.tasks.names import TaskError

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
    skipped, told = (1, text[4]) if text[:4].lower() == "sep=" and text[4:5] in SEPARATORS else (0, None)
    lines = io.StringIO(text, newline="").readlines()[skipped:]
    first = next((line for line in lines if line.strip()), "").lower()
    separator = told or max(SEPARATORS, key=lambda s: _found(first, s, columns))
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
