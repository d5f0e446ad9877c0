"""What a command is asked to do: the parsed options, resolved once and never written to again.

Several spellings come down to one: --data-dir, --original and --epochs go into the task's spec and --set into the
submission's name, since these two travel to workers; --unlearned stands where a submission does; --seed with --repeat
is --seeds. All of this is before torch is loaded: a typo in a name is refused, lists are printed, and what a long
command will do is said.

In: the Namespace of argparse. Out: a Request, which the commands read.
"""

from __future__ import annotations

import argparse
import ast
import glob
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from local_eval.commands import RESULTS as OUTPUTS
from local_eval.commands import command
from local_eval.isolation.pool import default_workers, in_words
from local_eval.methods.points import points_of
from local_eval.methods.settings import with_settings
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import (
    SUBMISSIONS,
    Submission,
    looks_like_checkpoints,
    parse_source,
    submission_names,
    submission_path,
)
from local_eval.store.errors import InputError
from local_eval.store.files import KIT, is_for_others
from local_eval.store.lines import terminal_width, wrapped
from local_eval.tasks.names import (
    FORGET,
    OPTIONS,
    ORIGINAL,
    RANKED,
    read_fields,
    split_changes,
    split_spec,
    task_names,
    whole_paths,
    with_changes,
)

GRADE, COMPARE = "grading:grade", "grading:compare_all"  # commands that say first how long they will take
SWEEP = "sweeping:sweep"


class Request:
    """A command's options by name; what a command does not have raises AttributeError, as with argparse.

    Beside what the parser has: `began`, when the command did, by time.monotonic; `found`, the submissions as they were
    found, by the names that they were given by; and for GRADE and COMPARE `graded`, the names of what is graded: all
    of submissions/ if `compare` names none; for SWEEP `points`, what is tried, as `Points`. `answer` is what is said
    with --json, which the command fills.
    """

    def __init__(self, given: Mapping[str, Any]):
        """From values by name."""
        self.__dict__.update(given)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name} is what the command line says, and stays so")


def resolved(options: argparse.Namespace, answer: dict | None = None) -> Request:
    """The request that parsed options make.

    Args:
        answer: for what the command says with --json; None where nobody reads it.
    Raises:
        InputError: options that contradict each other, names that do not exist, seeds that make no sense.
        TaskError: the same of a task.
    """
    given = {**vars(options), "began": time.monotonic(), "answer": {} if answer is None else answer}
    for part in (_card, _runs, _task, _submissions, _names_with_settings, _seeds, _found, _points):
        given |= part(given)
    return Request(given)


def _card(given: Mapping[str, Any]) -> dict[str, Any]:
    """`bench --card` is a command of its own, which loads nothing that a broken machine may not have."""
    return {"command": "local_eval.card.drive:card"} if given.get("card") else {}


def _runs(given: Mapping[str, Any]) -> dict[str, Any]:
    """Raises InputError for fewer runs than the command makes sense with."""
    fewest, reason = given.get("fewest", (0, ""))
    if fewest and given["runs"] is not None and given["runs"] < fewest:
        raise InputError(f"--runs {given['runs']} is too few for {given['verb']}: below {fewest} {reason}")
    return {}


def _task(given: Mapping[str, Any]) -> dict[str, Any]:
    """The task's spec with --data-dir, --original, --net and so on; raises TaskError for a file that is not there."""
    if not given.get("task"):
        return {}
    task = given["task"]
    if given.get("data_dir"):
        spec, changes = split_changes(task)
        task = with_changes(f"{spec}:{given['data_dir']}", changes)
    changes = {name: given[name] for name in OPTIONS if given.get(name) is not None}
    changes |= read_fields(given.get("recipe") or [])
    choice = changes.pop(FORGET) if changes.get(FORGET) in RANKED else None
    task = with_changes(task, whole_paths(changes)) if changes else task
    if choice:
        from local_eval.memorised import forget_file  # here, since it loads torch, which nothing else here needs

        task = with_changes(task, {FORGET: str(forget_file(task, given.get("out") or OUTPUTS, choice))})
    return {"task": task}


