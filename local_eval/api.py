"""Grade from Python: the same stages that the commands run, for a name, a path or a function.

How it is used: `import local_eval; local_eval.grade("my_method.py", runs=64)`, docs/python.md
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import html
import inspect
import io
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from local_eval.cli.grading import make_report
from local_eval.grade_given import AgainstGiven, find_given, grade_given, path_of
from local_eval.grader import Grader
from local_eval.isolation.cards import usable_device
from local_eval.isolation.child import Failure
from local_eval.methods.from_python import file_of, write_out
from local_eval.methods.loaders import BATCHES_ON
from local_eval.methods.settings import with_values
from local_eval.methods.submission import Submission, looks_like_checkpoints
from local_eval.methods.task_files import keep_task
from local_eval.metric.score import Score, check_runs, confidences
from local_eval.runs.check import check_submission
from local_eval.store.errors import InputError, WorkError
from local_eval.store.files import write_atomically
from local_eval.store.lines import in_notebook
from local_eval.tasks.names import CHANGES, FILES, NET, nearest, whole_paths, with_changes
from local_eval.tasks.task import Task
from local_eval.tasks.weights import Weights

WRITTEN = "from_python"  # folder, in the one for results, of functions and tasks that were written out


@dataclass(frozen=True)
class Graded(Score):
    """A score with what it is of: print it, show it in a notebook, draw its page."""

    grader: Grader | None = field(default=None, repr=False, compare=False)
    of: Submission | Path | None = field(default=None, repr=False, compare=False)  # or models that were given

    @classmethod
    def from_score(cls, score: Score, grader: Grader, of: Submission | Path) -> Graded:
        """The same score with where it comes from."""
        return cls(**{one.name: getattr(score, one.name) for one in fields(score)}, grader=grader, of=of)

    def __str__(self) -> str:
        name = self.of.name if isinstance(self.of, Path) else self.of.label
        return f"{name} on {self.grader.task.name}: {super().__str__()}"

    def report(self, images: bool = True) -> Path:
        """Draw the page of this score, report.html, with its figures beside it, as the command does; returns its path.

        Raises:
            ScoreError: runs or oracles have changed, or accuracies are not known.
        """
        return make_report(self.grader, self.of, images, (self.runs, len(self.missing)))

    def confidences(self) -> tuple[np.ndarray, np.ndarray]:
        """What was scored: confidences [N, E] of the unlearned and of the retrained models on the forget set."""
        labels = self.grader.labels_and_persons[0]
        retrained = confidences(self.grader.cached_oracles()[: self.runs], labels)
        if isinstance(self.of, Path):
            return confidences(find_given(self.grader, self.of, "unlearned", look=False).records, labels), retrained
        done = self.grader.finished_runs(self.of)
        return confidences([done[index] for index in sorted(done)], labels), retrained

    def _repr_html_(self) -> str:
        return self._head

    @cached_property
    def _head(self) -> str:
        """The page's head; the page is drawn once. In a frame of its own: its style is no matter of the notebook's."""
        try:
            page = self.report().read_text(encoding="utf-8")
        except (InputError, WorkError) as error:
            return in_notebook(f"{self}\nno page: {error}")
        head = f"{page.partition('</header>')[0]}</header></main></body></html>"
        return f'<iframe srcdoc="{html.escape(head)}" style="width: 100%; height: 36em; border: 0"></iframe>'


class RunsFailed(WorkError):
    """Some runs failed; the message says how many and why the first did. The others are kept."""


def grade(
    submission: str | os.PathLike | Callable | None = None,
    task: str | os.PathLike | Task = "digits",
    runs: int = 64,
    out: str | os.PathLike = "outputs",
    *,
    settings: Mapping[str, object] | None = None,
    seed: int = 0,
    device: str | None = None,
    workers: int | None = None,
    timeout: float = 900.0,
    allow_missing: bool = False,
    batches_on: str = "device",
    original: Weights | None = None,
    net: str | Callable | None = None,
    start: Weights | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    recipe: Mapping[str, object] | None = None,
    retrained: str | os.PathLike | object = None,
    unlearned: str | os.PathLike | object = None,
) -> Graded:
    """Check a submission, make what is missing of oracles and runs, and score it, as `python -m local_eval grade` does.

    Args:
        submission: a name in submissions/, a path to a .py or .ipynb file, to a zip or folder of checkpoints, or a
            function `unlearning(net, retain_loader, forget_loader, val_loader)`, graded by its file if it has one.
        task: as --task takes it: a name, a .py or .csv file, a folder, NAME:PATH; or a Task, such as from `task_from`.
        runs: models on each side, N >= 16; the official number is 512. Checkpoints bring their own number.
        out: folder for results; what is there already is not made again.
        settings: constants of the submission that are changed for this grading, as --set does: {"EPOCHS": 3}.
        seed: of the runs; another one is a fresh draw.
        device, workers: 'cpu', 'cuda' ..., and how many processes; None for the best there is.
        timeout: seconds after which a run counts as hanging.
        allow_missing: score without the runs that failed; the score says so.
        batches_on: where batches lie: "device", with the net; or "cpu" as on Kaggle, for code that counts on that.
        original: another original model to unlearn from: the path of its weights, a network, or its state dict.
        net: another network for the task: as --net takes it, or a function of a file that makes one.
        start: pretrained weights that original and oracles start from, given as `original` is.
        epochs, lr, recipe: of the task's recipe; further fields such as {"momentum": 0.9} (docs/tasks.md).
        retrained, unlearned: models that were made elsewhere, in place of the task's oracles and of a submission: a
            folder or zip of checkpoints, a .npz or .npy file, an array of logits [N, E, C] or confidences [N, E], or a
            dict of arrays by the names that a file has (docs/bring-your-own.md).
    Returns:
        The score; `print` gives it in five lines, `report()` draws its page; `graded` finds it again.
    Raises:
        InputError: something given cannot be used; the message says what to do.
        WorkError: the work failed, or runs did (RunsFailed).
    """
    _check_usable(runs, batches_on)
    out = Path(out)
    name = _with_settings(_name_of(_one_of(submission, unlearned, out), out), settings)
    found = None if looks_like_checkpoints(name) else Submission.find(name)  # a typo should not wait for the task
    given = {"original": original, "net": net, "start": start, "epochs": epochs, "lr": lr, **(recipe or {})}
    spec, device = _spec(task, given, out), usable_device(device)
    grader = Grader(spec, out, runs, seed, device, workers=workers, timeout=timeout, batches_on=batches_on)
    _tell("task", grader.task.notes)
    if retrained is not None:
        grader = AgainstGiven.like(grader, path_of(retrained, out / WRITTEN, "retrained"))
    score = _graded(grader, found, allow_missing) if found else grade_given(grader, Path(name))[0]
    return Graded.from_score(score, grader, found or Path(name))


def _check_usable(runs: int, batches_on: str) -> None:
    """Raises InputError for what must not wait until the task is loaded."""
    _check_guarded()
    check_runs(runs)
    if batches_on not in BATCHES_ON:
        raise InputError(f"batches_on is {batches_on!r}; give 'device' or 'cpu'")


def _spec(task: str | os.PathLike | Task, given: Mapping[str, object], out: Path) -> str:
    """A task as --task takes it, with what is given beside it."""
    spec = str(keep_task(task, out / WRITTEN)) if isinstance(task, Task) else os.fspath(task)
    return with_given(spec, {key: value for key, value in given.items() if value is not None}, out)


def _graded(grader: Grader, submission: Submission, allow_missing: bool) -> Score:
    """Check it, make what is missing, and score it."""
    if not grader.has_all_runs(submission):
        how = {"batches_on": grader.batches_on}
        _tell("check", check_submission(submission, grader.task_spec, grader.device, **how))
    grader.finish_oracles()
    failures = grader.finish_runs(submission)[1]
    if failures and not allow_missing:
        raise RunsFailed(_in_words(failures, grader.runs))
    return grader.score(submission, allow_missing)[0]


def with_given(spec: str, given: Mapping[str, object], out: Path) -> str:
    """A task's spec with changes; weights and functions that are given themselves are written out, or named.

    Raises:
        InputError: a change that no task has, a file that is not there, or what cannot be named.
    """
    if unknown := sorted(given.keys() - set(CHANGES)):
        raise InputError(f"a recipe has no {unknown[0]!r}{nearest(unknown[0], CHANGES)}")
    changes = dict(given)
    for key in (key for key in FILES if key in changes):
        if not isinstance(changes[key], str | os.PathLike):
            changes[key] = _written(changes[key], key, out / WRITTEN)
    if NET in changes and not isinstance(changes[NET], str):
        changes[NET] = _file_and_name(changes[NET])
    return with_changes(spec, whole_paths(changes)) if changes else spec


def _written(weights: object, key: str, folder: Path) -> str:
    """The file into which a network's weights, or a state dict, are written."""
    if not isinstance(weights, torch.nn.Module | dict):
        kind = type(weights).__name__
        raise InputError(f"{key} is a {kind}; give the path of a file of weights, a network, or its state_dict()")
    buffer = io.BytesIO()
    try:
        torch.save(weights.state_dict() if isinstance(weights, torch.nn.Module) else weights, buffer)
    except Exception as error:  # pickle has no common base for what it cannot take
        raise InputError(f"{key} cannot be written to a file ({error}); give net.state_dict()") from error
    path = folder / f"{key}-{hashlib.sha256(buffer.getvalue()).hexdigest()[:12]}.pth"
    if not path.exists():
        write_atomically(path, buffer.getvalue())
    return str(path)


