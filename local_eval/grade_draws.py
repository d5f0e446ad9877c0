"""Grade with several original models, or with several seeds: how much of a score is luck of the draw.

The competition had one original model, from which all runs started, and which left its mark on all of them.
`SeveralOriginals` lets run i start from original i mod N instead. These are trained on retain and forget set as the
official one is; their weights are kept in <task>/originals/weights/, their runs in a folder of their own.

How to run it: python -m local_eval grade fanchuan --originals 8 --repeat 3
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

from local_eval.engine.records import Record, read_records, record_path
from local_eval.grader import Grader
from local_eval.metric.repeats import Repeats, repeats
from local_eval.metric.score import Score, ScoreError
from local_eval.oracles.oracles import OraclePlan, finish_oracles
from local_eval.runs.plan import RunPlan


@dataclass(frozen=True)
class SeveralOriginals(Grader):
    """A grader whose runs start from several original models in turn, none of which is the official one."""

    originals: int = 8

    @classmethod
    def like(cls, grader: Grader, originals: int) -> SeveralOriginals:
        """The same task, place and seed. Raises ScoreError for a number that makes no sense."""
        if not 2 <= originals <= grader.runs:
            raise ScoreError(
                f"--originals {originals}: give 2 or more, and no more than there are runs ({grader.runs}). "
                "Without it the runs start from the one official original model"
            )
        return cls(**{field.name: getattr(grader, field.name) for field in fields(grader)}, originals=originals)

    @cached_property
    def _original_plan(self) -> OraclePlan:
        weights = self.folder / "originals" / "weights"
        return replace(self._oracle_plan, forget_too=True, weights=weights, keep=self.originals)

    def predicted(self, score: Score, submission: str = "") -> str:
        """None: what Kaggle gave was for one original."""
        return "published scores are of runs from one original model"

    def run_plan(self, submission: str) -> RunPlan:
        """As of one original; the runs' identities name the original that each starts from."""
        kept = (record_path(self._original_plan.weights, index) for index in range(self.originals))
        return replace(super().run_plan(submission), originals=tuple(kept))

    def finish_originals(self) -> None:
        """Train the originals that are missing."""
        folder = self.folder / "originals"
        finish_oracles(self._original_plan, folder, self.originals, self._shape, self.workers, self.engine)

    def original_records(self) -> list[Record]:
        """How the originals do; they must be on disk."""
        folder, identity = self.folder / "originals", self._original_plan.identity
        return list(read_records(folder, identity, self.originals, self._shape).values())

    def room_of_originals(self) -> str:
        """What their weights take on disk, in words, and where."""
        state = self.task.make_net().state_dict().values()
        each = sum(value.numel() * value.element_size() for value in state) / 1e6
        there = self.originals - sum(map(self._original_plan.lacks_weights, range(self.originals)))
        return (
            f"{self.originals} further original models, {each:.1f} MB each, {self.originals * each:.0f} MB in all, in "
            f"{self._original_plan.weights}; {there} are there"
        )


def seeds(grader: Grader, count: int) -> list[Grader]:
    """Graders with the seeds that follow, the given one first. Raises ScoreError for a number below 1."""
    if count < 1:
        raise ScoreError(f"--repeat {count}: give 1 or more seeds")
    return [replace(grader, seed=grader.seed + k) for k in range(count)]


def repeats_of(graders: list[Grader], submission: str) -> Repeats | None:
    """Scores of one submission's finished runs with several seeds; None for a single one."""
    if len(graders) < 2:
        return None
    done = {grader.seed: grader.finished_runs(submission) for grader in graders}
    by_seed = {seed: [runs[index] for index in sorted(runs)] for seed, runs in done.items()}
    first = graders[0]
    return repeats(by_seed, first.cached_oracles(), first.runs, first.labels_and_persons[0])
