"""Why a job gave no result."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass

FIRST_LINES, LONGEST = 5, 200  # of what it printed, and characters of each
MARK = b"failure:"


@dataclass(frozen=True)
class Failure:
    """Why a job gave no result: one line, and the traceback where there is one."""

    reason: str
    traceback: str = ""
    printed: str = ""  # the beginning of what it said

    def told(self) -> str:
        """The reason, and the first lines of what it printed."""
        return "\n    ".join(
            [self.reason, *(["it printed: " + first_lines(self.printed)] if self.printed.strip() else [])]
        )

    def as_text(self) -> str:
        """For people."""
        parts = [self.reason, self.traceback, self.printed and f"It printed:\n{self.printed}"]
        return "\n\n".join(part for part in parts if part) + "\n"

    def as_bytes(self) -> bytes:
        """For another machine; `failure_in` reads it."""
        return MARK + json.dumps([self.reason, self.traceback, self.printed]).encode(errors="replace")


def failure_in(content: bytes) -> Failure | None:
    """The Failure in what `as_bytes` made, None if these bytes are something else. Raises ValueError."""
    if not content.startswith(MARK):
        return None
    reason, traceback, printed = map(str, json.loads(content[len(MARK) :]))
    return Failure(reason, traceback, printed)


def first_lines(printed: str) -> str:
    """The first few lines that are not empty, each cut, and how many more there are."""
    lines = [line.rstrip()[:LONGEST] for line in printed.splitlines() if line.strip()]
    more = f" (and {len(lines) - FIRST_LINES} lines more)" if len(lines) > FIRST_LINES else ""
    return "\n    ".join(lines[:FIRST_LINES]) + more


def exit_reason(code: int) -> str:
    """What a process's exit code, negative for a signal, says in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # real-time signals have no names
        name = str(-code)
    return f"signal {name}" + (", out of memory perhaps" if name == "SIGKILL" else "")
