"""What a submission asks of loaders in a dry run, so that a dry run can tell whether it was too small for that.

A DataLoader with batch_size=256 and drop_last=True over 128 examples gives no batch; a fifth of 128 examples may hold
none of a class. What then comes out of the dry run says nothing about the submission. So the submission's process
notes every DataLoader that is made or gone through, in a page of memory that both processes see: what it noted is
there even if it crashed.

How it is used: `Asked()` in runs/dry_run.py.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import mmap
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from torch.utils.data import DataLoader, Dataset

PAGE, MOST = 1 << 15, 100  # bytes of the page; loaders that are noted
STEP = 8  # how many times more examples where it cannot be told how many would do


@dataclass(frozen=True)
class Seen:
    """A DataLoader that was made or gone through."""

    over: str  # which set it is over, "" if that cannot be told
    examples: int  # of its data set
    batch: int | None  # examples that it asks for in a batch, where that can be told
    batches: int  # that it gives
    drop_last: bool
    grows: bool  # the set is larger in the task than in this dry run, or may be

    @property
    def empty(self) -> bool:
        """Does it give nothing?"""
        return self.batches == 0

    @property
    def lacks(self) -> float:
        """How many times more examples would make two batches; at most 1 if there are enough."""
        if not self.grows:
            return 1.0
        if not self.examples or self.batch is None:
            return float(STEP) if self.empty else 1.0
        return 2 * self.batch / self.examples if self.empty or self.batch > self.examples else 1.0

    def told(self) -> str:
        """In words, for one that gives nothing."""
        over = f"the {self.over} set" if self.over else "a data set"
        how = f"batch_size={self.batch}" if self.batch is not None else "a sampler of its own"
        how += ", drop_last=True" if self.drop_last else ""
        here = "" if self.grows else ", and the task has no more"
        return f"a DataLoader over {over} ({self.examples} examples{here}) with {how} gives no batch"


class Asked:
    """What the loaders of one run were asked for. Make it before the fork; `watch` in the run, `seen` outside."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, PAGE)
        self._noted: list[Seen] = []

    def watch(self, sets: Mapping[str, tuple[Dataset, int]]) -> None:
        """From now on note the DataLoaders of this process, to its end.

        Args:
            sets: by name, a data set as it is handed over and how many examples it has in the task.
        """
        made, gone_through = DataLoader.__init__, DataLoader.__iter__

        @functools.wraps(made)
        def init(loader: DataLoader, *args: object, **options: object) -> None:
            made(loader, *args, **options)
            self._note(loader, sets)

        @functools.wraps(gone_through)
        def walk(loader: DataLoader):
            self._note(loader, sets)
            return gone_through(loader)

        DataLoader.__init__, DataLoader.__iter__ = init, walk

    def _note(self, loader: DataLoader, sets: Mapping[str, tuple[Dataset, int]]) -> None:
        with contextlib.suppress(Exception):  # no length, or one that fails: there is nothing to tell then
            found = _seen(loader, sets)
            if found not in self._noted and len(self._noted) < MOST:
                self._noted.append(found)
                text = json.dumps([asdict(seen) for seen in self._noted]).encode()
                self._page[: len(text) + 1] = text + b"\0"

    def seen(self) -> list[Seen]:
        """What was noted."""
        text = self._page[:].partition(b"\0")[0]
        with contextlib.suppress(ValueError, TypeError):  # written by a process that may do anything
            return [Seen(**values) for values in json.loads(text or b"[]")]
        return []


def _seen(loader: DataLoader, sets: Mapping[str, tuple[Dataset, int]]) -> Seen:
    root = loader.dataset
    while isinstance(inner := vars(root).get("dataset"), Dataset):  # of a Subset
        root = inner
    over = next((name for name, (dataset, _) in sets.items() if dataset is root), "")
    sampler = loader.batch_sampler
    batch = loader.batch_size or getattr(sampler, "batch_size", None)
    return Seen(
        over=over,
        examples=len(loader.dataset),
        batch=batch if isinstance(batch, int) else None,
        batches=len(loader),
        drop_last=bool(loader.drop_last or getattr(sampler, "drop_last", False)),
        grows=not over or len(root) < sets[over][1],
    )


def enough(rows: int, seen: Iterable[Seen], failed: bool) -> int:
    """How many examples a loader a larger dry run should have.

    Args:
        rows: that this one had.
        seen: in this one.
        failed: whether it failed; then every loader counts, else those alone that gave nothing.
    """
    lacking = [loader.lacks for loader in seen if failed or loader.empty]
    factor = max([1.0, *lacking])
    return math.ceil(rows * (factor if factor > 1 else STEP))
