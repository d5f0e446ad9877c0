"""The commands that the kit prints, for people to copy: built here alone, whole, and quoted for a shell.

A command says everything without which it would do something else where it is printed: the task with its changes, the
folder of results, the seed, the device, constants. Names and paths are those that work from the current folder. In what
travels, such as a page or a notebook, folders of this machine are left out (`whole=False`): such a command works where
its files lie.

How it is used: `command("grade", ["mine.py"], task="digits", runs=64)`; a grader's `command` knows task, folder, seed
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from local_eval.methods.settings import label, split_name
from local_eval.methods.submission import CODE, SUBMISSIONS, Submission
from local_eval.tasks.names import option_words, split_changes, task_names

START = ("python", "-m", "local_eval")
RESULTS = Path("outputs")  # what --out is unless it is given


def command(
    verb: str,
    names: Sequence[str | Path | Submission] = (),
    *,
    task: str = "",
    runs: int | None = None,
    out: str | Path = RESULTS,
    seed: int | None = None,
    device: str = "",
    more: Sequence[str] = (),
    whole: bool = True,
) -> str:
    """One command line.

    Args:
        verb: 'grade', 'report' ...
        names: submissions as they were typed or found, or paths of models; with changed constants in brackets.
        task: as --task takes it, changes included; "" for a command that has none.
        runs, seed, device, out: left out where they are None, empty or what the command takes anyway.
        more: further words.
        whole: whether files are named with the folders of this machine.
    """
    words = [*START, verb, *(_as_argument(name, whole) for name in names)]
    words += task_words(task, whole) if task else []
    words += ["--runs", str(runs)] if runs is not None else []
    words += ["--seed", str(seed)] if seed is not None else []
    words += ["--out", str(out)] if whole and Path(out) != RESULTS else []
    words += ["--device", device] if device else []
    return shlex.join([*words, *more])


def _as_argument(name: str | Path | Submission, whole: bool) -> str:
    """A submission or models as an argument; one that begins with a dash would be taken for an option."""
    text = typed(name, whole)
    return f"./{text}" if text.startswith("-") else text


def typed(name: str | Path | Submission, whole: bool = True) -> str:
    """How a person here types a submission: 'fanchuan', 'mine.py[EPOCHS=3]'; or the path of models."""
    if isinstance(name, Submission):
        path, settings = name.path, name.settings
        if path.parent == SUBMISSIONS and path.suffix == CODE[0]:
            return name.label
        return label(from_here(path) if whole else path.name, settings)
    stem, settings = split_name(str(name))
    return str(name) if whole else label(Path(stem).name, settings)


def from_here(path: Path) -> str:
    """A path as it is typed in the current folder: without it, if the file lies below."""
    here = os.getcwd()
    whole = os.path.abspath(path)
    return os.path.relpath(whole, here) if whole.startswith(os.path.join(here, "")) else whole


def task_words(spec: str, whole: bool = True) -> list[str]:
    """A task as options: --task cifar10:/data --epochs 3; without the folders of this machine unless `whole`."""
    bare, _ = split_changes(spec)
    return ["--task", bare if whole else _without_folders(bare), *option_words(spec, whole)]


def _without_folders(bare: str) -> str:
    """cifar10:/data/x -> cifar10:x; my/task.py:/data/x -> task.py:x; my/faces.csv -> faces.csv."""
    head, _, where = bare.partition(":")
    if head not in task_names():
        head, _, where = bare.partition(".py:") if ".py:" in bare else (bare, "", "")
        head += ".py" if where else ""
    return ":".join(Path(part).name for part in (head, where) if part)
