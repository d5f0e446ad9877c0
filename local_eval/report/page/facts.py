"""What a page is drawn from: a grading as it lies on disk, and the plain numbers worked out from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from local_eval.metric.given import MetricError
from local_eval.metric.metric import BUCKET, EPSILON_CAP, example_epsilons, forgetting_points
from local_eval.metric.score import confidences
from local_eval.metric.uncertainty.sides import observed_pairs, outlier_runs, read_side
from local_eval.report.page.diagnosis import Gap, gap, some_examples
from local_eval.report.page.method import MethodText
from local_eval.report.result import Result
from local_eval.store.records import SPLITS, Record
from local_eval.tasks.task import Task


@dataclass(frozen=True)
class MeasureRow:
    """One row of the table of further attacks."""

    name: str
    value: str
    perfect: str  # what perfect unlearning gets at this N
    meaning: str


def measures_in(result: Result) -> tuple[MeasureRow, ...]:
    """The rows that a score.json holds under `beyond`, each with name, value, perfect, low, high, words, meaning."""
    return tuple(
        MeasureRow(
            row["name"],
            f"{row['value']:.3f}",
            f"{row['perfect']:.3f} ({row['low']:.3f} to {row['high']:.3f})",
            f"{row['words'].capitalize()}. {row['meaning'][:1].upper()}{row['meaning'][1:]}.",
        )
        for row in result.get("beyond", ())
    )


@dataclass(frozen=True)
class PageSource:
    """One graded method as it lies on disk: its result, and the records of the models that it was made from."""

    result: Result
    unlearned: dict[int, Record]  # by number of the run
    pool: list[Record]  # all oracles; the first N of them are those that the score compares with
    original: Record
    task: Task
    command: str  # with which the grading is made again
    failures: dict[int, str] = field(default_factory=dict)  # why the runs that are missing failed
    others: tuple[Result, ...] = ()  # what else was graded on this task at the same N and seed
    measures: tuple[MeasureRow, ...] = ()
    larger: Result | None = None  # the same models' score at a larger N
    shortened: tuple[str, ...] = ()  # files that the command names without their folders
    method: MethodText | None = None  # None for models that were made elsewhere

    @property
    def retrained(self) -> list[Record]:
        """The oracles that the score compares with."""
        return self.pool[: len(self.unlearned)]


KINDS = ("original", "retrained", "unlearned")


@dataclass(frozen=True)
class Accuracies:
    """Shares of right answers by kind of model; nan where records do not hold them, or a class has no examples."""

    mean: np.ndarray  # [3, 4] by kind and split
    spread: np.ndarray  # [3, 4] sd over models
    by_class: np.ndarray  # [3, 4, C] means
    size: np.ndarray  # int [4, C] examples

    def missing(self) -> list[str]:
        """Kinds of models of which the validation set's and the classes' accuracies were not kept."""
        return [kind for k, kind in enumerate(KINDS) if np.isnan(self.mean[k, SPLITS.index("validation")])]


def accuracies(source: PageSource) -> Accuracies:
    """Work them out for the original, the retrained and the unlearned models."""
    task, classes = source.task, source.task.num_classes
    size = np.stack([np.bincount(task.splits[s].labels.cpu().numpy(), minlength=classes) for s in SPLITS])
    labels = task.forget.labels.cpu().numpy()
    kinds = [[source.original], source.retrained, list(source.unlearned.values())]
    found = [_of_kind(records, size, labels) for records in kinds]
    return Accuracies(*(np.stack(part) for part in zip(*found)), size)


def _of_kind(records: Sequence[Record], size: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean [4], sd [4] over models, and means by class [4, C]."""
    right = np.stack([right_answers(r, labels, size.shape[1]) for r in records])  # [n, 4, C]
    each = right.sum(axis=2) / np.maximum(size.sum(axis=1), 1)
    each[:, SPLITS.index("retain")] = [r.evaluation.retain_accuracy for r in records]
    each[:, SPLITS.index("test")] = [r.evaluation.test_accuracy for r in records]
    by_class = np.where(size > 0, right.mean(axis=0) / np.maximum(size, 1), np.nan)
    return each.mean(axis=0), each.std(axis=0), by_class


def right_answers(record: Record, labels: np.ndarray, classes: int) -> np.ndarray:
    """float [4, C]: right answers by split and class; nan where not kept, as only the forget set always is."""
    evaluation = record.evaluation
    if evaluation.controls is not None:
        return evaluation.controls.right.astype(float)
    found = np.full((len(SPLITS), classes), np.nan)
    if not evaluation.forget_logits.shape[1]:  # given as confidences
        return found
    hits = labels[evaluation.forget_logits.argmax(axis=1) == labels]
    found[SPLITS.index("forget")] = np.bincount(hits, minlength=classes)
    return found


@dataclass(frozen=True)
class Bins:
    """The official bins of epsilon. The last two entries are beyond the last bin, and at the cap of 50."""

    edges: np.ndarray  # [B + 1]
    weight: np.ndarray  # [B + 2] points that an example in it earns
    count: np.ndarray  # int [B + 2] examples
    brought: np.ndarray  # [B + 2] what they add to the forgetting quality
    chance: np.ndarray | None  # [B + 2] share of examples of retrained against retrained; None if that is not known
    chance_runs: int  # models a side of that