def _submissions(given: Mapping[str, Any]) -> dict[str, Any]:
    """--unlearned takes a submission's place; `grade` alone is a question: what is there?

    Raises:
        SubmissionError: paths that cannot be meant; or nothing is named, after the list of what there is.
    """
    forms = "give a folder or zip of checkpoints, or a .npz or .npy of logits or confidences"
    for side in ("retrained", "unlearned"):
        path = given.get(side)
        if path and not path.exists():
            raise SubmissionError(f"--{side} {path} does not exist; {forms}")
        if path and not looks_like_checkpoints(str(path)):
            raise SubmissionError(f"--{side} {path} is neither weights nor numbers; {forms}")
    if given.get("unlearned"):
        if given["submissions"]:
            raise SubmissionError(f"--unlearned stands in place of a submission; leave {given['submissions'][0]} out")
        return {"submissions": [str(given["unlearned"])]}
    if given["command"] == GRADE and not given["submissions"]:
        print_submissions()
        where = {"task": given["task"], "out": given["out"], "runs": given["runs"]}
        fanchuan = command("grade", ["fanchuan"], **where)
        raise SubmissionError(f"name what to grade, also by a path such as my_method.py: {fanchuan}")
    return {}


def _names_with_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Every submission's name with what --set says: fanchuan becomes fanchuan[EPOCHS=9].

    Raises:
        SubmissionError: there is no submission whose constants it could change.
    """
    settings = given.get("set")
    fields = {field: given[field] for field in ("submission", "submissions", "names") if given.get(field)}
    if not settings:
        return {}
    if not fields:
        raise SubmissionError(f"--set {settings[0]} changes a constant of a submission; name the submission, too")

    def changed(name: str) -> str:
        if looks_like_checkpoints(name):
            raise SubmissionError(f"{name} holds checkpoints, which have no constants; leave --set out")
        return with_settings(name, settings)

    return {
        field: changed(value) if isinstance(value, str) else [changed(name) for name in value]
        for field, value in fields.items()
    }


def _seeds(given: Mapping[str, Any]) -> dict[str, Any]:
    """--seeds, or what --seed and --repeat of earlier versions say; the first is the one that counts alone.

    Raises:
        InputError: no seed, or one twice.
    """
    if "seeds" not in given:
        return {}
    if given["repeat"] < 1:
        raise InputError(f"--repeat {given['repeat']}: give 1 or more seeds")
    seeds = tuple(given["seeds"] or range(given["seed"], given["seed"] + given["repeat"]))
    if len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds {' '.join(map(str, seeds))}: one is there twice, which is no other draw")
    return {"seeds": seeds, "seed": seeds[0]}


def _found(given: Mapping[str, Any]) -> dict[str, Any]:
    """The submissions that are named. Raises SubmissionError and TaskError for what does not exist."""
    named = [given.get("submission"), *given.get("names", []), *given.get("submissions", [])]
    named = [name for name in named if name]
    for name in named:
        if looks_like_checkpoints(name) and not Path(name).exists():
            raise SubmissionError(f"{name} does not exist; give the path of a zip or folder of checkpoints")
        if given["command"] != COMPARE and is_for_others(Path(name)):
            raise SubmissionError(f"{name} was made by `share`: {command('open', [name])} shows it, compare takes it")
    if given.get("task"):
        split_spec(given["task"])
    files = [name for name in named if not looks_like_checkpoints(name)]
    graded = tuple(files) if given["command"] in (GRADE, COMPARE) else ()
    if given["command"] == COMPARE and not named:
        graded = tuple(submission_names())
    return {"found": {name: Submission.find(name) for name in dict.fromkeys((*files, *graded))}, "graded": graded}


def _points(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a sweep tries. Raises SettingError for constants and values that cannot be."""
    if given["command"] != SWEEP:
        return {}
    if looks_like_checkpoints(name := given["submission"]):
        raise SubmissionError(f"{name} holds finished models, which have no constants to sweep; give the method's file")
    forecast = partial(time_of_points, Request(given))
    return {"points": points_of(name, given["values"], given["points"], given["seed"], forecast)}


