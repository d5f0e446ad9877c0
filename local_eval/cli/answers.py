"""Answers for programs: one JSON object on standard output, and everything else on standard error.

With `--json` whatever a command prints, and what the processes print that it starts, goes to standard error. What it
found stands in one object on standard output, with `exit_code`; a failure, also of the command line itself, is an
object with `error`. So a caller reads one line and need not understand any text.

Imports nothing heavy: a typo should not wait for torch.

How to run it: python -m local_eval grade my_method.py --json
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from local_eval.cli.arguments import Exit, Refused
from local_eval.store.errors import first_line

JSON = "--json"
ALWAYS = (("host", "judge"),)  # commands that answer so unasked
CAN = ("check", "grade", "host")  # those that do it on request; elsewhere --json may be an option that names a file
HELP = ("-h", "--help")


def wants_object(words: Sequence[str]) -> bool:
    """Does a command line ask for an answer in JSON? Told before it is parsed, so that errors in it are JSON, too."""
    options = words[: list(words).index("--")] if "--" in words else words
    if not words or any(word in HELP for word in options):
        return False
    return tuple(words[:2]) in ALWAYS or (words[0] in CAN and JSON in options)


def answering(work: Callable[[dict], int]) -> int:
    """Do `work(answer)`, which fills the answer, with standard output kept for that alone; returns its exit code.

    Whatever ends the work is told in the object and raised again.
    """
    answer: dict = {}
    ended: BaseException | None = None
    with set_aside():
        try:
            code = int(work(answer))
        except BaseException as error:  # SystemExit of a wrong command line, and signals, too
            ended, code = error, code_of(error)
            answer["error"] = answer.get("error") or told(error)
    print(json.dumps(plain({**answer, "exit_code": code}), allow_nan=False), flush=True)
    if ended is not None:
        raise ended
    return code


@contextlib.contextmanager
def set_aside() -> Iterator[None]:
    """Meanwhile standard output is standard error, for this process and for all that it starts."""
    ours = sys.stdout
    ours.flush()
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # there is none, or no standard error
        kept = None
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout = ours
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


def code_of(error: BaseException) -> int:
    """The exit code with which a command ends by this error."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else Exit.FAILED
    return Exit.INTERRUPTED if isinstance(error, KeyboardInterrupt) else Exit.FAILED


def told(error: BaseException) -> str:
    """An error that nobody has told yet, in one line."""
    if isinstance(error, Refused):
        return error.message
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; what was finished is kept, and the same command goes on from there"
    return f"{type(error).__name__}: {first_line(error)}; this is a mistake in the kit, please report it"


def plain(value: object) -> object:
    """The same for JSON: null for numbers that are not known, texts for paths."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value if value is None or isinstance(value, str | int | bool) else _of_numpy(value)


def _of_numpy(value: object) -> object:
    """Arrays and single numbers of numpy."""
    return plain(value.tolist()) if hasattr(value, "tolist") else str(value)
