"""Grade models that were made elsewhere: checkpoints, or numbers, on one side or both.

A side is a folder or zip of checkpoints, which are looked at one by one as any model is, or a file of numbers
(metric/side_file.py). The other side may be the task's oracles, runs that are made here, or given as well. What nobody
can see from models alone is said with the score: that retrained ones never saw the forget set, for one.

    <out>/<task>-<fingerprint>/checkpoints-<digest>/  unlearned checkpoints: what was seen of each, and their score
                               given-<digest>/        the score of unlearned models given as numbers
                               retrained-<digest>/    what was seen of retrained checkpoints
                               <one of these or of runs>-against-<digest>/score.json   against retrained ones given

The task's own oracles stay apart: they are neither read nor written where retrained models are given.

How to run it: python -m local_eval grade my_method.py --retrained theirs.zip
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from local_eval.commands import from_here
from local_eval.grader import Grader, Named
from local_eval.isolation.cards import kind_of
from local_eval.isolation.child import Failure
from local_eval.isolation.share_gpu import run_on_device
from local_eval.metric.given import MetricError, as_numbers, by_means
from local_eval.metric.score import LEAST_RUNS, Score, ScoreError, compute_score, confidences
from local_eval.metric.side_file import ENDINGS, KINDS, SideError, read_side
from local_eval.report.prediction import as_json
from local_eval.report.result import save_score
from local_eval.runs.checkpoints import Checkpoints
from local_eval.runs.plan import Sandbox
from local_eval.store.errors import many
from local_eval.store.files import locked, write_atomically
from local_eval.store.provenance import versions
from local_eval.store.records import Evaluation, Record, record_path
from local_eval.store.sealed import seal
from local_eval.store.states import CheckpointError
from local_eval.tasks.evaluate import evaluate
from local_eval.tasks.loading import load_task
from local_eval.tasks.task import Task

# Look at checkpoints that someone else made: a submission.zip from Kaggle, or a folder of them.
#
# One checkpoint is in memory at a time, in a process of its own, so 512 of 45 MB grade in well under 2 GB and a file
# that crashes torch does not take the grader along. What was looked at is kept: the same command goes on from there.


TOLD = 5  # wrong checkpoints after which to stop and tell
WORKERS = 1  # unless more are asked for: with 45 MB checkpoints each takes up to a gigabyte


@dataclass(frozen=True)
class CheckpointPlan:
    """What a worker needs to evaluate checkpoint i."""

    task: str
    checkpoints: Checkpoints
    device: str


def evaluate_checkpoints(grader: Grader, checkpoints: Checkpoints, folder: Path) -> dict[int, Record]:
    """Every checkpoint as the grader sees it, kept in a folder as soon as it is looked at; what is there is taken.

    Raises:
        CheckpointError: with the first few that cannot be used; the others are kept.
        OutputError: the folder cannot be used.
    """
    plan, wrong = CheckpointPlan(grader.task_spec, checkpoints, kind_of(grader.device)), []
    workers = grader.workers or WORKERS
    with locked(folder):
        kept = kept_evaluations(grader, checkpoints, folder)
        records = {k: record for k, record in kept.items() if _is_of(record, checkpoints, k)}
        missing = [index for index in range(len(checkpoints.names)) if index not in records]
        how = (workers, grader.timeout, "checkpoints")
        with closing(run_on_device(grader.device, one_checkpoint, plan, missing, *how)) as results:
            for index, result in results:
                if isinstance(result, Failure):
                    wrong.append(f"checkpoint {index}: {result.reason}")
                else:
                    records[index] = replace(result, identity=evaluation_identity(grader, checkpoints, index))
                    grader.workspace.save(record_path(folder, index), records[index])
                if len(wrong) == TOLD:
                    break
    if wrong:
        raise CheckpointError("\n".join(sorted(wrong)))
    return dict(sorted(records.items()))


def kept_evaluations(grader: Grader, checkpoints: Checkpoints, folder: Path) -> dict[int, Record]:
    """The evaluations of these very checkpoints that a folder holds."""
    shape = (len(grader.task.forget), grader.task.num_classes)
    identity = partial(evaluation_identity, grader, checkpoints)
    return grader.workspace.read(folder, identity, len(checkpoints.names), shape)


def _is_of(record: Record, checkpoints: Checkpoints, index: int) -> bool:
    """Is it the evaluation of what the file holds now? A folder knows only sizes and times, which can be set."""
    return checkpoints.path.is_file() or record.facts.get("content") == checkpoints.content(index)


def evaluation_identity(grader: Grader, checkpoints: Checkpoints, index: int) -> dict:
    """What the evaluation of one checkpoint belongs to."""
    return {"kind": "checkpoint", "task": grader.fingerprint, "checkpoints": checkpoints.digest, "index": index}


def how_read(checkpoints: Checkpoints, records: dict[int, Record]) -> str:
    """What was unusual about names and contents, in one line; empty if all was as the competition has it."""
    forms = Counter(form for record in records.values() if (form := record.facts.get("form")))
    some = [
        form + (f" (in {count} of {len(records)})" if count < len(records) else "") for form, count in forms.items()
    ]
    return "; ".join(filter(None, [checkpoints.said, *some[:4]]))


def one_checkpoint(plan: CheckpointPlan, index: int) -> Record | Failure:
    """Load and evaluate checkpoint `index`, in this process."""
    task = _task(plan.task, plan.device)
    net = task.make_net().to(plan.device)
    try:
        form, content = plan.checkpoints.load(index, net)
    except CheckpointError as error:
        return Failure(str(error))
    facts = {"seconds": math.nan, "form": form, "content": content, **versions(plan.device)}
    return Record(evaluate(net, task), {"kind": "checkpoint", "index": index}, facts)


@lru_cache(maxsize=1)
def _task(spec: str, device: str) -> Task:
    return load_task(spec, tried=True).to(device)


WEIGHTS = "weights"
UNSEEN = {  # of either side, what models do not show of themselves
    "retrained": ("that they never saw the forget set", "follow the task's recipe", "are each a draw of their own"),
    "unlearned": ("that they started from the task's original model", "were all made by one method"),
}
SURE, CHANCE = 0.6, 0.5  # share of models that agree on an example; how near to chance, in parts of it, is suspicious
EASIER = 0.1  # by how much the forget set may be easier than the test set
SHOWN = 8  # numbers in a sentence


@dataclass(frozen=True)
class Given:
    """One side, made elsewhere and read."""

    role: str  # unlearned, retrained
    path: Path
    kind: str  # weights, or of a file of numbers what it holds
    records: tuple[Record, ...]
    digest: str
    ordered: str = ""  # by which array the order of the examples was checked

    @property
    def folder_name(self) -> str:
        """Where what belongs to it is kept, in the task's folder."""
        kinds = {"retrained": "retrained", "unlearned": "checkpoints" if self.kind == WEIGHTS else "given"}
        return f"{kinds[self.role]}-{self.digest}"

    @property
    def has_accuracies(self) -> bool:
        """Are retain and test accuracies known?"""
        seen = [record.evaluation for record in self.records]
        return all(math.isfinite(one.retain_accuracy + one.test_accuracy) for one in seen)

    def unverified(self) -> str:
        """What could not be verified, in one sentence."""
        unseen = list(UNSEEN[self.role])
        if self.kind != WEIGHTS:
            order = {"": "their order of examples", "labels": "their order of examples within a class"}
            unseen += [order[self.ordered]] if self.ordered in order else []
            unseen += ["their accuracies"] if self.has_accuracies else []
        what = f"{len(self.records)} {self.role} models were given ({self.path.name}, {self.kind})"
        unknown = "" if self.has_accuracies else ". Their retain and test accuracies are not known"
        return f"{what}; {', '.join(unseen[:-1])} and {unseen[-1]} could not be verified{unknown}"

    def about(self) -> dict:
        """For score.json."""
        reported = {"from": self.path.name, "kind": self.kind, "models": len(self.records), "digest": self.digest}
        return reported | {"order_checked_by": self.ordered or None, "unverified": self.unverified()}


