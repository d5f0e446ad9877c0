"""What a submission is, for the purpose of telling whether finished runs are still its runs.

Its code counts as it compiles: without docstrings, comments, blank lines and line numbers. What it read while it ran
(trace.py) counts too: other files and environment variables, as short hashes of their content.
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
from local_eval.runs.refusal import NOT_PYTHON


@dataclass(frozen=True)
class Reads:
    """What a run read beside its own code, as it was then."""

    files: dict[str, str] = field(default_factory=dict)  # absolute path -> short hash
    environment: dict[str, str] = field(default_factory=dict)  # variable -> short hash, "" for one that was not set
    untold: tuple[str, ...] = ()  # what cannot be followed, in words

    @classmethod
    def now(cls, files: Iterable[str], environment: Iterable[str], untold: Iterable[str]) -> Reads:
        """The present content of these files and variables."""
        told = {f: file_digest(f) for f in sorted(files)}
        return cls(told, {name: variable_digest(name) for name in sorted(environment)}, tuple(sorted(untold)))

    def changes(self) -> list[str]:
        """What has changed since, in words; empty if nothing has."""
        files = [f"the file {f}" for f, digest in self.files.items() if file_digest(f) != digest]
        names = [n for n, digest in self.environment.items() if variable_digest(n) != digest]
        return files + [f"the environment variable {n}" for n in names]

    def as_json(self) -> dict:
        """For a record."""
        return {"files": self.files, "environment": self.environment, "untold": list(self.untold)}

    @classmethod
    def from_json(cls, content: dict) -> Reads:
        """What `as_json` gave; empty for records of a time when nothing was followed."""
        return cls(content.get("files", {}), content.get("environment", {}), tuple(content.get("untold", ())))


def variable_digest(name: str) -> str:
    """Short hash of an environment variable, which may be a secret; "" if it is not set."""
    value = os.environ.get(name)
    return "" if value is None else hashlib.sha256(value.encode(errors="surrogateescape")).hexdigest()[:12]


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
