"""The one command line: python -m local_eval COMMAND ...

Exit codes: 0 done, 1 the work failed or is incomplete, 2 bad input, 3 over the time budget, 4 cannot tell whether,
130 interrupted by Ctrl-C, 143 by SIGTERM (the same command goes on).
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
import traceback
from pathlib import Path

from local_eval.cli.names import announce, print_submissions
from local_eval.cli.parser import make_parser
from local_eval.isolation.processes import EndsOnSignals, Stopped
from local_eval.methods.settings import with_settings
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import Submission, looks_like_checkpoints, submission_names
from local_eval.store.errors import InputError, WorkError, printable, said_by_the_machine
from local_eval.tasks.names import OPTIONS, read_fields, split_changes, split_spec, whole_paths, with_changes

OUR_FAULT = (
    "error: this is a mistake in the kit, not in what you gave it. What was finished is kept. "
    "Please report it with the lines above and the command"
)


def main(arguments: list[str] | None = None, signals: EndsOnSignals | None = None) -> int:
    """Run one command; returns the exit code.

    Args:
        arguments: of the command line; None for this process's.
        signals: told when the command begins; None if whoever calls this deals with signals.
    """
    options = make_parser().parse_args(arguments)
    try:
        _find_data(options)
        _find_changes(options)
        _take_sides(options)
        _want_names(options)
        _find_settings(options)
        _find_seeds(options)
        _check_names(options)
        function = _function(options.command)
        if signals is not None:
            signals.from_now_on_unwind()
        _download(options)
        return function(options)
    except InputError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    except WorkError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 1
    except OSError as error:  # after WorkError: some are both
        if (text := said_by_the_machine(error)) is None:
            raise
        print(f"error: {text}", file=sys.stderr)
        return 1
    except Stopped:  # told and ended where it comes from
        raise
    except KeyboardInterrupt:
        print(how_to_go_on(arguments), file=sys.stderr)
        return 130


def how_to_go_on(arguments: list[str] | None = None) -> str:
    """What to tell whoever has interrupted this command."""
    command = shlex.join(["python", "-m", "local_eval", *(sys.argv[1:] if arguments is None else arguments)])
    return f"interrupted; what was finished is kept, and the same command goes on from there: {command}"


def _function(command: str):
    """What does a command, such as "grading:grade" of local_eval.cli; imported now, since torch takes seconds."""
    module, _, name = command.partition(":")
    return getattr(importlib.import_module(module if "." in module else f"local_eval.cli.{module}"), name)


def _find_data(options: argparse.Namespace) -> None:
    """Write --data-dir into the task's spec, which travels to workers."""
    if getattr(options, "data_dir", None):
        spec, changes = split_changes(options.task)
        options.task = with_changes(f"{spec}:{options.data_dir}", changes)


def _find_changes(options: argparse.Namespace) -> None:
    """Write --original, --net and so on into the task's spec too; raises TaskError for a file that is not there."""
    given = {name: getattr(options, name, None) for name in OPTIONS}
    given = {name: value for name, value in given.items() if value is not None}
    given |= read_fields(getattr(options, "recipe", None) or [])
    if given:
        options.task = with_changes(options.task, whole_paths(given))


def _download(options: argparse.Namespace) -> None:
    if getattr(options, "download", False):
        from local_eval.tasks.loading import download_task

        download_task(options.task)


def _take_sides(options: argparse.Namespace) -> None:
    """--unlearned takes a submission's place. Raises SubmissionError for paths that cannot be meant."""
    forms = "give a folder or zip of checkpoints, or a .npz or .npy of logits or confidences"
    for side in ("retrained", "unlearned"):
        path = getattr(options, side, None)
        if path and not path.exists():
            raise SubmissionError(f"--{side} {path} does not exist; {forms}")
        if path and not looks_like_checkpoints(str(path)):
            raise SubmissionError(f"--{side} {path} is neither weights nor numbers; {forms}")
    if getattr(options, "unlearned", None):
        if options.submissions:
            raise SubmissionError(f"--unlearned stands in place of a submission; leave {options.submissions[0]} out")
        options.submissions = [str(options.unlearned)]


def _want_names(options: argparse.Namespace) -> None:
    """`grade` alone is a question: what is there? Raises SubmissionError, after the list."""
    if options.command == "grading:grade" and not options.submissions:
        print_submissions()
        raise SubmissionError("name what to grade: python -m local_eval grade fanchuan, or a path such as my_method.py")


def _find_settings(options: argparse.Namespace) -> None:
    """Write --set into the submissions' names, which travel everywhere: fanchuan becomes fanchuan[EPOCHS=9].

    Raises:
        SubmissionError: there is no submission whose constants it could change.
    """
    named = [getattr(options, field, None) for field in ("submission", "submissions", "names")]
    if getattr(options, "set", None) and not any(named):
        raise SubmissionError(f"--set {options.set[0]} changes a constant of a submission; name the submission, too")
    for field in ("submission", "submissions", "names"):
        found = getattr(options, field, None)
        if getattr(options, "set", None) and found:
            for name in [found] if isinstance(found, str) else found:
                if looks_like_checkpoints(name):
                    raise SubmissionError(f"{name} holds checkpoints, which have no constants; leave --set out")
            changed = [with_settings(name, options.set) for name in ([found] if isinstance(found, str) else found)]
            setattr(options, field, changed[0] if isinstance(found, str) else changed)


def _find_seeds(options: argparse.Namespace) -> None:
    """--seeds, or what --seed and --repeat of earlier versions say; the first is the one that counts alone.

    Raises:
        InputError: no seed, or one twice.
    """
    if not hasattr(options, "seeds"):
        return
    if options.repeat < 1:
        raise InputError(f"--repeat {options.repeat}: give 1 or more seeds")
    options.seeds = tuple(options.seeds or range(options.seed, options.seed + options.repeat))
    if len(set(options.seeds)) < len(options.seeds):
        raise InputError(f"--seeds {' '.join(map(str, options.seeds))}: one is there twice, which is no other draw")
    options.seed = options.seeds[0]


def _check_names(options: argparse.Namespace) -> None:
    """A typo in a name is refused before torch is loaded; and what a long command will do is said."""
    names = [getattr(options, "submission", None), *getattr(options, "names", []), *getattr(options, "submissions", [])]
    for name in (name for name in names if name and looks_like_checkpoints(name)):
        if not Path(name).exists():
            raise SubmissionError(f"{name} does not exist; give the path of a zip or folder of checkpoints")
    names = [name for name in names if name and not looks_like_checkpoints(name)]
    options.found = {name: Submission.find(name) for name in names}
    if getattr(options, "task", None):
        split_spec(options.task)
    if options.command in ("grading:grade", "grading:compare_all") and (names or options.command.endswith("all")):
        known = submission_names()
        options.found |= {} if names else {name: Submission.find(name) for name in known}
        announce(options, [options.found[name] for name in names or known])


if __name__ == "__main__":
    with EndsOnSignals(how_to_go_on()) as signals:
        try:
            code = main(signals=signals)
        except Exception:
            traceback.print_exc()
            print(OUR_FAULT, file=sys.stderr)
            code = 1
    sys.exit(code)