def _file_and_name(function: Callable) -> str:
    """FILE.py:function for a function, or a class of networks, at the top level of a file."""
    name, file = getattr(function, "__qualname__", ""), ""
    if inspect.isfunction(function) or inspect.isclass(function):
        with contextlib.suppress(OSError, TypeError):
            file = inspect.getsourcefile(function) or ""
    if not (name.isidentifier() and file.endswith(".py") and os.path.isfile(file)):
        raise InputError(f"net is {function!r}; give a name such as 'resnet34', or a function at a file's top level")
    return f"{file}:{name}"


def _one_of(submission: object, unlearned: object, out: Path) -> object:
    """The submission, or the path of unlearned models that were given in its place."""
    if unlearned is None:
        return submission
    if submission is not None:
        raise InputError("unlearned= gives the models that a submission would make; leave one of them out")
    return path_of(unlearned, out / WRITTEN, "unlearned")


def _name_of(submission: str | os.PathLike | Callable, out: Path) -> str:
    """A submission as the stages take it."""
    if isinstance(submission, str | os.PathLike):
        return os.fspath(submission)
    if not callable(submission):
        raise InputError(f"{submission!r} is no submission; give a name, a path or a function")
    return str(file_of(submission) or write_out(submission, out / WRITTEN))


def _with_settings(name: str, settings: Mapping[str, object] | None) -> str:
    """The name with changed constants. Raises SettingError, or InputError for models, which have none."""
    if settings and looks_like_checkpoints(name):
        raise InputError(f"{name} holds finished models, which have no constants; leave settings out")
    return with_values(name, settings) if settings else name


