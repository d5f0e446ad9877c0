"""Why a job gave no result."""

from __future__ import annotations

import signal
from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """Why a job gave no result: one line, and the traceback where there is one."""

    reason: str
    traceback: str = ""
    printed: str = ""  # the beginning of what it said

    def as_text(self) -> str:
        """For people."""
        parts = [self.reason, self.traceback, self.printed and f"It printed:\n{self.printed}"]
        return "\n\n".join(part for part in parts if part) + "\n"


def exit_reason(code: int) -> str:
    """What a process's exit code, negative for a signal, says in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # real-time signals have no names
        name = str(-code)
    return f"signal {name}" + (", out of memory perhaps" if name == "SIGKILL" else "")
