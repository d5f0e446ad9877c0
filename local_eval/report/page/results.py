"""What a page is drawn from: a grading as it lies on disk, read and checked by whoever calls `render.write_page`."""

from __future__ import annotations

from dataclasses import dataclass, field

from local_eval.engine.records import Record
from local_eval.tasks.task import Task


@dataclass(frozen=True)
class Beyond:
    """One row of the table of further attacks."""

    name: str
    value: str
    perfect: str  # what perfect unlearning gets at this N
    meaning: str


def beyond_in(score: dict) -> tuple[Beyond, ...]:
    """The rows that a score.json holds under `beyond`, each with name, value, perfect, low, high, words, meaning."""
    return tuple(
        Beyond(
            row["name"],
            f"{row['value']:.3f}",
            f"{row['perfect']:.3f} ({row['low']:.3f} to {row['high']:.3f})",
            f"{row['words'].capitalize()}. {row['meaning'][:1].upper()}{row['meaning'][1:]}.",
        )
        for row in score.get("beyond", ())
    )


@dataclass(frozen=True)
class Results:
    """One graded method. `score` is the content of its score.json."""

    score: dict
    unlearned: dict[int, Record]  # by number of the run
    pool: list[Record]  # all oracles; the first N of them are those that the score compares with
    original: Record
    task: Task
    command: str  # with which the grading is made again
    failures: dict[int, str] = field(default_factory=dict)  # why the runs that are missing failed
    others: tuple[dict, ...] = ()  # score.json of what else was graded on this task at the same N and seed
    beyond: tuple[Beyond, ...] = ()

    @property
    def retrained(self) -> list[Record]:
        """The oracles that the score compares with."""
        return self.pool[: len(self.unlearned)]