def _tell(title: str, remarks: list[str] | tuple[str, ...]) -> None:
    for remark in remarks:
        print(f"{title}: {remark}", file=sys.stderr, flush=True)


def _in_words(failures: dict[int, Failure], runs: int) -> str:
    index, failure = min(failures.items())
    return (
        f"{len(failures)} of {runs} runs failed, which allow_missing=True leaves out. Run {index}: {failure.reported()}"
    )


def _check_guarded() -> None:
    """Raise InputError if a script would start itself again: the grader's processes import the main file anew."""
    main, frame = sys.modules.get("__main__"), sys._getframe()
    file = getattr(main, "__file__", None)
    while frame is not None and file and file.endswith(".py"):
        if frame.f_code.co_name == "<module>" and frame.f_globals is vars(main):
            if not _is_guarded(Path(file), frame.f_lineno):
                text = 'its processes import this file too; put the call under `if __name__ == "__main__":`'
                raise InputError(f"{file}, line {frame.f_lineno}: calls local_eval.grade at the top level, and {text}")
            return
        frame = frame.f_back


def _is_guarded(file: Path, line: int) -> bool:
    """Does a line of a file stand under an `if` that asks for __name__? Also True where there is nothing to read."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return True
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and n.lineno <= line <= n.end_lineno]
    return any(isinstance(n, ast.Name) and n.id == "__name__" for block in blocks for n in ast.walk(block.test))
