"""Find a task's file by its name, without importing it: a typo should not wait for torch.

A task is named by a text, its spec, which travels to all processes: 'digits', 'cifar10:/data', 'faces.csv'. What is to
be changed in it stands behind it in brackets, as with submissions: "faces.csv[epochs=3,net='resnet34']". The command
line's --net, --epochs and so on are written there, and loading.py makes them.
"""

from __future__ import annotations

import ast
import difflib
import math
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from local_eval.store.errors import InputError
from local_eval.store.files import user_path

TASKS = Path(__file__).parent
SPLITS = ("retain", "forget", "validation", "test")
TABLES = (".csv", ".tsv")
WORKBOOKS = (".xlsx", ".xls", ".ods", ".numbers", ".parquet", ".json")


NET, START, ORIGINAL, FORGET = "net", "start", "original", "forget"
FILES = (START, ORIGINAL)  # changes whose value is a file of weights
CHOICES = ("random", "class", "person")  # of a forget set, each with what follows it: "class:3"; or it is a file
RANKED = ("vulnerable", "protected", "mixed")  # choices that are measured first, and then are a file
OF_RECIPE = (
    "epochs", "lr", "weight_decay", "batch_size", "class_weighted", "optimizer", "momentum", "nesterov", "schedule",
    "milestones", "gamma", "warmup", "flip", "crop", "clip", "label_smoothing",
)  # fmt: skip
CHANGES = (NET, START, *OF_RECIPE, ORIGINAL, FORGET)  # in the order in which a spec has them
OPTIONS = (
    NET,
    START,
    ORIGINAL,
    FORGET,
    "epochs",
    "lr",
)  # those with an option of their own; the others go with --recipe


class TaskError(InputError):
    """The task cannot be used; the message names the file or split, what is wrong and what to do."""


def split_changes(spec: str) -> tuple[str, dict[str, object]]:
    """A spec without its brackets, and what stands in them; a path that has brackets in its name is left as it is.

    Raises:
        TaskError: there is something in the brackets that cannot be changed.
    """
    if not spec.endswith("]") or user_path(spec).exists():
        return spec, {}
    for found in re.finditer(r"\[", spec):
        with_values = _literals(spec[found.end() : -1])
        if found.start() and with_values is not None:
            for name in with_values.keys() - set(CHANGES):
                raise TaskError(f"{spec}: a task has no {name!r} that can be changed{nearest(name, CHANGES)}")
            return spec[: found.start()], with_values
    return spec, {}


def _literals(inside: str) -> dict[str, object] | None:
    """{name: value} of a text such as "epochs=3,net='resnet34'"; None for any other text."""
    try:
        call = ast.parse(f"_({inside})", mode="eval").body
        if call.args or not call.keywords:
            return None
        return {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, AttributeError, TypeError, MemoryError, RecursionError):
        return None


def with_changes(spec: str, changes: Mapping[str, object]) -> str:
    """The spec with these changes, which replace earlier ones of the same name; the same changes give the same text."""
    bare, together = split_changes(spec)
    together |= changes
    inside = ",".join(f"{name}={_literal(together[name])}" for name in CHANGES if name in together)
    return f"{bare}[{inside}]" if inside else bare


def _literal(value: object) -> str:
    """As Python writes it; NaN and infinity as texts, which the recipe's check then names."""
    return repr(str(value) if isinstance(value, float) and not math.isfinite(value) else value)


def read_fields(pairs: Sequence[str]) -> dict[str, object]:
    """Fields of the recipe as people write them, each 'NAME=VALUE': a literal of Python, or a bare word.

    Raises:
        TaskError: no such field, or no value.
    """
    fields = {}
    for pair in pairs:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not value:
            raise TaskError(f"--recipe {pair}: give NAME=VALUE, such as --recipe optimizer=sgd")
        if name not in OF_RECIPE:
            raise TaskError(f"--recipe {pair}: a recipe has no {name!r}{nearest(name, OF_RECIPE)}")
        try:
            fields[name] = ast.literal_eval(value)
        except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
            fields[name] = value
    return fields


def whole_paths(changes: Mapping[str, object]) -> dict[str, object]:
    """Changes with whole paths, since workers may stand elsewhere; raises TaskError for files that do not exist."""
    whole = dict(changes)
    for name in (name for name in FILES if name in whole):
        path = user_path(os.fspath(whole[name])).absolute()
        if not path.is_file():
            raise TaskError(f"--{name} {whole[name]}: there is no such file; give a model's weights, such as model.pth")
        whole[name] = str(path)
    file, colon, function = str(whole.get(NET, "")).rpartition(":")
    if file.endswith(".py"):
        path = user_path(file).absolute()
        if not path.is_file():
            raise TaskError(f"--net {whole[NET]}: there is no file {file}")
        whole[NET] = f"{path}:{function}"
    if FORGET in files_in(whole):
        path = user_path(str(whole[FORGET])).absolute()
        if not path.is_file():
            meant = nearest(str(whole[FORGET]), (*RANKED, *(f"{one}:..." for one in CHOICES)))
            raise TaskError(f"--forget {whole[FORGET]}: there is no such file{meant}")
        whole[FORGET] = str(path)
    return whole


