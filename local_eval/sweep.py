"""Sweep constants of a submission: grade every point, give up the hopeless ones early, and grade the best again.

Each point is an ordinary grading of the submission with settings, in a folder of its own among the results. So a
sweep goes on where it was stopped, a wider one goes on from a narrower one, and `compare` and `leaderboard` read its
points. What a sweep adds is what choosing takes:

* a point is given up after 16, 64 or 256 runs if it is hopeless (metric/uncertainty/best_of.py says when);
* the best is tested against every other one, with a test that knows that it was chosen;
* the best is graded once more, with another seed and with oracles that had no part in the choice, since the number
  that it was chosen for is flattered. Persons that had no part in the choice say what they think of it, too.

How to run it: python -m local_eval sweep my_method.py NOISE=0.1,0.2,0.4 LR=1e-3,1e-2 --runs 32
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from local_eval.grader import Grader
from local_eval.isolation.cards import card_name
from local_eval.isolation.child import Failure
from local_eval.methods.settings import split_name
from local_eval.methods.submission import Submission
from local_eval.metric.given import MetricError
from local_eval.metric.metric import forgetting_points
from local_eval.metric.score import Score, ScoreError, accuracy_fields, check_runs, compute_score, confidences
from local_eval.metric.uncertainty.best_of import (
    LOOKS,
    Candidate,
    beside_the_best,
    best_of,
    chosen_by_halves,
    halves,
    hopeless,
    judged_by_the_others,
)
from local_eval.report.columns import Row
from local_eval.report.result import Result
from local_eval.report.swept import Again, Stopped, Swept, as_csv, as_json, as_png
from local_eval.runs.plan import record_size
from local_eval.store.files import free_disk_in, write_atomically
from local_eval.store.provenance import provenance
from local_eval.store.records import Record, record_path
from local_eval.store.workspace import Workspace

SWEEPS = "sweeps"  # folder, in the task's, of tables and figures
AGAIN = 1000  # added to the seed for the last grading: runs that nobody has looked at by accident


@dataclass(frozen=True)
class Plan:
    """What a sweep is to do."""

    points: tuple[Submission, ...]
    swept: tuple[str, ...]  # the constants in which they differ
    give_up: bool = True  # hopeless points early
    final_seed: int | None = None  # of the last grading; None for `AGAIN` beyond the grader's
    again: bool = True  # whether there is a last grading

    def settings(self, name: str) -> dict[str, str]:
        """What a point's name says of the constants that are swept."""
        return {constant: value for constant, value in split_name(name)[1] if constant in self.swept}

    @property
    def base(self) -> str:
        """The submission with the settings that all points share, as it is shown."""
        shared = tuple(pair for pair in self.points[0].settings if pair[0] not in self.swept)
        return replace(self.points[0], settings=shared).label


def sweep(grader: Grader, plan: Plan, tell: Callable[[str], None] = print) -> tuple[Swept, Path]:
    """Make what is missing, grade, choose and grade again; returns what was found, and the folder of its files.

    Args:
        grader: `runs` is the N of every point.
        tell: called with a line about what comes next.
    Raises:
        ScoreError: too few runs, or a final seed that is the sweep's own.
        OutputError: a file cannot be written.
    """
    check_runs(grader.runs)
    seed = grader.seed + AGAIN if plan.final_seed is None else plan.final_seed
    if seed == grader.seed:
        raise ScoreError(f"--final-seed {seed} is the seed that the points are chosen with; give another")
    held_out = grader.runs if plan.again else 0
    tell(_disk_needed(grader, plan, grader.runs + held_out))
    oracles = grader.finish_oracles(grader.runs + held_out)
    tell(f"oracles: {len(oracles)} in {grader.workspace.oracles}; {held_out} of them are held out for the last grading")
    race = Race(grader, tell)
    race.run({one.label: one for one in plan.points}, plan.give_up)
    swept = replace(race.swept(plan), same=same_runs(race.alive))
    if plan.again and swept.rows:
        tell(f"grading {swept.rows[0].name} again, with seed {seed} and oracles {grader.runs} to {2 * grader.runs - 1}")
        swept = _graded_again(grader, race, swept, seed)
    elif swept.rows:
        swept = replace(swept, not_again="it was not asked for; without --no-final there is one")
    return _written(grader.workspace, plan, swept)


