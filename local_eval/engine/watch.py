"""Watch a process from outside: what it marks and prints, until it answers, dies or is out of time."""

from __future__ import annotations

import os
import select
import struct
import time

from local_eval.engine.failure import Failure, exit_reason
from local_eval.engine.memory import too_much
from local_eval.engine.processes import exit_code_of

KEPT = 4000  # bytes of what was printed; the rest is read and dropped, so that no disk or pipe fills up
TICK = 0.05  # seconds between looks at whether the process still lives
MEMORY_TICK = 0.25  # seconds between looks at how much memory is left
LARGEST_PIPE = 1 << 20  # bytes; the most that can have been printed and not read
SECONDS, ANSWERED = struct.Struct("d"), b"a"  # what the process says: how long it took, and that it has answered


class Watch:
    """Reads what a process marks and prints, until it answers, dies or is out of time."""

    def __init__(self, child: int, marks: int, said: int):
        self.child, self.marks, self.said = child, marks, said
        self.open = {marks, said}
        self.heard = b""
        self.printed, self.printed_bytes = b"", 0

    def until_answer(self, timeout: float | None) -> Failure | None:
        """None once it has answered, else why it never will."""
        end = None if timeout is None else time.monotonic() + timeout
        next_look = next_measure = time.monotonic() + TICK
        while True:
            ready, _, _ = select.select(self.open, [], [], TICK)
            if self.said in ready:
                self._listen()
            if self.marks in ready and self._has_answered():
                self._listen_to_the_end()
                return None
            now = time.monotonic()
            if now > next_look and not ({self.marks} & set(ready)):
                next_look = now + TICK
                if gone := self._gone():
                    self._listen_to_the_end()
                    return None if self._answered_last() else gone
            if now > next_measure:
                next_measure = now + MEMORY_TICK
                if taken := too_much(self.child):
                    return Failure(f"it held {taken / 1e9:.1f} GB when the memory was nearly full; it was stopped")
            if end is not None and now > end:
                return Failure(f"still running after its limit of {timeout:g} s; it was stopped")

    def _has_answered(self) -> bool:
        self.heard += self._read(self.marks)[: SECONDS.size + 1]
        return self.heard.endswith(ANSWERED) and len(self.heard) in (1, SECONDS.size + 1)

    @property
    def seconds(self) -> float:
        """What the process's clock counted; NaN if it was never stopped."""
        return SECONDS.unpack_from(self.heard)[0] if len(self.heard) >= SECONDS.size else float("nan")

    def _answered_last(self) -> bool:
        """Did the answer come between the last look at the marks and the one at the process?"""
        return self.marks in self.open and bool(select.select([self.marks], [], [], 0)[0]) and self._has_answered()

    def _listen(self) -> None:
        more = self._read(self.said)
        self.printed_bytes += len(more)
        self.printed += more[: KEPT - len(self.printed)]

    def _listen_to_the_end(self) -> None:
        """What it had printed when it answered; what it left running may print on for ever."""
        end = self.printed_bytes + LARGEST_PIPE
        while self.said in self.open and self.printed_bytes < end and select.select([self.said], [], [], 0)[0]:
            self._listen()

    def _read(self, pipe: int) -> bytes:
        content = os.read(pipe, 65536)
        if not content:  # nobody holds its other end any more
            self.open.discard(pipe)
        return content

    def _gone(self) -> Failure | None:
        try:
            code = exit_code_of(self.child)
        except ChildProcessError:
            return Failure("its process is gone")
        if code is None:
            return None
        if code < 0:
            return Failure(f"its process died ({exit_reason(code)})")
        words = f"its process ended without an answer ({exit_reason(code)})"
        return Failure(f"{words}; did it call os._exit or close all files?")
