"""Where a person's table says that the images are: relative to the table or to the current folder, in any notation.

Backslashes, ~ and both forms of accented letters (a Mac's file names, a table's text) are understood if the file is
there under that name; the text as it is written comes first.

How it is used: `files, notes = find_files(["anna\\\\1.png"], Path("faces.csv"))`.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from local_eval.tasks.readers.faults import Faults


def find_files(texts: Sequence[str], places: Sequence[str], table: Path) -> tuple[list[Path], list[str]]:
    """The path of every image as written, and notes. A path that leads nowhere is returned relative to the table.

    Paths are relative to the table's folder. Only if not one is found there, they are to the current folder.

    Raises:
        TaskError: some relative paths are found beside the table, and others only in the current folder.
    """
    here = [_find(text, table.parent) for text in texts]
    if all(here):
        return here, []
    there = [_find(text, Path.cwd()) if file is None else None for text, file in zip(texts, here)]
    relative = [file for text, file in zip(texts, here) if not _is_absolute(text)]
    if any(there) and not any(relative):
        files = [one or other or Path.cwd() / text for text, one, other in zip(texts, here, there)]
        return files, ["image paths are relative to the current folder, not to the table"]
    faults = Faults(table)
    for text, place, file in zip(texts, places, there):
        if file:
            faults.add([f"{place}: image {text} is in the current folder, others are beside the table; move it there"])
    faults.tell()
    return [file or table.parent / text for text, file in zip(texts, here)], []


def shown(file: Path, folder: Path) -> str:
    """A path without detours: relative to a folder if it lies in it."""
    whole, base = os.path.abspath(file), os.path.abspath(folder)
    return os.path.relpath(whole, base) if whole.startswith(base.rstrip(os.sep) + os.sep) else whole


def _is_absolute(text: str) -> bool:
    return os.path.isabs(text) or text.startswith("~")


def _find(text: str, folder: Path) -> Path | None:
    """The first reading of a text that is there."""
    forms = (text, text.replace("\\", "/"))
    forms += tuple(unicodedata.normalize(form, text) for text in forms for form in ("NFC", "NFD"))
    for form in dict.fromkeys(forms):
        for name in (form, os.path.expanduser(form)):
            if os.path.lexists(file := folder / name):
                return file
    return None
