"""Write files whole or not at all, one writer to a folder; folders for foreign code, removed when it is gone.

In it lies the folder in which the code works, empty at its start, so that nothing that it saves under a plain name
meets what another run saves. What the code leaves in either is removed with it; also where the one that waits was
killed, by whoever comes next.

How it is used: `with own_folder() as folder:` in isolation/child.py; isolation/pool.py removes what the dead have left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import psutil
from filelock import FileLock, Timeout

from local_eval.store.errors import WorkError

# Where the kit's own files are: in the repository beside the package, or installed with it, in a folder of its own.


ROOT = Path(__file__).resolve().parents[2]  # of the repository, or the environment's site-packages
INSTALLED = ROOT / "local_eval" / "_kit"  # by `pip install`; pyproject.toml says what of
KIT = INSTALLED if INSTALLED.is_dir() else ROOT  # holds submissions/, common/, results/


# Write files whole or not at all, one writer to a folder.


LITTER = {".ds_store", "thumbs.db", "desktop.ini", "__macosx", ".spotlight-v100", ".trashes", ".fseventsd"}


def user_path(text: str) -> Path:
    """The path that a person has written; ~ is the home folder, where there is one."""
    return Path(os.path.expanduser(text))


def is_litter(name: str) -> bool:
    """Is this the name of a file or folder that a system leaves among people's own: .DS_Store, ._x.png, Thumbs.db?"""
    return name.startswith("._") or name.lower() in LITTER


CONTENTS = "contents.json"  # the first member of a file for others (store/for_others.py)


def is_for_others(path: Path) -> bool:
    """Does a file begin like one that was made for others? No more of it is read."""
    try:
        with open(path, "rb") as file:
            beginning = file.read(30 + len(CONTENTS))  # the first member's header and name
    except OSError:
        return False
    return beginning.startswith(b"PK\3\4") and beginning.endswith(CONTENTS.encode())


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


def free_disk_in(folder: Path, needed: int, what: str) -> str:
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


NAME, WORK = "unlearning-run-", "work"


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """A new folder for temporary files with one to work in, `WORK`, removed at the end with all that is in them."""
    folder = Path(tempfile.mkdtemp(prefix=f"{NAME}{os.getpid()}-"))
    try:
        (folder / WORK).mkdir()
        yield folder
    finally:
        _remove(folder)


def remove_ours() -> None:
    """For a process that ends at once."""
    for folder in _folders(os.getpid()):
        _remove(folder)


def remove_of_the_dead() -> None:
    """Remove the folders of processes of ours that are gone."""
    for folder in _folders("*"):
        number = folder.name.removeprefix(NAME).partition("-")[0]
        with contextlib.suppress(OSError):
            if number.isdigit() and not psutil.pid_exists(int(number)) and folder.stat().st_uid == os.getuid():
                _remove(folder)


def _folders(process: int | str) -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"{NAME}{process}-*"))


def _remove(folder: Path) -> None:
    """Also where the code has taken its own rights to a folder away."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        for where, folders, _ in os.walk(folder):
            for name in (".", *folders):
                with contextlib.suppress(OSError):
                    os.chmod(os.path.join(where, name), 0o700)
        shutil.rmtree(folder, ignore_errors=True)
