"""Follow what a submission reads beside its own code: files, imported modules, environment variables.

An audit hook cannot be taken out again, so this belongs into a process that ends with the run (engine/apart.py).
Packages, the standard library and the system's files are not followed: a run's record names versions instead.
"""

from __future__ import annotations

import importlib.util
import os
import stat
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

SYSTEM = ("/usr/", "/etc/", "/lib/", "/lib64/", "/proc/", "/sys/", "/dev/", "/System/", "/Library/", "/nix/", "/run/")
PACKAGE = str(Path(__file__).resolve().parents[1])
MAPPINGS = {os.getenv.__code__.co_filename, Mapping.get.__code__.co_filename}  # where os.environ's methods are
MOST, MOST_UNTOLD = 5000, 50  # names that are handed over; a run's record is not to outgrow its logits by far
LOOKS_AT_ALL = {"__iter__", "keys", "items", "values", "copy"}


class Trace:
    """Everything that was read since `start`."""

    def __init__(self, apart_from: Iterable[Path | str] = ()):
        """`apart_from`: files and folders that are followed by other means, such as the task's data."""
        self.files: set[str] = set()
        self.environment: set[str] = set()
        self.untold: set[str] = set()
        self._written: set[str] = set()
        self._known = tuple(os.path.realpath(p) for p in apart_from)

    def start(self) -> None:
        """Follow from now on, to the end of this process."""
        sys.addaudithook(self._hear)
        self._watch_environment()

    def as_json(self) -> dict[str, list[str]]:
        """Names only: their contents are looked at by a process that this one's code cannot reach."""
        files, untold = sorted(self.files), sorted(self.untold)
        if len(files) > MOST:
            files, untold = [], [f"it reads {len(files)} files, more than are followed", *untold]
        return {"files": files, "environment": sorted(self.environment)[:MOST], "untold": untold[:MOST_UNTOLD]}

    def _hear(self, event: str, args: tuple) -> None:
        try:
            self._note_event(event, args)
        except Exception as error:  # raised on, it would be the submission's: its file would seem not to open
            self.untold.add(f"it reads something that cannot be followed ({type(error).__name__})")

    def _note_event(self, event: str, args: tuple) -> None:
        if event == "open":
            self._opened(*args)
        elif event == "socket.connect":
            self.untold.add(f"it connects to {args[1]!r}")
        elif event in ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec"):
            self.untold.add(f"it starts {args[0]!r}, and what that reads is not followed")

    def _opened(self, path: object, mode: str | None, flags: int | None) -> None:
        if not isinstance(path, str | bytes | os.PathLike):  # a file that is open already
            return
        name = os.path.realpath(os.fsdecode(path))
        if _writes(mode, flags):
            self._written.add(name)
            return
        if "__pycache__" in name and name.endswith(".pyc"):
            name = importlib.util.source_from_cache(name)
        if name in self._written or name.startswith(library_folders()) or self._is_known(name):
            return
        self._note(name)

    def _is_known(self, name: str) -> bool:
        return any(name == known or name.startswith(known + os.sep) for known in self._known)

    def _note(self, name: str) -> None:
        try:
            kind = os.stat(name).st_mode
        except OSError:  # looked for and not there: should it come to be, that is a change
            self.files.add(name)
            return
        if stat.S_ISREG(kind):
            self.files.add(name)
        elif not stat.S_ISDIR(kind):
            self.untold.add(f"it reads {name}, a pipe or a device, which cannot be told from another time's")

    def _watch_environment(self) -> None:
        """Variables asked for by name by a user's file; what libraries ask for on their own is not the user's."""
        kind, ask, walk = type(os.environ), type(os.environ).__getitem__, type(os.environ).__iter__
        passed: set[str] = set()  # names that came up in going through all

        def asked(environment, name):
            caller, through = _asker()
            by_name = through not in LOOKS_AT_ALL and name not in passed
            if by_name and isinstance(name, str) and not caller.startswith(library_folders()):
                self.environment.add(name)
            return ask(environment, name)

        def walked(environment):
            if not _asker()[0].startswith(library_folders()):
                self.untold.add("it goes through all environment variables, which is not followed")
                passed.update(walk(environment))
            return walk(environment)

        kind.__getitem__, kind.__iter__ = asked, walked


def _writes(mode: str | None, flags: int | None) -> bool:
    if mode is not None and any(letter in mode for letter in "wax"):
        return True
    return mode is None and flags is not None and bool(flags & (os.O_WRONLY | os.O_CREAT | os.O_TRUNC))


def _asker() -> tuple[str, str]:
    """The file that asks for a variable, and the name of the mapping's method through which it does."""
    frame, through = sys._getframe(2), ""
    while frame.f_back is not None and frame.f_code.co_filename in MAPPINGS:
        through, frame = frame.f_code.co_name, frame.f_back
    name = frame.f_code.co_filename
    return (name if name.startswith("<") else os.path.realpath(name)), through


@lru_cache(maxsize=1)
def library_folders() -> tuple[str, ...]:
    """Where packages, the standard library, this kit and the system's files lie; as str.startswith takes them."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = {os.path.realpath(path) for name in names if (path := sysconfig.get_path(name))}
    found |= {os.path.realpath(os.path.join(p, "lib")) for p in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    found |= {os.path.realpath(p) for p in sys.path if p.endswith(("site-packages", "dist-packages"))}
    return tuple(f"{p}{os.sep}" for p in sorted(found | {PACKAGE})) + SYSTEM + ("<frozen ",)
