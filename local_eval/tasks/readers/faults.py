"""Tell the first ten faults of a person's data at once, not one a try; paths are told once.

How it is used:

    faults = Faults(Path("faces.csv"))
    with faults.collecting():
        row.integer("label")
    faults.tell()  # raises TaskError if there were any
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from local_eval.tasks.names import TaskError

TOLD = 10  # faults in one message
LONGEST = 450  # characters of one fault; a cell may hold any text


class Faults:
    """What is wrong with the data that a file or folder describes."""

    def __init__(self, source: Path):
        self.source = source
        self.messages: list[str] = []

    def add(self, messages: Iterable[str]) -> None:
        """Note messages; each one names its file, as "faces.csv, row 7: ..."."""
        self.messages += messages

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Note a TaskError of the block instead of raising it."""
        try:
            yield
        except ManyFaults as error:
            self.messages += error.messages
        except TaskError as error:
            self.messages.append(str(error))

    def tell(self) -> None:
        """Raise ManyFaults if there are any."""
        if self.messages:
            raise ManyFaults(self.source, self.messages)


class ManyFaults(TaskError):
    """One fault or several, in the order in which they were noted."""

    def __init__(self, source: Path, messages: list[str]):
        self.messages = messages = [m if len(m) <= LONGEST else f"{m[:LONGEST]} ..." for m in messages]
        if len(messages) == 1:
            super().__init__(messages[0])
            return
        short = [m.removeprefix(f"{source}, ").removeprefix(f"{source}: ") for m in messages[:TOLD]]
        count = f"{len(messages)} faults" + (f"; the first {TOLD}" if len(messages) > TOLD else "")
        super().__init__("\n  ".join([f"{source} has {count}:", *short]))
