"""Grade a submission: the stages in order, each going on from what is on disk; several seeds and originals.

The competition had one original model, from which all runs started, and which left its mark on all of them.
`SeveralOriginals` lets run i start from original i mod N instead. These are trained on retain and forget set as the
official one is; their weights are kept in <task>/originals/weights/, their runs in a folder of their own.

How to run it: python -m local_eval grade fanchuan --originals 8 --seeds 0 1 2
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from local_eval.commands import command
from local_eval.isolation.cards import best_kind, card_name
from local_eval.isolation.child import Failure
from local_eval.isolation.share_gpu import Engine
from local_eval.methods.submission import Submission
from local_eval.metric.given import MetricError
from local_eval.metric.headroom import Verdict, verdict
from local_eval.metric.measures import Labels, further_measures
from local_eval.metric.score import (
    LEAST_RUNS,
    Repeats,
    Score,
    ScoreError,
    check_runs,
    compute_score,
    held_to_budget,
    mean_accuracies,
    repeats,
    with_accuracies,
)
from local_eval.oracles.oracles import (
    OraclePlan,
    finish_oracles,
    load_pool,
    pool_size,
    remark_on_precision,
    unpack_pool,
)
from local_eval.oracles.original import USUAL, finish_original, original_digest, original_file, original_record
from local_eval.oracles.train_many import networks_per_job, remark_on_training
from local_eval.report.prediction import FitError, Prediction, as_json, predict, read_fit
from local_eval.report.result import repeats_fields, save_score
from local_eval.runs.checkpoints import holds_all_of, kept_checkpoints, zip_checkpoints
from local_eval.runs.one_run import finish_runs, finish_runs_of_all, finished_runs
from local_eval.runs.plan import RunPlan, Sandbox, disk_needed
from local_eval.runs.relearn import Relearning, RelearnPlan
from local_eval.store.errors import many
from local_eval.store.provenance import made_with
from local_eval.store.records import Evaluation, Record, RecordError, record_path
from local_eval.store.workspace import Workspace
from local_eval.tasks.loading import load_task
from local_eval.tasks.names import ORIGINAL, split_changes, without_original
from local_eval.tasks.task import Task
from local_eval.tasks.weights import digest_of

OF_RUNS = (
    "grade",
    "run",
    "quick",
    "score",
    "compare",
    "check",
    "report",
    "measures",
    "relearn",
)  # commands that know where batches lie
Named = str | Submission  # a submission by name or path, or as it was found


class Opened:
    """A task as one command knows it: loaded once, however many graders are made of the first."""

    def __init__(self, task_spec: str, out: Path) -> None:
        self.task_spec, self.out = task_spec, Path(out).resolve()
        self.own_oracles_fit = True  # until those that come with the task were tried and refused

    @cached_property
    def task(self) -> Task:
        """Loaded when it is first asked for. Raises TaskError."""
        return load_task(self.task_spec)

    @cached_property
    def fingerprint(self) -> str:
        """What the task is, in a short hash."""
        return self.task.fingerprint()

    @property
    def given_original(self) -> str | None:
        """The name of the file that --original gives."""
        path = split_changes(self.task_spec)[1].get(ORIGINAL)
        return path and Path(path).name

    @cached_property
    def original_file(self) -> Path:
        """Where the original model lies, or is to lie."""
        apart = self.given_original is not None
        return original_file(self.task, self.fingerprint, self.workspace.folder, apart=apart)

    @cached_property
    def workspace(self) -> Workspace:
        """Everything that belongs to this task, in this exact form."""
        return Workspace(self.out / f"{self.task.name}-{self.fingerprint}")


@dataclass(frozen=True)
class Grader:
    """Where, on what and with how much the stages work. Seconds are wall-clock."""

    task_spec: str = "digits"
    out: Path = Path("outputs")
    runs: int = 64
    seed: int = 0
    device: str = "cpu"
    workers: int | None = 1  # processes; None for what is best on the device
    timeout: float = 900.0  # after which a run counts as hanging
    sandbox: str | None = None  # level of the sandbox in which runs are made; None for none
    engine: Engine | None = None  # makes oracles and runs; None for processes of this machine
    batches_on: str = "device"  # where a submission's batches lie: "device", or "cpu" as on Kaggle
    tf32: dict | None = field(default=None, compare=False)  # what the gate has found, to train oracles in TF32
    opened: Opened | None = field(default=None, repr=False, compare=False)  # of the grader that this is a variant of

    def __post_init__(self) -> None:
        here = self.task_spec, Path(self.out).resolve()
        if self.opened is None or (self.opened.task_spec, self.opened.out) != here:
            object.__setattr__(self, "opened", Opened(*here))

    @property
    def task(self) -> Task:
        """Raises TaskError."""
        return self.opened.task

    @property
    def fingerprint(self) -> str:
        """What the task is, in a short hash."""
        return self.opened.fingerprint

    @property
    def workspace(self) -> Workspace:
        """Where everything that belongs to this task lies."""
        return self.opened.workspace

    @property
    def folder(self) -> Path:
        """Everything that belongs to this task, in this exact form."""
        return self.workspace.folder

    @property
    def original_file(self) -> Path:
        """The original model from which runs start; with --original another than the task's own."""
        return self.opened.original_file

    @property
    def given_original(self) -> str | None:
        """The name of the file that --original gives."""
        return self.opened.given_original

    @property
    def _workers_spec(self) -> str:
        """The task for those who are handed its original model as a file, or need none: the same for all originals."""
        return without_original(self.task_spec)

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.task.forget), self.task.num_classes

    @cached_property
    def _oracle_plan(self) -> OraclePlan:
        together = networks_per_job(self.task, self.device)
        return OraclePlan(self._workers_spec, self.fingerprint, self.device, together, tf32=self.tf32)

    def command(self, verb: str, *names: Named | Path, runs: int | None = None, more: Sequence[str] = ()) -> str:
        """A command for people to copy that works on this task, in this folder, with this seed, on this device."""
        device = self.device if self.device != best_kind() else ""
        where = {"task": self.task_spec, "out": self.out, "seed": self.seed or None}
        return command(verb, names, **where, device=device, runs=runs, more=(*self.more_words(verb), *more))

    def more_words(self, verb: str) -> tuple[str, ...]:
        """What a command must say to work as this grader does, beside task, folder, seed and device."""
        return ("--batches-on", "cpu") if self.batches_on == "cpu" and verb in OF_RUNS else ()

    def headroom(self) -> tuple[Score, Verdict]:
        """Score `runs` fresh original models as if they were unlearned: what a method gets that forgets nothing.

        The verdict says whether that leaves room to tell methods apart.
        """
        check_runs(self.runs)
        self.finish_oracles()
        oracles = self.cached_oracles()  # more of them give a ceiling of the same N
        plan, folder = replace(self._oracle_plan, forget_too=True), self.workspace.originals
        how = (self._shape, self.workers, self.engine)
        originals = finish_oracles(plan, folder, self.runs, *how, workspace=self.workspace)
        score = compute_score(dict(enumerate(originals)), oracles, *self.labels_and_persons, original=self.original())
        score = with_accuracies(score, originals, oracles, self.original(), self.task)
        return score, verdict(score, originals, oracles, self.labels_and_persons[0])

    def finish_originals(self) -> None:
        """Train the original model, or take the task's own, unless it is there."""
        finish_original(self.task, self.fingerprint, self.original_file, self.device, self._workers_spec)

    def original_records(self) -> list[Record]:
        """How the original model does; it must be on disk."""
        where = self.original_file, self.device, self.workspace, self._workers_spec
        return [original_record(self.task, self.fingerprint, *where)]

    def original(self) -> Evaluation | None:
        """How the one original model does on the task; None where runs start from several."""
        records = self.original_records()
        return records[0].evaluation if len(records) == 1 else None

    @property
    def labels_and_persons(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels and persons of the forget set, int64 [E] each."""
        forget = self.task.forget
        return forget.labels.cpu().numpy(), forget.person_id.cpu().numpy()

    def run_plan(self, submission: Named) -> RunPlan:
        """What the runs of a submission are made from; raises SubmissionError if there is none."""
        where = self._workers_spec, self.fingerprint, self.original_file
        return replace(RunPlan.of(submission, *where, self.seed, self.device), batches_on=self.batches_on)

    def finish_oracles(self, count: int | None = None) -> list[Record]:
        """Train the original model and the oracles that are missing; returns `count` (default `runs`) oracles."""
        Grader.finish_originals(self)  # the one, also where runs start from several
        count, folder = count or self.runs, self.workspace.oracles
        self._take_the_tasks_own(folder)
        how = (self._shape, self.workers, self.engine, self._tell_if_slow, self.workspace)
        return finish_oracles(self._oracle_plan, folder, count, *how)

    def _tell_if_slow(self) -> None:
        if remark := remark_on_training(self.task, self.device):
            print(remark, file=sys.stderr, flush=True)

    def _take_the_tasks_own(self, folder: Path) -> None:
        """Put the oracles that come with the task there, unless they are there or do not fit this task any more.

        A folder of an earlier version, which came with fewer, gets the others too: ceilings rest on all that there are.
        """
        shipped = self.task.oracles
        if shipped is None or not shipped.exists() or not self.opened.own_oracles_fit:
            return
        if record_path(folder, pool_size(shipped) - 1).exists():
            return
        try:
            self.take_oracles(shipped)
        except RecordError as error:
            self.opened.own_oracles_fit = False
            print(f"the oracles that come with the task are not used: {error}", file=sys.stderr)

    def oracle_identity(self, index: int) -> dict:
        """What a cached oracle must have been made from."""
        return self._oracle_plan.identity(index)

    def take_oracles(self, path: Path) -> int:
        """Put the oracles of a file made by `save_pool` where this grader looks for them; returns how many there are.

        Raises:
            RecordError: the file is damaged or belongs to another task.
        """
        records = load_pool(path, self.oracle_identity, self._shape)
        unpack_pool(records, self.workspace.oracles)
        return len(records)

    def cached_oracles(self) -> list[Record]:
        """All oracles on disk, verified, with those that come with the task; more than `runs` make a better ceiling."""
        folder = self.workspace.oracles
        self._take_the_tasks_own(folder)
        count = max(self.runs, len(list(folder.glob("*.npz"))))
        oracles = self.workspace.read(folder, self.oracle_identity, count, self._shape)
        return [oracles[k] for k in sorted(oracles)]

    def finish_runs(self, submission: Named, keep: bool = False) -> tuple[dict[int, Record], dict[int, Failure]]:
        """Make the runs of a submission that are missing; returns the finished ones and why others failed.

        With `keep`, state dicts go to checkpoints/ in the runs' folder; runs without one there are made again.
        """
        check_runs(self.runs)
        return self.make_runs(submission, keep)

    def finish_runs_of_all(self, submissions: Sequence[Named]) -> list[tuple[dict[int, Record], dict[int, Failure]]]:
        """As `finish_runs` of each, which takes less long: the processes that make them start once for all."""
        check_runs(self.runs)
        if self.engine or len(submissions) < 2:
            return [self.finish_runs(one) for one in submissions]
        self.finish_originals()
        plans, sandbox = [self.run_plan(one) for one in submissions], self.sandbox_of_runs()
        if sandbox is not None:
            sandbox.check(plans[0].submission, self.device)
        places = [(replace(plan, sandbox=sandbox), self.workspace.of(plan.folder_name)) for plan in plans]
        return finish_runs_of_all(places, self.runs, self._shape, self.workers, self.timeout, self.workspace)

    def make_runs(self, submission: Named, keep: bool = False) -> tuple[dict[int, Record], dict[int, Failure]]:
        """As `finish_runs`, also of fewer runs than a score needs."""
        self.finish_originals()
        plan = self.run_plan(submission)
        folder = self.workspace.of(plan.folder_name)
        sandbox = self.sandbox_of_runs()
        if sandbox is not None:
            sandbox.check(plan.submission, self.device)
        plan = replace(plan, checkpoints=self.workspace.checkpoints(folder) if keep else None, sandbox=sandbox)
        how = (self._shape, self.workers, self.timeout, self.engine, self.workspace)
        return finish_runs(plan, folder, self.runs, *how)

    def kept_runs(self, submission: Named) -> tuple[Path, dict[int, Failure]]:
        """A folder with the state dicts of the runs 0..runs-1, and why runs failed, if they did.

        They are those that `grade --keep-checkpoints` has kept. If it has not, the runs are made again in a folder of
        their own, so that graded records stay as they are.
        """
        done, plan = self.finished_runs(submission), self.run_plan(submission)
        folder = self.workspace.of(plan.folder_name)
        usual = self.workspace.checkpoints(folder)
        if len(kept_checkpoints(usual, {i: run.facts.get("checkpoint") for i, run in done.items()})) == self.runs:
            return usual, {}
        self.finish_originals()
        sandbox, apart = self.sandbox_of_runs(), self.workspace.relearned(folder)
        if sandbox is not None:
            sandbox.check(plan.submission, self.device)
        plan = replace(plan, checkpoints=self.workspace.checkpoints(apart), sandbox=sandbox)
        how = (self._shape, self.workers, self.timeout, self.engine, self.workspace)
        return plan.checkpoints, finish_runs(plan, apart, self.runs, *how)[1]

    def weights_of_oracles(self) -> Path:
        """The folder with the weights of oracles 0..runs-1; those that are missing are trained, records stay."""
        self.finish_originals()
        folder = self.workspace.oracles
        self._take_the_tasks_own(folder)
        plan = replace(self._oracle_plan, weights=self.workspace.weights_of_oracles, keep=self.runs)
        how = (self._shape, self.workers, self.engine, self._tell_if_slow, self.workspace)
        finish_oracles(plan, folder, self.runs, *how)
        return plan.weights

    def relearn_plan(self, checkpoints: Path, weights: Path, how: Relearning) -> RelearnPlan:
        """What it takes to train as many runs and oracles further, from the state dicts in these folders."""
        return RelearnPlan(self._workers_spec, self.fingerprint, self.device, self.runs, checkpoints, weights, how)

    def disk_needed(
        self, submission: Named, keep: bool = False, several: Sequence[int] = (), originals: int | None = None
    ) -> str:
        """In words, the disk that oracles and runs that are missing will take. Raises OutputError if there is less.

        Args:
            keep: whether the official runs leave checkpoints and their zip.
            several: the seeds with which runs are made, if more than this grader's.
            originals: from how many further original models runs are made too; None for none.
        """
        folders = [
            self.folder / one.run_plan(submission).folder_name for one in with_seeds(self, several or (self.seed,))
        ]
        if originals:
            other = [f"{folder.name}-originals{originals}" for folder in folders]
            folders += [self.folder / name for name in other]
        return disk_needed(
            self.task, self.runs, self.workspace.oracles, folders, keep, len(several) or 1, originals or 0
        )

    def finished_runs(self, submission: Named) -> dict[int, Record]:
        """The runs of a submission that are on disk and still count."""
        plan = self.run_plan(submission)
        folder = self.workspace.of(plan.folder_name)
        return finished_runs(plan, folder, self.runs, self._shape, self.workspace)

    def has_all_runs(self, submission: Named) -> bool:
        """Are all its runs on disk, so that nothing of it has to be run?"""
        return self.original_file.exists() and len(self.finished_runs(submission)) == self.runs

    def with_all_finished(self, submission: Named) -> Grader:
        """This grader with as many runs as the submission has on disk, if those are more and none is missing.

        Not more than there are oracles: a score needs as many, and nobody asked to train any.
        """
        folder = self.workspace.of(self.run_plan(submission).folder_name)
        self._take_the_tasks_own(self.workspace.oracles)
        there = [len(list(place.glob("[0-9]*.npz"))) for place in (folder, self.workspace.oracles)]
        wider = replace(self, runs=min(there))
        return wider if wider.runs > self.runs and len(wider.finished_runs(submission)) == wider.runs else self

    def sandbox_of_runs(self) -> Sandbox | None:
        """The sandbox that was asked for, from which no retrained model is seen."""
        shipped = [str(self.task.oracles)] if self.task.oracles else []
        return Sandbox(self.sandbox, (str(Path(self.out).resolve()), *shipped)) if self.sandbox else None

    def zip_checkpoints(self, submission: Named) -> Path:
        """submission.zip of the checkpoints that `finish_runs` kept, in the runs' folder; a larger one stays.

        Raises:
            OutputError: it cannot be written.
        """
        folder = self.workspace.of(self.run_plan(submission).folder_name)
        checkpoints, zipped = self.workspace.checkpoints(folder), self.workspace.zipped(folder)
        if not holds_all_of(zipped, checkpoints, self.runs):
            zip_checkpoints(checkpoints, zipped, self.runs)
        return zipped

    def score(
        self,
        submission: Named,
        allow_missing: bool = False,
        budget_hours: float | None = None,
        repeated: Repeats | None = None,
    ) -> tuple[Score, Path]:
        """Score what is on disk; returns the score and the path of score.json.

        With `budget_hours` the score says whether 512 such runs would take longer on this machine. `repeated`, scores
        with other seeds, is written beside it.

        Raises:
            ScoreError: runs or oracles are missing (runs may be, if `allow_missing`), or fewer than 16 are there.
            MetricError: confidences that cannot be scored.
        """
        done, missing = self.runs_to_score(submission, allow_missing)
        plan = self.run_plan(submission)
        folder = self.score_folder(plan.folder_name)
        pool = self.cached_oracles()
        if len(pool) < len(done):
            train = self.command("oracles", runs=len(done))
            raise ScoreError(f"{len(done)} runs need as many oracles, and {len(pool)} are there; train them: {train}")
        score = compute_score(done, pool, *self.labels_and_persons, missing, self.original())
        score = self.with_further(score, done, pool)
        if budget_hours is not None:
            score = held_to_budget(score, {i: run.facts["seconds"] for i, run in done.items()}, budget_hours)
        identity = plan.made_from() | self.made_against() | {"out": str(folder)}
        about = self.about() | {"settings": dict(plan.submission.settings), "made_from": identity}
        about["kaggle"] = as_json(self.predicted(score, submission))
        about["repeats"] = repeats_fields(repeated)
        about["untold"] = sorted(
            {text for run in done.values() for text in run.facts.get("read", {}).get("untold", [])}
        )
        if confined := Counter(run.facts["sandbox"]["level"] for run in done.values() if "sandbox" in run.facts):
            about["sandbox"] = dict(confined) | {"none": len(done) - confined.total()}
        score = replace(score, warnings=score.warnings + self.other_original() + remark_on_precision(pool))
        return score, save_score(score, folder, plan.submission.label, self.task.name, about)

    def runs_to_score(self, submission: Named, allow_missing: bool) -> tuple[dict[int, Record], list[int]]:
        """The finished runs of a submission, and which are missing; raises ScoreError if they may not be scored."""
        check_runs(self.runs)
        done = self.finished_runs(submission)
        missing = [i for i in range(self.runs) if i not in done]
        if missing and (not allow_missing or len(done) < LEAST_RUNS):
            raise ScoreError(self._what_to_do_without(missing, submission))
        return done, missing

    def _what_to_do_without(self, missing: list[int], submission: Named) -> str:
        """Which runs are not there, and the commands that make them or do without."""
        text = f"{len(missing)} of {many(self.runs, 'run')} {'is' if len(missing) == 1 else 'are'} missing "
        text += f"({', '.join(map(str, missing[:8]))}{', ...' if len(missing) > 8 else ''}); "
        text += f"to make what is missing:\n  {self.command('grade', submission, runs=self.runs)}"
        if self.runs - len(missing) < LEAST_RUNS:
            return text
        without = self.command("score", submission, runs=self.runs, more=["--allow-missing"])
        return f"{text}\nto score the others, which is noted on the score:\n  {without}"

    def score_folder(self, name: str) -> Path:
        """Where the score of what is kept in the folder `name` goes."""
        return self.workspace.of(name)

    def made_against(self) -> dict:
        """What a score was made from besides its runs and the task's own oracles: nothing."""
        return {}

    def predicted(self, score: Score, submission: Named = "") -> Prediction | str:
        """What Kaggle would have given, or why that is not known."""
        if self.other_original():
            return "published scores are of runs from the task's own original model"
        try:
            return predict(score, self.fingerprint, read_fit(), published_name(submission))
        except FitError as error:  # a damaged file costs the prediction, not the score
            return str(error)

    def with_further(self, score: Score, runs: dict[int, Record], oracles: list[Record]) -> Score:
        """The score with the further measures, from the same records."""
        unlearned = [runs[index] for index in sorted(runs)]
        score = with_accuracies(score, unlearned, oracles, self.original(), self.task)
        return replace(score, measures=tuple(further_measures(unlearned, oracles, Labels.of(self.task))))

    def about(self) -> dict:
        """What a score.json says beside the score: how it was made, and how good the original model is."""
        originals = self.original_records()
        retain, test = mean_accuracies(originals) if originals else (None, None)
        made = made_with(self.device, card_name(self.device))
        facts = {"task_spec": self.task_spec, **made, "seed": self.seed, "repeats": None}
        facts |= {"unlearned": None, "retrained": None}  # nothing was given; grade_given.py says otherwise
        reported = {"retain_accuracy": retain, "test_accuracy": test, "file": None, "hash": None}
        if len(originals) == 1:
            reported["hash"] = self.original_hash()
            reported["file"] = self.given_original
        return facts | {"original": reported, "originals": len(originals)}

    def original_hash(self) -> str:
        """Short hash of the weights from which runs start; empty while nobody has trained them."""
        if self.original_file.exists():
            return original_digest(self.original_file)
        return "" if self.task.original is None else digest_of(self.task.original)

    def other_original(self) -> tuple[str, ...]:
        """A note on runs that start from a model that --original names, unless it is the task's own after all."""
        if self.given_original is None or self.original_file.name == USUAL:
            return ()
        name = self.given_original
        return (f"runs start from another original model, {name}; compare with scores from the same one only",)


def published_name(submission: Named) -> str:
    """Under which name scores of a submission were published; "" for a file of the user's own, whatever its name."""
    found = Submission.find(submission) if submission else None
    return found.path.stem if found is not None and found.is_own else ""


def grade_all(grader: Grader, names: list[str]) -> tuple[dict[str, Score], dict[str, str]]:
    """Grade each name; returns the scores, and for those that could not be scored the reason."""
    grader.finish_oracles()
    scores, failed = {}, {}
    for name in names:
        _, failures = grader.finish_runs(name)
        if failures:
            index, failure = next(iter(sorted(failures.items())))
            failed[name] = f"{len(failures)} of {grader.runs} runs failed; run {index}: {failure.reason}"
            continue
        try:
            scores[name], _ = grader.score(name)
        except (MetricError, ScoreError) as error:  # one method without an answer leaves the others theirs
            failed[name] = str(error)
    return scores, failed


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
        return cls(**{one.name: getattr(grader, one.name) for one in fields(grader)}, originals=originals)

    def more_words(self, verb: str) -> tuple[str, ...]:
        """How many originals, for the commands that make or score runs."""
        own = ("--originals", str(self.originals)) if verb in ("grade", "score") else ()
        return (*super().more_words(verb), *own)

    @cached_property
    def _original_plan(self) -> OraclePlan:
        weights = self.workspace.weights_of_originals
        return replace(self._oracle_plan, forget_too=True, weights=weights, keep=self.originals)

    def predicted(self, score: Score, submission: Named = "") -> str:
        """None: what Kaggle gave was for one original."""
        return "published scores are of runs from one original model"

    def run_plan(self, submission: Named) -> RunPlan:
        """As of one original; the runs' identities name the original that each starts from."""
        kept = (record_path(self._original_plan.weights, index) for index in range(self.originals))
        return replace(super().run_plan(submission), originals=tuple(kept))

    def finish_originals(self) -> None:
        """Train the originals that are missing."""
        how = (self._shape, self.workers, self.engine)
        place = self._original_plan, self.workspace.originals, self.originals
        finish_oracles(*place, *how, workspace=self.workspace)

    def original_records(self) -> list[Record]:
        """How the originals do; they must be on disk."""
        place = self.workspace.originals, self._original_plan.identity
        return list(self.workspace.read(*place, self.originals, self._shape).values())

    def disk_of_originals(self) -> str:
        """What their weights take on disk, in words, and where."""
        state = self.task.make_net().state_dict().values()
        each = sum(value.numel() * value.element_size() for value in state) / 1e6
        there = self.originals - sum(map(self._original_plan.lacks_weights, range(self.originals)))
        return (
            f"{self.originals} further original models, {each:.1f} MB each, {self.originals * each:.0f} MB in all, in "
            f"{self._original_plan.weights}; {there} are there"
        )


def with_seeds(grader: Grader, seeds: Sequence[int]) -> list[Grader]:
    """The same grader with each of these seeds."""
    return [replace(grader, seed=seed) for seed in seeds]


def repeats_of(graders: list[Grader], submission: Named, allow_missing: bool = False) -> Repeats | None:
    """Scores of one submission's finished runs with several seeds; None for a single one.

    Raises:
        ScoreError: runs of one of the seeds are missing (which they may, if `allow_missing`), or too few.
    """
    if len(graders) < 2:
        return None
    done = {grader.seed: grader.runs_to_score(submission, allow_missing)[0] for grader in graders}
    by_seed = {seed: [runs[index] for index in sorted(runs)] for seed, runs in done.items()}
    first = graders[0]
    return repeats(by_seed, first.cached_oracles(), first.runs, first.labels_and_persons[0])