def looks_given(path: Path) -> bool:
    """Is this a file of numbers, rather than checkpoints?"""
    return path.suffix.lower() in ENDINGS and not path.is_dir()


def find_given(grader: Grader, path: Path, role: str, look: bool = True) -> Given:
    """Read one side; with `look`, checkpoints that were not looked at yet are.

    Raises:
        SideError, CheckpointError: it cannot be used; the message names the file.
        ScoreError: fewer than 16 models.
    """
    path = Path(path)
    if looks_given(path):
        found = read_side(path, grader.task)
        identity = {"kind": "given", "task": grader.fingerprint, "file": found.digest}
        records = tuple(Record(one, identity | {"index": k}, {}) for k, one in enumerate(found.evaluations))
        side = Given(role, path, found.kind, records, found.digest, found.ordered)
        said = found.said
    else:
        side, said = _of_checkpoints(grader, path, role, look)
    if look and len(side.records) < LEAST_RUNS:
        raise ScoreError(f"{path} holds {len(side.records)} {role} models; a score needs {LEAST_RUNS} or more")
    if look and said:
        print(f"{'checkpoints' if side.kind == WEIGHTS and role == 'unlearned' else role}: {said}", flush=True)
    return side


def _of_checkpoints(grader: Grader, path: Path, role: str, look: bool) -> tuple[Given, str]:
    checkpoints = Checkpoints.find(path, grader.task.make_net(), retrained=role == "retrained")
    if look and len(checkpoints.names) < LEAST_RUNS:
        raise ScoreError(f"{path} holds {len(checkpoints.names)} {role} models; a score needs {LEAST_RUNS} or more")
    empty = Given(role, path, WEIGHTS, (), checkpoints.digest)
    folder = grader.workspace.of(empty.folder_name)
    if not look:
        return replace(empty, records=tuple(kept_evaluations(grader, checkpoints, folder).values())), ""
    records = evaluate_checkpoints(grader, checkpoints, folder)
    return replace(empty, records=tuple(records.values())), how_read(checkpoints, records)


