"""Grade from Python: the same stages that the commands run, for a name, a path or a function.

How it is used: `import local_eval; local_eval.grade("my_method.py", runs=64)`, docs/python.md
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable
from pathlib import Path

from local_eval.engine.device import usable_device
from local_eval.engine.errors import InputError, WorkError
from local_eval.engine.failure import Failure
from local_eval.given_sides import AgainstGiven, grade_given, path_of
from local_eval.grader import Grader
from local_eval.metric.score import Score, check_runs
from local_eval.runs.callables import file_of
from local_eval.runs.check import check_submission
from local_eval.runs.submissions import Submission, looks_like_checkpoints
from local_eval.runs.written_out import write_out

WRITTEN = "from_python"  # folder, in the one for results, of functions that were written out


class RunsFailed(WorkError):
    """Some runs failed; the message says how many and why the first did. The others are kept."""


def grade(
    submission: str | os.PathLike | Callable | None = None,
    task: str | os.PathLike = "digits",
    runs: int = 64,
    out: str | os.PathLike = "outputs",
    *,
    seed: int = 0,
    device: str | None = None,
    workers: int | None = None,
    timeout: float = 900.0,
    allow_missing: bool = False,
    retrained: str | os.PathLike | object = None,
    unlearned: str | os.PathLike | object = None,
) -> Score:
    """Check a submission, make what is missing of oracles and runs, and score it, as `python -m local_eval grade` does.

    Args:
        submission: a name in submissions/, a path to a .py or .ipynb file, to a zip or folder of checkpoints, or a
            function `unlearning(net, retain_loader, forget_loader, val_loader)` of any name. A function is graded by
            its file, or is written out as one to `<out>/from_python/`.
        task: as --task takes it: a name, a .py file, a .csv file, a folder; NAME:PATH.
        runs: models on each side, N >= 16; the official number is 512. Checkpoints bring their own number.
        out: folder for results; what is there already is not made again.
        seed: of the runs; another one is a fresh draw.
        device: 'cpu', 'cuda' ...; None for the best there is.
        workers: processes; None for one per core, on a GPU for what is measured to be best.
        timeout: seconds after which a run counts as hanging.
        allow_missing: score without the runs that failed; the score says so.
        retrained: models that were made elsewhere, in place of the task's oracles: a folder or zip of checkpoints, a
            .npz or .npy file of logits or confidences, or from Python an array of logits [N, E, C] or confidences
            [N, E], or a dict of arrays by the names that a file has (docs/bring-your-own.md).
        unlearned: the same of unlearned models, in place of a submission.
    Returns:
        The score; score.json lies in the folder for results, where `graded` finds it.
    Raises:
        InputError: something given cannot be used; the message names it and says what to do.
        WorkError: the work failed, or runs did (RunsFailed).
    """
    _check_guarded()
    check_runs(runs)
    out = Path(out)
    name = _name_of(_one_of(submission, unlearned, out), out)
    if not looks_like_checkpoints(name):
        Submission.find(name)  # a typo should not wait for the task
    grader = Grader(os.fspath(task), out, runs, seed, usable_device(device), workers, timeout)
    _tell("task", grader.task.notes)
    if retrained is not None:
        grader = AgainstGiven.like(grader, path_of(retrained, out / WRITTEN, "retrained"))
    if looks_like_checkpoints(name):
        return grade_given(grader, Path(name))[0]
    _tell("check", check_submission(name, grader.task_spec, grader.device))
    grader.finish_oracles()
    failures = grader.finish_runs(name)[1]
    if failures and not allow_missing:
        raise RunsFailed(_in_words(failures, runs))
    return grader.score(name, allow_missing)[0]


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


def _tell(title: str, remarks: list[str] | tuple[str, ...]) -> None:
    for remark in remarks:
        print(f"{title}: {remark}", file=sys.stderr, flush=True)


def _in_words(failures: dict[int, Failure], runs: int) -> str:
    index, failure = min(failures.items())
    return f"{len(failures)} of {runs} runs failed, which allow_missing=True leaves out. Run {index}: {failure.told()}"


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