def files_in(changes: Mapping[str, object]) -> tuple[str, ...]:
    """Which changes name a file of data: weights, or the examples to be forgotten."""
    choice = str(changes.get(FORGET, RANKED[0]))
    listed = choice not in RANKED and choice.partition(":")[0] not in CHOICES
    return tuple(name for name in FILES if name in changes) + ((FORGET,) if listed else ())


def without_original(spec: str) -> str:
    """The spec of the same task for whoever does not start from an original model: workers have it as a file."""
    bare, changes = split_changes(spec)
    changes.pop(ORIGINAL, None)
    return with_changes(bare, changes)


def files_of(spec: str) -> list[Path]:
    """The files that the changes of a spec name: weights, and the code of a network."""
    changes = split_changes(spec)[1]
    code = str(changes.get(NET, "")).rpartition(":")[0]
    files = [user_path(str(changes[name])) for name in files_in(changes)]
    return files + ([user_path(code)] if code.endswith(".py") else [])


def option_words(spec: str, whole: bool = False) -> list[str]:
    """A spec's changes as the command line takes them: --net resnet34 --epochs 3; files without their folders.

    Args:
        whole: whether files keep their folders.
    """
    words, changes = [], split_changes(spec)[1]
    for name, value in changes.items():
        is_file = name in files_in(changes) or name == NET and str(value).rpartition(":")[0].endswith(".py")
        if name in OPTIONS:
            words += [f"--{name}", Path(str(value)).name if is_file and not whole else str(value)]
        else:
            words += ["--recipe", f"{name}={_as_literal(value)}"]
    return words


def _as_literal(value: object) -> str:
    """As `read_fields` reads it: a bare word, unless that would be read as something else."""
    if isinstance(value, str):
        try:
            ast.literal_eval(value)
        except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
            return value
    return repr(value)


def nearest(name: str, known: tuple[str, ...] | list[str]) -> str:
    """'; did you mean resnet34? ...' with the nearest names, or all if they are few and none is near."""
    near = difflib.get_close_matches(name.lower(), known, n=3)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; there are {', '.join(known)}" if len(known) <= 20 else ""


def nearest_files(path: Path, endings: Sequence[str]) -> list[str]:
    """Names, with the folder as it was given, of the files beside a path that may have been meant, at most three."""
    try:
        beside = [one.name for one in path.parent.iterdir() if one.name.lower().endswith(tuple(endings))]
    except OSError:
        return []
    return [str(path.parent / name) for name in difflib.get_close_matches(path.name, beside, n=3)]


def split_spec(spec: str) -> tuple[Path, str | None]:
    """The file of a task, and the place of its data if the spec names one: 'cifar10:/data' or 'my_task.py:/data'.

    A table, 'faces.csv', is manifest's, and a folder with retain/ and so on is folder's.

    Raises:
        TaskError: there is no such task; the message lists the names that exist.
    """
    spec, _ = split_changes(spec)
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
        raise TaskError(f"no task {name!r}: {path} does not exist{_task_meant(name, path)}")
    return path.resolve(), where if colon else None


def _task_meant(name: str, path: Path) -> str:
    near = nearest_files(path, (".py",)) if path.parent != TASKS else []
    near = near or difflib.get_close_matches(Path(name).stem.lower(), task_names(), n=3)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    paths = "or a path to a .py file, a .csv file, or a folder of your images"
    return f"; there are {', '.join(task_names())}, {paths}"


def _own_data(spec: str) -> str | None:
    """The task that reads a table or folder, if the spec is a path to one."""
    path = user_path(spec)
    if path.suffix.lower() in TABLES:
        if not path.exists():
            near = nearest_files(path, TABLES)
            meant = (
                f"did you mean {' or '.join(near)}?" if near else "--task takes the path of a CSV file, seen from here"
            )
            raise TaskError(f"{spec} does not exist; {meant}")
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
        two = [shlex.quote(f"{name}:{path}") for name in ("cifar10", "competition_like")]
        raise TaskError(f"{path} could be of two tasks; write --task {two[0]} or --task {two[1]}")
    if tables := sorted(f for f in path.iterdir() if f.suffix.lower() in TABLES):
        table = shlex.quote(str(tables[0]))
        raise TaskError(f"{path} is no task; write --task {table} if that table lists the images")
    raise TaskError(
        f"{path} is no task: it needs the folders {', '.join(SPLITS)}, each with a folder for every class; or a CSV "
        "file with the columns image, label, split"
    )


def task_names() -> list[str]:
    """Names of the tasks that come with the kit."""
    return sorted(p.stem for p in TASKS.glob("*.py") if re.search(r"^def task\(", p.read_text(), re.MULTILINE))