@dataclass(frozen=True)
class AgainstGiven(Grader):
    """A grader whose retrained models were made elsewhere; the task's own oracles are neither used nor made."""

    given: Given | None = None

    @classmethod
    def like(cls, grader: Grader, path: Path, look: bool = True) -> AgainstGiven:
        """The same task, place and seed, against the retrained models in a file, zip or folder."""
        own = {one.name: getattr(grader, one.name) for one in fields(grader)}
        return cls(**own, given=find_given(grader, path, "retrained", look))

    def more_words(self, verb: str) -> tuple[str, ...]:
        """The models that were given, for the commands that take them."""
        own = ("--retrained", from_here(self.given.path)) if verb in ("grade", "score", "report") else ()
        return (*super().more_words(verb), *own)

    def score_folder(self, name: str) -> Path:
        """Apart from scores against the task's own oracles."""
        return self.workspace.of(f"{name}-against-{self.given.digest}")

    def made_against(self) -> dict:
        """Part of what a score was made from."""
        return {"retrained": self.given.digest}

    def finish_oracles(self, count: int | None = None) -> list[Record]:
        """Those that were given; raises ScoreError if they are too few. The original model is seen to elsewhere."""
        wanted, there = count or self.runs, len(self.given.records)
        if there < wanted:
            fewer = f"give --runs {there}" if count is None else "leave some of the unlearned ones out"
            raise ScoreError(
                f"{self.given.path} holds {many(there, 'retrained model')}, and {wanted} unlearned ones need as many: "
                f"give more of them, or {fewer}"
            )
        return list(self.given.records[:wanted])

    def cached_oracles(self) -> list[Record]:
        """All that were given."""
        return list(self.given.records)

    def original_records(self) -> list[Record]:
        """None where both sides were given and no original model is there: it is not trained to be looked at."""
        return super().original_records() if self.original_file.exists() else []

    def disk_needed(
        self, submission: Named, keep: bool = False, several: Sequence[int] = (), originals: int | None = None
    ) -> str:
        """As of runs alone. Raises OutputError if there is less."""
        super().disk_needed(submission, keep, several, originals)
        return f"{len(self.given.records)} retrained models from {self.given.path}; no oracles are trained"

    def sandbox_of_runs(self) -> Sandbox | None:
        """From which the models that were given are not seen either."""
        box = super().sandbox_of_runs()
        return box and replace(box, hidden=(*box.hidden, str(self.given.path.resolve())))

    def with_further(self, score: Score, runs: dict[int, Record], oracles: list[Record]) -> Score:
        """With what could not be verified."""
        reported = (self.given.unverified(), *suspicions(self.given, self), *_together(self.given, runs, oracles, self))
        return reported_first(super().with_further(score, runs, oracles), reported)

    def about(self) -> dict:
        """Also of the models that were given."""
        return super().about() | {"retrained": self.given.about()}

    def predicted(self, score: Score, submission: Named = "") -> str:
        """None: what was published was graded against other retrained models."""
        return "published scores were measured against the task's own oracles, not against models that were given"


