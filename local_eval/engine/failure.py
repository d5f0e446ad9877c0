"""Why a job gave no result."""

from __future__ import annotations

import signal
from dataclasses import dataclass

FIRST_LINES, LONGEST = 5, 200  # of what it printed, and characters of each


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
