"""What a submission is, for the purpose of telling whether finished runs are still its runs.

Its code counts as it compiles: without docstrings, comments, blank lines and line numbers. What it read while it ran
(trace.py) counts too: other files and environment variables, as short hashes of their content; what it only looked
for, as whether that is there; folders that it listed, as a hash of the names in them.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from local_eval.engine.code_shape import code_shape
from local_eval.engine.files import is_litter
from local_eval.runs.refusal import NOT_PYTHON

NO_FILE = "no file"  # whatever else is there


@dataclass(frozen=True)
class Reads:
    """What a run read beside its own code, as it was then."""

    files: dict[str, str] = field(default_factory=dict)  # absolute path -> short hash
    environment: dict[str, str] = field(default_factory=dict)  # variable -> short hash, "" for one that was not set
    untold: tuple[str, ...] = ()  # what cannot be followed, in words
    looked: dict[str, str] = field(default_factory=dict)  # absolute path -> "", "file", "folder"; or NO_FILE
    listed: dict[str, str] = field(default_factory=dict)  # absolute path of a folder -> short hash of its names

    @classmethod
    def now(
        cls,
        files: Iterable[str],
        environment: Iterable[str],
        untold: Iterable[str],
        looked: Iterable[str] = (),
        listed: Iterable[str] = (),
        elsewhere: Iterable[str] = (),
    ) -> Reads:
        """The present content of these files, variables and folders.

        Args:
            elsewhere: paths of which only matters that there is no file.
        """
        return cls(
            {f: file_digest(f) for f in sorted(files)},
            {name: variable_digest(name) for name in sorted(environment)},
            tuple(sorted(untold)),
            dict.fromkeys(sorted(elsewhere), NO_FILE) | {f: presence(f) for f in sorted(looked)},
            {f: names_digest(f) for f in sorted(listed)},
        )

    def changes(self) -> list[str]:
        """What has changed since, in words; empty if nothing has."""
        files = [f"the file {f}" for f, digest in self.files.items() if file_digest(f) != digest]
        names = [n for n, digest in self.environment.items() if variable_digest(n) != digest]
        looked = [f"whether there is a {_kind(now or was)} {f}" for f, was, now in self._looks_changed()]
        listed = [f"the list of files in {f}" for f, digest in self.listed.items() if names_digest(f) != digest]
        return files + [f"the environment variable {n}" for n in names] + looked + listed

    def _looks_changed(self) -> list[tuple[str, str, str]]:
        """What was looked for and is otherwise now: path, what was there, what is."""
        found = [(f, was, presence(f)) for f, was in self.looked.items()]
        return [(f, was, now) for f, was, now in found if (now == "file" if was == NO_FILE else now != was)]

    def as_json(self) -> dict:
        """For a record; as in earlier versions where it neither looked for files nor listed folders."""
        told = {"files": self.files, "environment": self.environment, "untold": list(self.untold)}
        return told | {key: found for key in ("looked", "listed") if (found := getattr(self, key))}

    @classmethod
    def from_json(cls, content: dict) -> Reads:
        """What `as_json` gave; empty for records of a time when nothing was followed, or less."""
        untold = tuple(content.get("untold", ()))
        found = [content.get(key, {}) for key in ("files", "environment", "looked", "listed")]
        return cls(*found[:2], untold, *found[2:])


def variable_digest(name: str) -> str:
    """Short hash of an environment variable, which may be a secret; "" if it is not set."""
    value = os.environ.get(name)
    return "" if value is None else hashlib.sha256(value.encode(errors="surrogateescape")).hexdigest()[:12]


def presence(path: str) -> str:
    """What is at a path: "file", "folder", "something else", or "" for nothing."""
    try:
        kind = os.stat(path).st_mode
    except (OSError, ValueError):
        return ""
    return "file" if stat.S_ISREG(kind) else "folder" if stat.S_ISDIR(kind) else "something else"


def _kind(found: str) -> str:
    return found if found in ("file", "folder") else "file"


def names_digest(folder: str) -> str:
    """Short hash of the names in a folder, without what systems and Python leave there; "gone" without a folder."""
    try:
        names = sorted(name for name in os.listdir(folder) if name != "__pycache__" and not is_litter(name))
    except OSError:
        return "gone"
    return hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()[:12]


def file_digest(path: str) -> str:
    """Short hash of a file: of Python's code as it compiles, of anything else byte for byte; "gone" without one."""
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):  # reading a pipe would never end
            return "no file"
        return _digest_of(path, about.st_mtime_ns, about.st_ctime_ns, about.st_size, about.st_ino)
    except OSError:
        return "gone"


@lru_cache(maxsize=4096)
def _digest_of(path: str, *_: int) -> str:
    content = Path(path).read_bytes()
    if path.endswith(".py"):
        with contextlib.suppress(*NOT_PYTHON):  # whoever opened it did not run it then
            content = code_shape(ast.parse(content)).encode(errors="surrogatepass")
    return hashlib.sha256(content).hexdigest()[:12]