def reported_first(score: Score, reported: tuple[str, ...]) -> Score:
    """The score with these sentences before its other warnings."""
    return replace(score, warnings=tuple(dict.fromkeys((*reported, *score.warnings))))


def grade_given(grader: Grader, path: Path) -> tuple[Score, Path]:
    """Score unlearned models that were made elsewhere, against the grader's retrained ones; their number is N.

    Returns:
        The score and the path of score.json.
    Raises:
        SideError, CheckpointError: they cannot be used; the message names the file.
        ScoreError: fewer than 16, or fewer retrained models than those.
        OutputError: the output folder cannot be used.
    """
    side = find_given(grader, path, "unlearned")  # first: oracles may take hours
    grader = replace(grader, runs=len(side.records))
    _check_two_sides(side, grader)
    grader.finish_oracles()
    _finish_original_unless_dear(grader)
    records, oracles = dict(enumerate(side.records)), grader.cached_oracles()
    score = compute_score(records, oracles, *grader.labels_and_persons, original=grader.original())
    score = grader.with_further(score, records, oracles)
    score = reported_first(
        score, (side.unverified(), *suspicions(side, grader), *_together(side, records, oracles, grader))
    )
    score = replace(score, warnings=score.warnings + grader.other_original())
    folder = score_folder(grader, side)
    about = grader.about() | {"kaggle": as_json(grader.predicted(score)), "seed": None, "unlearned": side.about()}
    kind = "checkpoints" if side.kind == WEIGHTS else "given"
    identity = {"kind": kind, "task": grader.fingerprint, "checkpoints": side.digest, **grader.made_against()}
    about |= {"made_from": identity | {"out": str(folder)}}
    return score, save_score(score, folder, side.path.name, grader.task.name, about)


def score_folder(grader: Grader, side: Given) -> Path:
    """Where the score of unlearned models that were given lies; each original that a user names has its own."""
    original = grader.original_file.stem
    return grader.score_folder(side.folder_name + (f"-{original}" if original != "original" else ""))


def _finish_original_unless_dear(grader: Grader) -> None:
    """With both sides given, the original is only looked at: taken where it is there, never trained for that."""
    if isinstance(grader, AgainstGiven) and grader.task.original is not None:
        grader.finish_originals()


def _check_two_sides(side: Given, grader: Grader) -> None:
    if isinstance(grader, AgainstGiven):
        grader.finish_oracles(len(side.records))
        if side.digest == grader.given.digest or not set(_rows(side, grader)) - set(_rows(grader.given, grader)):
            raise ScoreError(f"{side.path} and {grader.given.path} hold the same models; give one side of each kind")


def _rows(side: Given, grader: Grader) -> list[bytes]:
    return [row.tobytes() for row in confidences(side.records, grader.labels_and_persons[0])]


