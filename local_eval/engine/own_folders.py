"""A temporary folder for every process of foreign code, named after the process that waits for it.

In it lies the folder in which the code works, empty at its start, so that nothing that it saves under a plain name
meets what another run saves. What the code leaves in either is removed with it; also where the one that waits was
killed, by whoever comes next.

How it is used: `with own_folder() as folder:` in apart.py; `remove_ours` in worker.py, `remove_of_the_dead` in pool.py.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

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
