"""The log of a competition: a line for every judging, chained, so that a line that is changed or gone shows.

Each line is a JSON object with its number, the hash of the line before it, and its own hash, which only the key can
make. The first line follows the rules. How long the log was last, and its last hash, are kept in the host's folder as
well: else nobody could tell that its end was cut off. A host who wants to cheat has the key; against that, let somebody
else keep a copy.

How it is used: `log = Log.of(competition); log.append({"entrant": "anna"})`
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from local_eval.host.competition import HEAD, LOG, Competition, HostError, signed
from local_eval.store.files import write_atomically

HASH, PREVIOUS, NUMBER = "hash", "previous", "number"


@dataclass(frozen=True)
class Log:
    """A log that may be read and grow."""

    path: Path
    head: Path
    key: bytes
    genesis: str  # what the first line follows

    @classmethod
    def of(cls, competition: Competition) -> Log:
        """That of a competition."""
        return cls(competition.folder / LOG, competition.private / HEAD, competition.key, competition.genesis)

    def begin(self) -> None:
        """Note that it is empty; one that has begun is left alone. Raises OutputError."""
        if not self.head.exists():
            self._set_head(0, self.genesis)

    def read(self) -> list[dict]:
        """All lines, the oldest first, verified.

        Raises:
            HostError: a line was changed, moved or removed, or the rules were changed; it says where.
        """
        lines = self._lines()
        previous = self.genesis
        for number, line in enumerate(lines):
            if line.get(HASH) != self._hash_of(line):
                raise HostError(f"{self.path}, line {number + 1} was changed: its hash does not fit; {RESTORE}")
            if line[PREVIOUS] != previous or line[NUMBER] != number:
                gone = "the rules were changed, or lines are gone" if number == 0 else "a line before it is gone"
                raise HostError(f"{self.path}, line {number + 1} does not follow: {gone}; {RESTORE}")
            previous = line[HASH]
        self._check_end(lines)
        return lines

    def append(self, entry: Mapping[str, object]) -> dict:
        """Add a line to what is there, and return it. Raises HostError, OutputError."""
        lines = self.read()
        line = {NUMBER: len(lines), "when": datetime.now().astimezone().isoformat(timespec="seconds"), **entry}
        line[PREVIOUS] = lines[-1][HASH] if lines else self.genesis
        line = json.loads(json.dumps(line))  # as it will be read
        line[HASH] = self._hash_of(line)
        text = "".join(json.dumps(one, allow_nan=False) + "\n" for one in [*lines, line])
        write_atomically(self.path, text.encode())
        self._set_head(len(lines) + 1, line[HASH])
        return line

    def _lines(self) -> list[dict]:
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        found = []
        for number, line in enumerate(text.splitlines(), 1):
            try:
                found.append(json.loads(line))
                if not isinstance(found[-1], dict) or not {PREVIOUS, NUMBER} <= found[-1].keys():
                    raise ValueError("it is no line of a log")
            except (ValueError, RecursionError) as error:
                raise HostError(f"{self.path}, line {number} cannot be read ({error}); {RESTORE}") from None
        return found

    def _hash_of(self, line: Mapping) -> str:
        told = {key: value for key, value in line.items() if key != HASH}
        return signed(self.key, json.dumps(told, sort_keys=True).encode())

    def _check_end(self, lines: list[dict]) -> None:
        """A log may be longer than was noted, by a line whose writer was killed before it noted that; never shorter."""
        try:
            noted = json.loads(self.head.read_text())
            count, last = noted["lines"], noted[HASH]
        except (OSError, ValueError, KeyError, TypeError):
            raise HostError(f"{self.head} is gone or damaged, so the log's end cannot be verified; {RESTORE}") from None
        if len(lines) < count:
            raise HostError(f"{self.path} has {len(lines)} lines, and had {count}: its end is gone; {RESTORE}")
        if (lines[count - 1][HASH] if count else self.genesis) != last:
            what = f"line {count} is not the one that was noted, or rules have changed"
            raise HostError(f"{self.path}: {what}; {RESTORE}")

    def _set_head(self, count: int, last: str) -> None:
        write_atomically(self.head, json.dumps({"lines": count, HASH: last}).encode())


RESTORE = "put the log and the rules back as they were"
