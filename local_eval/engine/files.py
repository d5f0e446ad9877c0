"""Write files whole or not at all, one writer to a folder."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import psutil
from filelock import FileLock, Timeout

from local_eval.engine.errors import WorkError

LITTER = {".ds_store", "thumbs.db", "desktop.ini", "__macosx", ".spotlight-v100", ".trashes", ".fseventsd"}


def user_path(text: str) -> Path:
    """The path that a person has written; ~ is the home folder, where there is one."""
    return Path(os.path.expanduser(text))


def is_litter(name: str) -> bool:
    """Is this the name of a file or folder that a system leaves among people's own: .DS_Store, ._x.png, Thumbs.db?"""
    return name.startswith("._") or name.lower() in LITTER


class OutputError(WorkError, OSError):
    """The output folder cannot be used or written; the message says what is kept and what to do."""


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file so that, whatever happens, it holds either the old or the new content: write, fsync, rename.

    Large content may be given as a function that writes it to an open file.

    Raises:
        OutputError: the folder is read-only, the disk is full, or the like. What was there before is untouched.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            content(file) if callable(content) else file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except OSError as error:
        _remove_quietly(partial)
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}. Everything finished before it is kept; "
            "make room or choose another --out, then run the same command again"
        ) from error


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows cannot open folders; there the rename alone has to do
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_quietly(path: Path) -> None:
    with contextlib.suppress(OSError):  # the write's own error is the one to tell
        path.unlink(missing_ok=True)


def room_in(folder: Path, needed: int, what: str) -> str:
    """In words, what will be written and what is free. Raises OutputError if that is not enough.

    Args:
        needed: bytes.
        what: what they are for, as in '64 oracles and 64 runs'.
    """
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    text = f"{what} need about {in_bytes(needed)} of disk in {folder}, where {in_bytes(free)} are free"
    if needed > free:
        raise OutputError(f"{text}; make room or choose another --out")
    return text


def in_bytes(size: float) -> str:
    """'3 kB', '12 MB', '1.5 GB'."""
    for unit, limit in (("kB", 1e6), ("MB", 1e9)):
        if size < limit:
            return f"{max(size / limit * 1000, 1):.0f} {unit}"
    return f"{size / 1e9:.1f} GB"


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed processes had written in part, also one folder below: nobody goes on with it."""
    for partial in [*folder.glob(".*.partial"), *folder.glob("*/.*.partial")]:
        number = partial.name.split(".")[-2]
        if not (number.isdigit() and psutil.pid_exists(int(number))):
            _remove_quietly(partial)


class locked:
    """`with locked(folder):` one writer at a time, in one folder, on one machine.

    Raises:
        OutputError: another grader is at work there, or the folder cannot be made.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.lock = FileLock(folder / ".lock", blocking=False)

    def __enter__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock.acquire()
            _remove_leftovers(self.folder)
        except Timeout:
            raise OutputError(
                f"another grader is writing to {self.folder}; wait for it, or choose another --out"
            ) from None
        except OSError as error:
            raise OutputError(
                f"cannot use {self.folder} for output: {error.strerror or error}; choose another --out"
            ) from error

    def __exit__(self, *exception) -> None:
        self.lock.release()