def _disk_needed(grader: Grader, plan: Plan, oracles: int) -> str:
    """In words, what missing runs and oracles will take. Raises OutputError if there is less."""
    folders = [grader.workspace.of(grader.run_plan(point).folder_name) for point in plan.points]
    runs = sum(not record_path(folder, k).exists() for folder in folders for k in range(grader.runs))
    lost = sum(not record_path(grader.workspace.oracles, k).exists() for k in range(oracles))
    return free_disk_in(grader.folder, (runs + lost) * record_size(grader.task), f"{lost} oracles and {runs} runs")


class Race:
    """The points of a sweep on their way to N runs.

    alive: candidates by name, as their last look showed them; given up and failed ones are taken out.
    """

    def __init__(self, grader: Grader, tell: Callable[[str], None]):
        self.grader, self.tell = grader, tell
        self.labels, self.persons = grader.labels_and_persons
        self.oracles = grader.cached_oracles()[: grader.runs]
        self.retrained = confidences(self.oracles, self.labels)
        self.submissions: dict[str, Submission] = {}
        self.alive: dict[str, Candidate] = {}
        self.stopped: list[Stopped] = []
        self.failed: dict[str, str] = {}

    def run(self, points: Mapping[str, Submission], give_up: bool) -> None:
        """Make all runs, in steps after which hopeless points are given up."""
        self.submissions = waiting = dict(points)
        looks = [look for look in LOOKS if look < self.grader.runs] if give_up else []
        for runs in (*looks, self.grader.runs):
            if not waiting:
                break
            self.tell(f"{runs} runs of each of {len(waiting)} points")
            self.alive = {}
            made = replace(self.grader, runs=runs).finish_runs_of_all(list(waiting.values()))
            for name, found in zip(waiting, made):
                self._look(name, *found, runs)
            if runs < self.grader.runs and self.alive:
                self._give_up(runs)
            waiting = {name: waiting[name] for name in self.alive}

    def _look(self, name: str, done: Mapping[int, Record], failures: Mapping[int, Failure], runs: int) -> None:
        """See what the runs of a point show."""
        if failures:
            self.failed[name] = reason_of(failures, runs)
            return
        records, oracles = [done[k] for k in sorted(done)], self.oracles[:runs]
        try:
            confidence = confidences(records, self.labels)
            self.alive[name] = Candidate.of(confidence, self.retrained[:runs], utility_of(records, oracles))
        except MetricError as error:
            self.failed[name] = str(error)

    def _give_up(self, runs: int) -> None:
        best = self.alive[best_of(self.alive)].score
        for name, pair in hopeless(self.alive, self.retrained[:runs], self.persons).items():
            one = Stopped(name, runs, self.alive.pop(name).score, best, pair.p)
            self.tell(f"given up after {runs} runs: {name}, score {one.score:.4f} where the best has {best:.4f}")
            self.stopped.append(one)

    def swept(self, plan: Plan) -> Swept:
        """The table: an ordinary score of every point that got so far, best first."""
        results = {}
        for name in list(self.alive):
            score, _ = self.grader.score(self.submissions[name])
            results[name] = Result.of(score, name, self.grader.task.name, {})
        beside = beside_the_best(self.alive, self.retrained, self.persons) if self.alive else {}
        rows = [Row(name, result, beside=beside.get(name)) for name, result in results.items()]
        rows.sort(key=lambda row: row.beside is not None)  # the best by the test stands first, also among equals
        rows.sort(key=lambda row: -self.alive[row.name].score)
        settings = {name: plan.settings(name) for name in self.submissions}
        facts = facts_of(self.grader)
        return Swept(plan.base, settings, rows, facts, tuple(self.stopped), dict(self.failed))


def utility_of(runs: Sequence[Record], oracles: Sequence[Record]) -> float:
    """What the forgetting quality of N runs beside N oracles is multiplied by."""
    found = accuracy_fields(runs, oracles)
    return found["retain_accuracy_ratio"] * found["test_accuracy_ratio"]