# What there is: submissions and tasks, without importing them.


def list_all(request: Request) -> int:
    """Submissions and tasks, with the first line of what their files say of them."""
    print_submissions()
    _print("tasks", task_names(), lambda name: split_spec(name)[0])
    return 0


def print_submissions() -> None:
    """The submissions that come with the kit."""
    _print("submissions", submission_names(), submission_path)
    print(f"  one to copy and begin with: {SUBMISSIONS / '_template.py'}")


def _print(title: str, names: list[str], path_of: Callable[[str], Path]) -> None:
    print(f"{title}:")
    for name in names:
        text = ast.get_docstring(parse_source(path_of(name))) or ""
        print(*wrapped(f"  {name:<22}{text.partition(chr(10))[0]}", terminal_width(), 24), sep="\n")


RESULTS = KIT / "results"
LOADING = 15.0  # seconds for torch in all processes, the dry run and the score


def announce(request: Request) -> None:
    """Print what a command will do with all that it grades, and for how long about."""
    found = [request.found[name] for name in request.graded]
    task = split_spec(request.task)[0].stem
    labels = found[0].label if len(found) == 1 else f"{len(found)} submissions"
    what = f"grading {labels} on {task}: {request.runs} runs{' each' if len(found) > 1 else ''} against as many oracles"
    if given := getattr(request, "retrained", None):
        what = what.replace("as many oracles", f"retrained models from {given}")
    text = f"{what}; {expected_time(found, task, request)}; results in {request.out}"
    print(*wrapped(text, terminal_width(), 2), sep="\n", flush=True)


def expected_time(found: list[Submission], task: str, request: Request) -> str:
    """In words, from what earlier runs took here, or where the kit's own results were measured."""
    workers, seconds = request.workers or default_workers("cpu"), LOADING
    for submission in found:
        took, there = earlier(submission, request)
        if took is None and submission.is_own:
            took = _of_the_kit(task, request).get(submission.label, {}).get("seconds_per_run")
        if took is None:
            return "how long it takes will show with the first runs"
        made = request.runs * len(getattr(request, "seeds", "1")) * (2 if getattr(request, "originals", None) else 1)
        seconds += took * max(made - there, 0) / workers
    return f"about {in_words(seconds)}, if no oracles are missing"


def time_of_points(request: Request, points: int) -> str:
    """', about 3 min' for so many points of a sweep, if any version of the file has been graded here; else empty."""
    submission, task = Submission.find(request.submission), split_spec(request.task)[0].stem
    stem = glob.escape(submission.path.stem)
    known = [_read(path) for path in request.out.glob(f"*/{stem}-*-seed*/score.json")]
    took = [one.get("seconds_per_run") for one in known if one.get("task_spec") == request.task]
    took += [_of_the_kit(task, request).get(submission.path.stem, {}).get("seconds_per_run")] * submission.is_own
    took = [seconds for seconds in took if seconds is not None]
    if not took:
        return ""
    workers = request.workers or default_workers("cpu")
    return f", about {in_words(LOADING + sorted(took)[len(took) // 2] * points * request.runs / workers)}"


def _of_the_kit(task: str, request: Request) -> dict:
    """What the kit's own results say of each method on this task, if its network is as it was."""
    changes = split_changes(request.task)[1]
    return {} if changes.keys() - {ORIGINAL} else _read(RESULTS / f"{task}.json").get("methods", {})


def earlier(submission: Submission, request: Request) -> tuple[float | None, int]:
    """Seconds per run of this very submission on this task, if it was scored here, and how many runs are on disk."""
    for folder in request.out.glob(f"*/{glob.escape(submission.path.stem)}-{submission.digest()}-seed{request.seed}"):
        score = _read(folder / "score.json")
        if score.get("task_spec") == request.task:
            return score.get("seconds_per_run"), _records(folder)
    return None, 0


def _records(folder: Path) -> int:
    return sum(path.stem.isdigit() for path in folder.glob("*.npz"))


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