@dataclass(frozen=True)
class Facts:
    """All that the figures and words of a page need. E examples, N models a side."""

    result: Result
    source: PageSource
    labels: np.ndarray  # [E]
    persons: np.ndarray  # [E]
    image_ids: np.ndarray  # [E]
    ours: np.ndarray  # [N, E] confidences of the unlearned models
    theirs: np.ndarray  # [N, E] of the retrained
    before: np.ndarray  # [E] of the original
    epsilons: np.ndarray  # [E]
    points: np.ndarray  # [E]
    bins: Bins
    shift: np.ndarray  # [E] in sd of retrained, outlier runs left out
    log_ratio: np.ndarray  # [E] log of the spread, unlearned over retrained
    outliers: tuple[int, ...]  # numbers of the runs that lie far from all others
    outlier_oracles: int
    gap: Gap | None  # None where nothing can be repaired
    accuracies: Accuracies
    seconds: dict[int, float]  # by run; empty where unknown

    @property
    def models(self) -> int:
        """N."""
        return len(self.ours)

    @property
    def level(self) -> str:
        """Of the interval, in words; earlier versions did not say."""
        return f"{100 * self.result.get('interval_level', 0.95):.0f}\u00a0%"

    @property
    def utility(self) -> float:
        """What forgetting quality is multiplied by."""
        return self.result.utility

    @property
    def shares(self) -> tuple[float, float, float]:
        """Forgetting quality and the ends of its interval as shares of the ceiling, which is forgetting quality, too.

        Nan without a ceiling; ends are nan where nothing is left of accuracy, since score.json has those of the score.
        """
        ends = (value / self.utility if self.utility else float("nan") for value in self.result["interval"])
        ceiling = self.result["ceiling"] or float("nan")
        return tuple(value / ceiling for value in (self.result["forgetting_quality"], *ends))

    @property
    def projected_shares(self) -> tuple[float, float, float] | None:
        """The same, projected to the official N; None where it is that already or cannot be projected."""
        if not (found := self.result["projected"]) or not self.result["ceiling"]:
            return None
        return tuple(found[key] / self.result["ceiling"] for key in ("value", "low", "high"))

    def ranked(self) -> np.ndarray:
        """int [E]: examples from the easiest, of the smallest epsilon, to the hardest."""
        return np.argsort(self.epsilons, kind="stable")


def gather(source: PageSource) -> Facts:
    """Work out the numbers. Raises MetricError for confidences that cannot be scored."""
    forget = source.task.forget
    labels, persons = forget.labels.cpu().numpy(), forget.person_id.cpu().numpy()
    numbers = sorted(source.unlearned)
    ours = confidences([source.unlearned[k] for k in numbers], labels)
    pool = confidences(source.pool, labels)
    theirs, epsilons = pool[: len(ours)], np.array(source.result["epsilons"], dtype=np.float64)
    pair = observed_pairs(read_side(ours), read_side(theirs))
    return Facts(
        result=source.result,
        source=source,
        labels=labels,
        persons=persons,
        image_ids=forget.image_id.cpu().numpy(),
        ours=ours,
        theirs=theirs,
        before=confidences([source.original], labels)[0],
        epsilons=epsilons,
        points=forgetting_points(epsilons, len(ours)),
        bins=bins_of(epsilons, pool, len(ours)),
        shift=pair[:, 0],
        log_ratio=pair[:, 1],
        outliers=tuple(numbers[k] for k in np.flatnonzero(outlier_runs(ours))),
        outlier_oracles=int(outlier_runs(theirs).sum()),
        gap=gap_of(source.result, ours, theirs),
        accuracies=accuracies(source),
        seconds=seconds_of(source.unlearned),
    )


def last_edge(models: int) -> float:
    """Where the last bin of epsilon that earns points ends."""
    return float(np.ceil(np.log(models - 1)))


def bins_of(epsilons: np.ndarray, pool: np.ndarray, models: int) -> Bins:
    """Count epsilons [E] in the official bins, and those of one half of the pool [M, E] against the other."""
    edges = np.arange(0, last_edge(models) + BUCKET / 2, BUCKET)
    middles = np.append(edges[:-1] + BUCKET / 2, [edges[-1] + BUCKET / 2, EPSILON_CAP])
    weight, count = forgetting_points(middles, models), counted(epsilons, edges)
    chance, half = None, min(len(pool) // 2, models)
    if half >= 2:
        some = pool[: 2 * half, some_examples(half, pool.shape[1])]
        by_chance = counted(example_epsilons(some[::2], some[1::2]), edges)
        chance = by_chance / by_chance.sum()
    return Bins(edges, weight, count, count * weight / len(epsilons), chance, half)


def counted(epsilons: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """int [B + 2]: how many lie in each bin, beyond the last one, and at the cap."""
    capped = epsilons >= EPSILON_CAP
    places = np.minimum(np.floor(epsilons[~capped] / BUCKET).astype(int), len(edges) - 1)
    return np.append(np.bincount(places, minlength=len(edges)), capped.sum())


def gap_of(result: Result, ours: np.ndarray, theirs: np.ndarray) -> Gap | None:
    """What repairs would bring; None if all runs are identical or what is repaired cannot be scored."""
    if (np.ptp(ours, axis=0) == 0).all():
        return None
    try:
        return gap(ours, theirs, result["forgetting_quality"], result.utility)
    except MetricError:
        return None


def seconds_of(runs: dict[int, Record]) -> dict[int, float]:
    """Seconds by number of the run; empty for models that were made elsewhere."""
    found = {k: run.facts.get("seconds", float("nan")) for k, run in sorted(runs.items())}
    return {k: s for k, s in found.items() if np.isfinite(s)}


def spread_out(count: int, most: int) -> np.ndarray:
    """int [<= most]: which of `count` things are shown: all, or so many, evenly spaced."""
    kept = min(count, most)
    return np.arange(kept) * count // max(kept, 1)


def standing(result: Result, others: Sequence[Result]) -> list[Result]:
    """This method and the others, best score first."""
    return sorted([result, *others], key=lambda s: (-s["score"], s["submission"]))
