"""The one command line: python -m local_eval COMMAND ..., or unlearn-eval COMMAND ... where it is installed.

Exit codes: `Exit` in cli/arguments.py, which --help shows.
"""

from __future__ import annotations

import os
import sys

if sys.argv[1:2] == ["host"]:  # before anything else is imported: the current folder may hold what strangers handed in
    os.environ["PYTHONSAFEPATH"] = "1"  # for the workers, which would look there first, too
    here, kit = os.getcwd(), os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    others = [place for place in sys.path if os.path.realpath(place or here) != here]
    sys.path[:] = [*others, *([here] if here == kit else [])]

import importlib
import select
import shlex
import traceback
from pathlib import Path

from local_eval.store.errors import InputError, WorkError, missing_packages, printable, said_by_the_machine

if packages := missing_packages():  # before what follows stops at the first of them
    own = Path(__file__).resolve().parents[1] / ".venv" / "bin" / "python"  # as `make` sets it up
    there = f"source {own.with_name('activate')}, where `make` has put them, or " if own.exists() else ""
    install = f"python -m pip install {' '.join(packages)}"
    sys.exit(f"error: packages are missing: {', '.join(packages)}; {there}{install}")

from local_eval.cli.answers import answering, wants_object
from local_eval.cli.arguments import CONSOLE, MODULE, Exit
from local_eval.cli.parser import make_parser
from local_eval.cli.request import Request, announce, resolved
from local_eval.isolation.processes import EndsOnSignals, Stopped
from local_eval.store.files import KIT, ROOT

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
    words = sys.argv[1:] if arguments is None else arguments
    if not wants_object(words):
        return _done(words, signals, {})
    if signals is not None:
        signals.from_now_on_unwind()  # else an early Ctrl-C would leave a program without its answer
    return answering(lambda answer: _done(words, signals, answer))


def _done(arguments: list[str], signals: EndsOnSignals | None, answer: dict) -> int:
    """As `main`; what the command found, or why it failed, is left in `answer`."""
    options = make_parser(called()).parse_args(arguments)
    try:
        request = resolved(options, answer)
        if request.graded:
            announce(request)
        function = _function(request.command)
        if signals is not None:
            signals.from_now_on_unwind()
        _download(request)
        return function(request)
    except InputError as error:
        return _told(str(error), answer, Exit.BAD_INPUT)
    except WorkError as error:
        return _told(str(error), answer, Exit.FAILED)
    except OSError as error:  # after WorkError: some are both
        if (text := said_by_the_machine(error)) is None:
            raise
        return _told(text, answer, Exit.FAILED)
    except Stopped:  # told and ended where it comes from
        raise
    except KeyboardInterrupt:
        answer["error"] = how_to_go_on(arguments)
        print(answer["error"], file=sys.stderr)
        return Exit.INTERRUPTED


def _told(text: str, answer: dict, code: Exit) -> Exit:
    """The exit code of a command that ends with this error, which is told here."""
    print(f"error: {printable(text)}", file=sys.stderr)
    answer["error"] = text
    return code


def called() -> str:
    """How this command line was called."""
    return CONSOLE if Path(sys.argv[0]).stem == CONSOLE else MODULE


def how_to_go_on(arguments: list[str] | None = None) -> str:
    """What to tell whoever has interrupted this command."""
    command = shlex.join([*called().split(), *(sys.argv[1:] if arguments is None else arguments)])
    return f"interrupted; what was finished is kept, and the same command goes on from there: {command}"


def _function(command: str):
    """What does a command, such as "grading:grade" of local_eval.cli; imported now, since torch takes seconds."""
    module, _, name = command.partition(":")
    if module.startswith("studies.") and KIT != ROOT:
        raise InputError(f"{module} is part of the repository and is not installed with the kit; run this in a clone")
    return getattr(importlib.import_module(module if "." in module else f"local_eval.cli.{module}"), name)


def nobody_reads(file: int) -> bool:
    """Is a file descriptor a pipe whose other end has been closed, as `... | head` does?"""
    waiting = select.poll()
    waiting.register(file, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in waiting.poll(0))


def _download(request: Request) -> None:
    if getattr(request, "download", False):
        from local_eval.tasks.loading import download_task

        download_task(request.task)


def run() -> int:
    """The whole life of a command's process; returns its exit code."""
    with EndsOnSignals(how_to_go_on()) as signals:
        try:
            code = main(signals=signals)
            sys.stdout.flush()
        except Exception as error:
            if isinstance(error, BrokenPipeError) and nobody_reads(sys.stdout.fileno()):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
                code = Exit.NOBODY_READS
            else:
                traceback.print_exc()
                print(OUR_FAULT, file=sys.stderr)
                code = Exit.FAILED
    return int(code)


if __name__ == "__main__":
    sys.exit(run())
