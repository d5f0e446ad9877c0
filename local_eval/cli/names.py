"""What is told before torch loads: lists of submissions and tasks, what a command will do and for how long about."""

from __future__ import annotations

import argparse
import ast
import glob
import json
from collections.abc import Callable
from pathlib import Path

from local_eval.isolation.pool import default_workers, in_words
from local_eval.methods.submission import ROOT, Submission, parse_source, submission_names, submission_path
from local_eval.tasks.names import ORIGINAL, split_changes, split_spec, task_names

# What there is: submissions and tasks, without importing them.


def list_all(options: argparse.Namespace) -> int:
    """Submissions and tasks, with the first line of what their files say of them."""
    print_submissions()
    _print("tasks", task_names(), lambda name: split_spec(name)[0])
    return 0


def print_submissions() -> None:
    """The submissions that come with the kit."""
    _print("submissions", submission_names(), submission_path)


def _print(title: str, names: list[str], path_of: Callable[[str], Path]) -> None:
    print(f"{title}:")
    for name in names:
        text = ast.get_docstring(parse_source(path_of(name))) or ""
        print(f"  {name:<22}{text.partition(chr(10))[0]}")


RESULTS = ROOT / "results"
LOADING = 15.0  # seconds for torch in all processes, the dry run and the score


def announce(options: argparse.Namespace, found: list[Submission]) -> None:
    """Print what a command will do with these submissions. Raises TaskError for a task that does not exist."""
    task = split_spec(options.task)[0].stem
    labels = found[0].label if len(found) == 1 else f"{len(found)} submissions"
    what = f"grading {labels} on {task}: {options.runs} runs{' each' if len(found) > 1 else ''} against as many oracles"
    if given := getattr(options, "retrained", None):
        what = what.replace("as many oracles", f"retrained models from {given}")
    print(f"{what}; {expected_time(found, task, options)}; results in {options.out}", flush=True)


def expected_time(found: list[Submission], task: str, options: argparse.Namespace) -> str:
    """In words, from what earlier runs took here, or where the kit's own results were measured."""
    workers, seconds = options.workers or default_workers("cpu"), LOADING
    for submission in found:
        took, there = earlier(submission, options)
        if took is None and submission.is_own:
            took = _of_the_kit(task, options).get(submission.label, {}).get("seconds_per_run")
        if took is None:
            return "how long it takes will show with the first runs"
        made = options.runs * len(getattr(options, "seeds", "1")) * (2 if getattr(options, "originals", None) else 1)
        seconds += took * max(made - there, 0) / workers
    return f"about {in_words(seconds)}, if no oracles are missing"


def _of_the_kit(task: str, options: argparse.Namespace) -> dict:
    """What the kit's own results say of each method on this task, if its network is as it was."""
    changes = split_changes(options.task)[1]
    return {} if changes.keys() - {ORIGINAL} else _read(RESULTS / f"{task}.json").get("methods", {})


def earlier(submission: Submission, options: argparse.Namespace) -> tuple[float | None, int]:
    """Seconds per run of this very submission on this task, if it was scored here, and how many runs are on disk."""
    for folder in options.out.glob(f"*/{glob.escape(submission.path.stem)}-{submission.digest()}-seed{options.seed}"):
        score = _read(folder / "score.json")
        if score.get("task_spec") == options.task:
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
