"""Your own images: a CSV file says image by image which class and which split it belongs to.

    python -m local_eval grade fanchuan --task manifest:faces.csv               or --task manifest --data-dir faces.csv

    image,label,split,group
    anna/1.png,0,forget,anna
    anna/2.png,0,forget,anna
    ben/1.png,3,retain,ben

`image` is a path relative to the CSV file, or else absolute, `label` a class, as number or word, `split` one of
retain, forget, validation and test. `group` (or person_id) may be left out; images with the same group are one person,
who must not be in both retain and forget. Images are read as RGB, must have one size and are not normalised. Network
and recipe are the competition's, with as many classes as there are labels. `image_id` is the row in the file, `age`
repeats the class. What is taken, and what is refused, is in docs/files.md; to see how a file was understood:

    python -m local_eval check --task faces.csv
"""

from __future__ import annotations

from pathlib import Path

from local_eval.tasks.data.own_images import Example, check_split_name, find_files, own_task, shown
from local_eval.tasks.data.tables import Faults, Listed, Row, faults_apart, read_rows
from local_eval.tasks.names import SPLITS
from local_eval.tasks.task import Task

COLUMNS = ("image", "label", "split")
GROUP, GROUP_TOO = "group", "person_id"


def task(where: Path) -> Task:
    """Point it at a CSV file with the columns image, label, split and, if there are persons, group."""
    faults = Faults(where)
    rows = read_rows(where, COLUMNS, optional=(GROUP,), also={GROUP_TOO: GROUP}, faults=faults)
    splits = {}
    for row in rows:
        with faults.collecting():
            splits[row.number] = _split(row)
    rows = sorted((r for r in rows if r.number in splits), key=lambda row: SPLITS.index(splits[row.number]))
    files, notes = [], []
    with faults.collecting():
        files, notes = find_files([r.text("image") for r in rows], [r.place for r in rows], where)
    faults.add(
        faults_apart(
            Listed(row, shown(file, where.parent), splits[row.number], row.cells.get(GROUP, ""))
            for row, file in zip(rows, files)
        )
    )
    examples = [_example(row, file, splits[row.number]) for row, file in zip(rows, files)]
    if not examples:
        faults.tell()
    return own_task("manifest", where, examples, faults, [*_columns(rows[0]), *notes])


def _split(row: Row) -> str:
    """A row's split, if its cells are all there."""
    for column in COLUMNS:
        row.text(column)
    return check_split_name(row.text("split"), row.place)


def _example(row: Row, file: Path, split: str) -> Example:
    short = f"row {row.number}"
    return Example(row.place, short, file, split, row.text("label"), row.cells.get(GROUP, ""), row.number)


def _columns(row: Row) -> list[str]:
    """A note on columns that are passed over."""
    others = [name for name in row.cells if name and name not in (*COLUMNS, GROUP)]
    return [f"columns passed over: {', '.join(others)}"] if others else []
