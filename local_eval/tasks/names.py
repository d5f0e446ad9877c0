"""Find a task's file by its name, without importing it: a typo should not wait for torch."""

from __future__ import annotations

import re
from pathlib import Path

from local_eval.engine.errors import InputError
from local_eval.engine.files import user_path

TASKS = Path(__file__).parent
SPLITS = ("retain", "forget", "validation", "test")
TABLES = (".csv", ".tsv")
WORKBOOKS = (".xlsx", ".xls", ".ods", ".numbers", ".parquet", ".json")


class TaskError(InputError):
    """The task cannot be used; the message names the file or split, what is wrong and what to do."""


def split_spec(spec: str) -> tuple[Path, str | None]:
    """The file of a task, and the place of its data if the spec names one: 'cifar10:/data' or 'my_task.py:/data'.

    A table, 'faces.csv', is manifest's, and a folder with retain/ and so on is folder's.

    Raises:
        TaskError: there is no such task; the message lists the names that exist.
    """
    name, colon, where = spec.partition(":")
    if name not in task_names() and (own := _own_data(spec)):
        return TASKS / f"{own}.py", spec
    if name not in task_names():
        head, colon, where = spec.partition(".py:") if ".py:" in spec else (spec.removesuffix(".py"), "", "")
        name = f"{head}.py" if colon or spec.endswith(".py") else spec
        if not name.endswith(".py") and user_path(spec).is_file():
            raise TaskError(f"{spec} is no task; a table of images ends in .csv or .tsv, and a task's file in .py")
    path = user_path(name) if name.endswith(".py") else TASKS / f"{name}.py"
    if not path.is_file() or (path.parent == TASKS and name not in task_names()):
        raise TaskError(
            f"no task {name!r}: {path} does not exist. Known: {', '.join(task_names())}, or a path to a .py file, "
            "a .csv file, or a folder of your images"
        )
    return path.resolve(), where if colon else None


def _own_data(spec: str) -> str | None:
    """The task that reads a table or folder, if the spec is a path to one."""
    path = user_path(spec)
    if path.suffix.lower() in TABLES:
        if not path.exists():
            raise TaskError(f"{spec} does not exist; --task takes the path of a CSV file as it is seen from here")
        return "manifest"
    if path.suffix.lower() in WORKBOOKS and path.exists():
        raise TaskError(f"{spec} is no CSV file; save it as 'CSV UTF-8' and give that file")
    return _own_folder(path) if path.is_dir() else None


def _own_folder(path: Path) -> str:
    """The task that reads a folder; raises TaskError where that is not plain."""
    if (path / "Age_Gender.txt").is_file() or (path / "retain.csv").is_file():
        return "faces"
    if any((path / name).is_dir() for name in ("retain", "forget")):
        return "folder"
    if (path / "cifar-10-batches-py").is_dir() or ((path / "train").is_dir() and (path / "test").is_dir()):
        raise TaskError(f"{path} could be of two tasks; write --task cifar10:{path} or competition_like:{path}")
    if tables := sorted(f for f in path.iterdir() if f.suffix.lower() in TABLES):
        raise TaskError(f"{path} is no task; write --task {tables[0]} if that table lists the images")
    raise TaskError(
        f"{path} is no task: it needs the folders {', '.join(SPLITS)}, each with a folder for every class; or a CSV "
        "file with the columns image, label, split"
    )


def task_names() -> list[str]:
    """Names of the tasks that come with the kit."""
    return sorted(p.stem for p in TASKS.glob("*.py") if re.search(r"^def task\(", p.read_text(), re.MULTILINE))