def reason_of(failures: Mapping[int, Failure], runs: int) -> str:
    """Why a point could not be graded, in one line."""
    index, failure = min(failures.items())
    return f"{len(failures)} of {runs} runs failed; run {index}: {failure.reason}"


def same_runs(candidates: Mapping[str, Candidate]) -> tuple[tuple[str, ...], ...]:
    """Groups of points whose runs are the same to the bit."""
    groups: dict[bytes, list[str]] = {}
    for name, one in candidates.items():
        groups.setdefault(hashlib.sha256(np.ascontiguousarray(one.confidences)).digest(), []).append(name)
    return tuple(tuple(names) for names in groups.values() if len(names) > 1)


# The last grading: another seed, other oracles, and each half of the persons judging what the other would have chosen.


def _graded_again(grader: Grader, race: Race, swept: Swept, seed: int) -> Swept:
    first, best = halves(race.persons), swept.rows[0].name
    chosen = None if first is None else chosen_by_halves(race.alive, first)
    scores: dict[str, Score] = {}
    for name in dict.fromkeys((best, *(chosen or ()))):
        try:
            scores[name] = grade_again(grader, race.submissions[name], seed)
        except (ScoreError, MetricError) as error:
            return replace(swept, not_again=f"{name} with seed {seed}: {error}")
    judged = None
    if chosen is not None:
        again = [_candidate(scores[name], grader.runs) for name in chosen]
        judged = judged_by_the_others(again, first)
    oracles = grader.runs, 2 * grader.runs - 1
    return replace(swept, again=Again(scores[best], seed, oracles, chosen, judged))


def grade_again(grader: Grader, submission: Submission, seed: int) -> Score:
    """The score of runs with another seed against oracles N to 2 N - 1, which are on disk.

    Raises:
        ScoreError: runs failed.
        MetricError: confidences that cannot be scored.
    """
    done, failures = replace(grader, seed=seed).finish_runs(submission)
    if failures:
        raise ScoreError(reason_of(failures, grader.runs))
    held_out = grader.cached_oracles()[grader.runs :]
    return compute_score(done, held_out, *grader.labels_and_persons, original=grader.original())


def _candidate(score: Score, runs: int) -> Candidate:
    """A score's points by example; its confidences are not needed any more."""
    return Candidate(np.empty((0, len(score.epsilons))), forgetting_points(score.epsilons, runs), score.utility)


def facts_of(grader: Grader) -> dict:
    """On what the points were graded."""
    made = provenance(grader.device, card_name(grader.device))
    return {
        "task": grader.task.name,
        "task_spec": grader.task_spec,
        "fingerprint": grader.fingerprint,
        "runs": grader.runs,
        "seed": grader.seed,
        **made,
    }


# Files: the table and the figure, in a folder of the sweep's own.


def _written(workspace: Workspace, plan: Plan, swept: Swept) -> tuple[Swept, Path]:
    """Write the files; and say how many other winners these held-out runs and oracles have judged."""
    place = workspace.folder / SWEEPS
    stem = plan.points[0].path.stem
    digests = sorted(one.digest() for one in plan.points)
    about = [digests, swept.facts["runs"], swept.facts["seed"], swept.again and swept.again.seed]
    folder = place / f"{stem}-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]}"
    if swept.again is not None:
        others = earlier_winners(place, stem, swept) - {swept.rows[0].name}
        swept = replace(swept, again=replace(swept.again, earlier=len(others)))
    write_atomically(folder / "sweep.json", as_json(swept).encode())
    if swept.rows:
        write_atomically(folder / "sweep.csv", as_csv(swept).encode())
        write_atomically(folder / "sweep.png", as_png(swept))
    return swept, folder


def earlier_winners(place: Path, stem: str, swept: Swept) -> set[str]:
    """The points that sweeps of the same file have graded again with the same seed and oracles."""
    found = set()
    for file in place.glob("*/sweep.json"):
        if file.parent.name.rpartition("-")[0] != stem:
            continue
        try:
            again = json.loads(file.read_text())["graded_again"]
            if again and (again["seed"], tuple(again["oracles"])) == (swept.again.seed, swept.again.oracles):
                found.add(str(again["point"]))
        except (OSError, ValueError, KeyError, TypeError):  # damaged, or of another version
            continue
    return found
