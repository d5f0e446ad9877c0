"""Kaggle's input folder: three CSV files, PNG images, the original model and how often its training saw each class."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from local_eval.store.errors import first_line
from local_eval.store.states import CheckpointError, check_state
from local_eval.tasks.data.images import read_images
from local_eval.tasks.data.tables import Faults, Listed, Row, faults_apart, read_rows
from local_eval.tasks.names import TaskError
from local_eval.tasks.task import Split

COLUMNS = ("image_id", "age_group", "age", "person_id")
AGE_GROUPS = 10
PER_PERSON = 10**6  # image_id 12-3 becomes 12000003
HALVES_SEED = 43


def splits(where: Path) -> dict[str, Split]:
    """The four splits by name; without a test.csv, validation.csv is halved by persons.

    Raises:
        TaskError: a row or an image cannot be used, or the persons of validation.csv cannot be halved.
    """
    names = ["retain", "forget", "validation"] + (["test"] if (where / "test.csv").exists() else [])
    faults = Faults(where)
    rows = {name: read_rows(where / f"{name}.csv", COLUMNS, faults=faults) for name in names}
    listed = []
    for row, name in ((row, name) for name, of_split in rows.items() for row in of_split):
        with faults.collecting():
            check_row(row)
            listed.append(Listed(row, row.text("image_id"), name, row.text("person_id")))
    faults.add(faults_apart(listed))
    faults.tell()
    found = {name: read_split(where, rows[name]) for name in names}
    if "test" in found:
        return found
    persons = found["validation"].person_id.unique()
    if len(persons) < 2:
        raise TaskError(
            f"{where / 'validation.csv'} has a single person and cannot be halved; put a test.csv beside it"
        )
    order = torch.randperm(len(persons), generator=torch.Generator().manual_seed(HALVES_SEED))
    tested = torch.isin(found["validation"].person_id, persons[order[: len(persons) // 2]])
    return found | {"validation": found["validation"][~tested], "test": found["validation"][tested]}


def read_split(where: Path, rows: list[Row]) -> Split:
    """The images of one CSV file's rows, in the order of the images' paths, as exported notebooks have them."""
    rows = sorted(rows, key=lambda row: "/".join(row.text("image_id").split("-")) + ".png")
    numbers = [image_number(row) for row in rows]
    files = [where / "images" / str(person) / f"{number}.png" for person, number in numbers]
    return Split(
        images=read_images(files, [row.place for row in rows], upright=False),  # exported notebooks do not turn them
        labels=torch.tensor([row.integer("age_group") for row in rows]),
        image_id=torch.tensor([PER_PERSON * person + number for person, number in numbers]),
        person_id=torch.tensor([row.integer("person_id") for row in rows]),
        age=torch.tensor([row.integer("age") for row in rows]),
    )


def check_row(row: Row) -> None:
    """Raise TaskError, with the row, unless all its cells can be used."""
    image_number(row)
    for column in ("age", "person_id"):
        row.integer(column)
    if row.integer("age_group") >= AGE_GROUPS:
        raise TaskError(f"{row.place}: age_group is {row.text('age_group')}; there are groups 0 to {AGE_GROUPS - 1}")


def image_number(row: Row) -> tuple[int, int]:
    """The person and number in an image_id; raises TaskError if it is no "12-3"."""
    parts = row.text("image_id").split("-")
    if len(parts) != 2 or not all(p.isdecimal() and str(int(p)) == p and int(p) < PER_PERSON for p in parts):
        raise TaskError(f"{row.place}: image_id is {row.text('image_id')!r}, not PERSON-NUMBER such as 12-3")
    return int(parts[0]), int(parts[1])


def original(where: Path, net: nn.Module) -> dict[str, Tensor]:
    """The state dict in original_model.pth; raises TaskError if it is missing, broken or does not fit `net`."""
    file = where / "original_model.pth"
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no common base for what a damaged file can raise
        reason = getattr(error, "strerror", None) or first_line(error)
        raise TaskError(f"{file} cannot be loaded ({reason}); it must be the state dict that Kaggle gives") from error
    try:
        check_state(state, net.state_dict(), str(file))
    except CheckpointError as error:
        raise TaskError(f"{error}; it must be the state dict of a resnet18 with {AGE_GROUPS} classes") from error
    return state


def class_counts(where: Path) -> tuple[int, ...]:
    """How many images of each age group the original model was trained on; raises TaskError if the file is unfit."""
    file = where / "age_class_weights.json"
    try:
        counts = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TaskError(f"{file} cannot be read ({reason}); it must hold {{age_group: number of images}}") from error
    known = [str(group) for group in range(AGE_GROUPS)]
    if not isinstance(counts, dict) or not counts or not set(counts) <= set(known):
        raise TaskError(f"{file} must hold {{age_group: number of images}} for age groups 0 to {AGE_GROUPS - 1}")
    for group, count in counts.items():
        if not isinstance(count, int) or count < 0:
            raise TaskError(f"{file}: age group {group} has {count!r} images; that must be an integer >= 0")
    return tuple(counts.get(group, 0) for group in known)
