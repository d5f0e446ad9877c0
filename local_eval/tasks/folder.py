"""Your own images in folders: a folder for each split, and in it one for each class.

    python -m local_eval grade fanchuan --task DIR                              or --task folder --data-dir DIR

    DIR/retain/<class>/*.png    DIR/forget/<class>/*.png    DIR/validation/<class>/*.png    DIR/test/<class>/*.png

Classes are numbered by their names; .jpg, .webp, .gif, .bmp and .tif will do too. Every image is its own person: where
persons have several images, list them in a CSV file with a column `group` (manifest.py). All else is as there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from local_eval.store.files import is_litter
from local_eval.tasks.data.own_images import Example, own_task
from local_eval.tasks.data.tables import Faults
from local_eval.tasks.names import SPLITS, TaskError
from local_eval.tasks.task import Task

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def task(where: Path) -> Task:
    """Point it at a folder with retain/, forget/, validation/ and test/, each with a folder for every class."""
    if not where.is_dir():
        raise TaskError(f"{where} is no folder; it needs the folders {', '.join(SPLITS)}")
    faults, notes = Faults(where), []
    found = {}
    for name in SPLITS:
        with faults.collecting():
            found[name] = list(_of_split(where, name, faults, notes))
    listed = [one for name in SPLITS for one in found.get(name, [])]
    examples = [
        Example(f"{where}", f"{file.relative_to(where)}", file, split, file.parent.name, "", number)
        for number, (split, file) in enumerate(listed)
    ]
    if not examples:
        faults.tell()
        raise TaskError(f"{where} holds no images")
    return own_task("folder", where, examples, faults, [*notes, "every image counts as a person of its own"])


def _of_split(where: Path, name: str, faults: Faults, notes: list[str]) -> Iterator[tuple[str, Path]]:
    """The images of a split, by class and name."""
    if not (where / name).is_dir():
        there = ", ".join(sorted(f.name for f in where.iterdir() if f.is_dir())) or "none"
        raise TaskError(f"{where}: there is no folder {name}, only {there}")
    for folder in _entries(where / name):
        if not folder.is_dir():
            faults.add([f"{where}: {name}/{folder.name} is in no folder of a class; put it into one"])
            continue
        files = _entries(folder)
        for file in files:
            if file.is_dir():
                faults.add([f"{where}: {name}/{folder.name}/{file.name} is a folder; put its images one level higher"])
            elif file.suffix.lower() not in SUFFIXES:
                faults.add([f"{where}: {name}/{folder.name}/{file.name} is no image; take it out"])
            else:
                yield name, file
        if not files:
            notes.append(f"{name}/{folder.name} is empty")


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without what systems leave there."""
    return sorted(entry for entry in folder.iterdir() if not is_litter(entry.name))