def suspicions(side: Given, grader: Grader) -> tuple[str, ...]:
    """What in the numbers of a given side speaks against its being what it should be."""
    rows, labels = _rows(side, grader), grader.labels_and_persons[0]
    found = []
    if copies := len(rows) - len(set(rows)):
        found.append(f"{copies} of the {len(rows)} {side.role} models are copies of others among them")
    seen = [record.evaluation for record in side.records]
    if side.kind != WEIGHTS and side.ordered != "image_id" and (text := _odd_order(seen, labels)):
        found.append(f"the {side.role} models {text}")
    if side.role == "retrained" and (text := _saw_it(seen, labels)):
        found.append(f"the retrained models {text}")
    return tuple(found)


def _together(given: Given, runs: dict[int, Record], oracles: list[Record], grader: Grader) -> tuple[str, ...]:
    """Told where numbers were given, and the examples that are hard for one side are not hard for the other.

    Raises:
        ScoreError: they are if the first axis has the examples, which square arrays do not tell.
    """
    if given.kind == WEIGHTS or given.ordered == "image_id":
        return ()
    labels = grader.labels_and_persons[0]
    found = by_means(*(confidences(side, labels) for side in (list(runs.values()), oracles[: len(runs)])))
    if found == "exchanged":
        raise ScoreError(f"{given.path}: the axes seem to be exchanged; numbers must be [models, examples]")
    text = "the two sides do not agree on which examples are hard: are those of the numbers in the forget set's order?"
    return (text,) if found == "unknown" else ()


def _odd_order(seen: list[Evaluation], labels: np.ndarray) -> str:
    """Sure answers that fit the labels by chance only: are the examples in another order?"""
    if not seen[0].forget_logits.shape[1] or len(np.unique(labels)) < 2:
        return ""
    answers = np.stack([one.forget_logits.argmax(axis=1) for one in seen])
    classes = int(max(answers.max(), labels.max())) + 1
    votes = np.stack([np.bincount(column, minlength=classes) for column in answers.T]) / len(answers)  # [E, C]
    right = float((answers == labels).mean())
    chance = float(votes.mean(axis=0) @ np.bincount(labels, minlength=classes)) / len(labels)
    near = chance < SURE and abs(right - chance) < max(CHANCE * chance, 1 / math.sqrt(len(labels)))
    if votes.max(axis=1).mean() < SURE or not near or right > SURE:
        return ""
    return (
        f"agree among themselves and are right on {right:.0%} of the forget set, which is chance: are the examples in "
        "its order? image_id or labels in the file would tell"
    )


def _saw_it(seen: list[Evaluation], labels: np.ndarray) -> str:
    """Retrained models that know the forget set as well as what they were trained on."""
    if not seen[0].forget_logits.shape[1]:
        return ""
    forget = float(np.mean([(one.forget_logits.argmax(axis=1) == labels).mean() for one in seen]))
    retain, test = (float(np.mean([getattr(one, f"{name}_accuracy") for one in seen])) for name in ("retain", "test"))
    if not (forget >= retain and forget > test + EASIER):
        return ""
    others = f"{retain:.0%} of the retain and {test:.0%} of the test set"
    return f"are right on {forget:.0%} of the forget set, {others}: did they see it?"


def write_given(values: object, folder: Path, role: str) -> Path:
    """A side from Python as a file: an array or tensor, or a dict of them by the names that a file has; its path.

    Raises:
        SideError: no numbers. OutputError: the folder cannot be written.
    """
    named = dict(values) if isinstance(values, dict) else {"": values}
    try:
        arrays = {name or "arr_0": as_numbers(one, f"{role} {name or 'models'}") for name, one in named.items()}
    except MetricError as error:
        raise SideError(str(error)) from error
    content = seal(arrays)
    path = folder / f"{role}-{hashlib.sha256(content).hexdigest()[:12]}.npz"
    write_atomically(path, content)
    return path


def path_of(given: object, folder: Path, role: str) -> Path:
    """The path of a side that was given by path or from Python; raises SideError if there is none."""
    if not isinstance(given, str | os.PathLike):
        return write_given(given, folder, role)
    path = Path(given)
    if not path.exists():
        raise SideError(f"{path} does not exist; give a folder or zip of checkpoints, or a .npz of {', '.join(KINDS)}")
    return path
