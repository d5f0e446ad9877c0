"""Say at once that a submission's own class or function cannot go to a process that is not forked.

A spawned process begins anew and imports what it is sent by the name of its module. That of a submission has no file by
that name, here or in a notebook, so the process dies after it has loaded torch, and a DataLoader waits for it.

How it is used: `with told_at_once(module):` in runs/contract.py.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickletools
from collections.abc import Iterator
from multiprocessing import forkserver, reduction, resource_tracker
from multiprocessing.process import BaseProcess

from local_eval.runs.refusal import SubmissionError

BORN = os.getpid()
TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "UNICODE", "GLOBAL"}


@contextlib.contextmanager
def told_at_once(module: str) -> Iterator[None]:
    """Within it, sending something of this module to a process that is not forked raises SubmissionError."""
    _forget_helpers()
    dump = reduction.dump

    def telling(thing: object, file: io.BytesIO, *options: object) -> None:
        start = file.tell()
        dump(thing, file, *options)
        if isinstance(thing, BaseProcess) and isinstance(file, io.BytesIO):
            name = _named_of(module, file.getvalue()[start:])
            if name:
                raise SubmissionError(_sentence(name))

    reduction.dump = telling
    try:
        yield
    finally:
        reduction.dump = dump


def _forget_helpers() -> None:
    """In a run's process, which was forked and has closed all files: the parent's helpers are out of its reach.

    They would be written to by the numbers of files that are closed, or other files by now. New ones start when needed.
    """
    if os.getpid() != BORN:
        resource_tracker._resource_tracker.__init__()
        forkserver._forkserver.__init__()


def _named_of(module: str, pickled: bytes) -> str:
    """The first thing of a module that a pickle refers to by name; empty if there is none."""
    if module.encode() not in pickled:
        return ""
    before = ""
    for code, value, _ in pickletools.genops(pickled):
        if code.name == "GLOBAL" and str(value).startswith(f"{module} "):
            return str(value).partition(" ")[2]
        if code.name in TEXTS:
            if before == module:
                return str(value)
            before = str(value)
        elif code.name not in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            before = "" if code.name != "STACK_GLOBAL" else before
    return ""


def _sentence(name: str) -> str:
    return (
        f"{name} is the submission's own, and a process that is spawned cannot import it, here or in a notebook: leave "
        "out multiprocessing_context='spawn' (or write 'fork', or num_workers=0)"
    )
