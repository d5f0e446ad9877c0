"""Show that something goes on: a bar on a terminal, elsewhere a line every half minute."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

EVERY = 30.0  # seconds between lines where there is no terminal


class Progress:
    """`with Progress(64, "runs of fanchuan") as progress: ... progress.update(1)`; on standard error."""

    def __init__(self, total: int, title: str, clock=time.monotonic):
        self.total, self.title, self.done, self._clock = total, title, 0, clock
        self._start = self._told = clock()
        on_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total, desc=title, unit="model", disable=not on_terminal, dynamic_ncols=True, smoothing=0.05
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()

    def update(self, count: int) -> None:
        """So many more are done."""
        self.done += count
        self._bar.update(count)
        self.tick()

    def tick(self) -> None:
        """Time has passed; call it at least every few seconds."""
        now = self._clock()
        if not self._bar.disable:
            self._bar.refresh()
        elif now - self._told >= EVERY and self.done < self.total:
            self._told = now
            print(f"{self.title}: {self.done} of {self.total} done, {self._left(now)}", file=sys.stderr, flush=True)

    def _left(self, now: float) -> str:
        if not self.done:
            return f"{in_words(now - self._start)} gone"
        return f"about {in_words((self.total - self.done) * (now - self._start) / self.done)} left"


def in_words(seconds: float) -> str:
    """'40 s', '3 min', '2.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
