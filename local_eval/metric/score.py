"""From evaluated models to the score, its interval and its ceiling; and how far scores of several seeds scatter.

    score = forgetting quality x RA_unlearned / RA_retrained x TA_unlearned / TA_retrained

RA and TA are mean accuracies on the retain and the test set. The ratios are not clipped at 1, as officially. Perfect
unlearning scores about 0.18, not 1, so the ceiling, measured on the oracles themselves, always stands beside the score.

How to run this stage: python -m local_eval score fanchuan --task digits --runs 64
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from local_eval.metric.measures import Measure
from local_eval.metric.metric import (
    EPSILON_CAP,
    LEAST_RUNS,
    confidences_in,
    confidences_of,
    example_epsilons,
    forgetting_points,
    quality_of,
)
from local_eval.metric.uncertainty.interval import ScoreInterval, ceiling_interval, interval_around, numbered
from local_eval.metric.uncertainty.projection import Projection, ProjectionError, projection_of
from local_eval.metric.warnings import ScoreWarning, ahead, far_original, find_warnings, weak_original
from local_eval.store.errors import InputError
from local_eval.store.lines import in_notebook
from local_eval.store.records import SPLITS, Evaluation, Record
from local_eval.tasks.task import Task

# A whole class that is to be forgotten: accuracies on the forgotten and on the kept classes, each by itself.
#
# A class counts as forgotten if the forget set has it and the retain set has no example of it. Oracles never saw it
# and answer none of its test examples rightly. So the official test accuracy ratio, over all classes, rewards a
# method that still knows the class: its test accuracy is above the oracles'. The official score stays as it is; these
# numbers stand beside it.


Shares = dict[str, dict[str, float | None]]  # by split, then "forgotten" and "kept"; None without an example


@dataclass(frozen=True)
class ForgottenClasses:
    """Accuracies, shares 0 to 1, means over models, by split and kind of class."""

    classes: tuple[int, ...]
    unlearned: Shares
    oracles: Shares
    original: Shares | None  # None where runs start from several


def classes_forgotten(task: Task) -> list[int]:
    """Classes that the forget set has and the retain set has not."""
    kept, gone = (_counts(task)[SPLITS.index(name)] for name in ("retain", "forget"))
    return np.flatnonzero((gone > 0) & (kept == 0)).tolist()


def forgotten_classes(
    unlearned: Sequence[Evaluation], oracles: Sequence[Evaluation], original: Evaluation | None, task: Task
) -> ForgottenClasses | None:
    """None where no whole class is to be forgotten, or where records do not hold right answers by class."""
    gone = classes_forgotten(task)
    every = [*unlearned, *oracles, *([original] if original else [])]
    if not gone or any(one.controls is None for one in every):
        return None
    sizes = _counts(task)
    found = [_shares(side, gone, sizes) for side in (unlearned, oracles)]
    return ForgottenClasses(tuple(gone), *found, _shares([original], gone, sizes) if original else None)


def _shares(models: Sequence[Evaluation], gone: list[int], sizes: np.ndarray) -> Shares:
    right = np.mean([one.controls.right for one in models], axis=0)  # [4, C]
    is_gone = np.isin(np.arange(sizes.shape[1]), gone)
    return {
        split: {kind: _share(right[s, which], sizes[s, which]) for kind, which in _kinds(is_gone)}
        for s, split in enumerate(SPLITS)
    }


def _kinds(is_gone: np.ndarray) -> tuple[tuple[str, np.ndarray], ...]:
    return ("forgotten", is_gone), ("kept", ~is_gone)


def _share(right: np.ndarray, size: np.ndarray) -> float | None:
    return float(right.sum() / size.sum()) if size.sum() else None


def kept_test_accuracy(models: Sequence[Evaluation], task: Task) -> tuple[np.ndarray, int] | None:
    """Test accuracy [n] of each model on the classes that the retain set has, and on how many examples.

    With no class forgotten that is the test accuracy. None where the records cannot tell.
    """
    gone, sizes = classes_forgotten(task), _counts(task)[SPLITS.index("test")]
    if not gone:
        return np.array([one.test_accuracy for one in models]), int(sizes.sum())
    kept = np.setdiff1d(np.arange(len(sizes)), gone)
    if any(one.controls is None for one in models) or not sizes[kept].sum():
        return None
    right = np.array([one.controls.right[SPLITS.index("test"), kept].sum() for one in models])
    return right / sizes[kept].sum(), int(sizes[kept].sum())


def _counts(task: Task) -> np.ndarray:
    """int [4, C]: examples by split and class."""
    labels = [task.splits[name].labels.cpu().numpy() for name in SPLITS]
    return np.stack([np.bincount(one, minlength=task.num_classes) for one in labels])


OFFICIAL_RUNS = 512
BUDGET_SECONDS = 8 * 3600 / OFFICIAL_RUNS  # 56.25 s a run on Kaggle's GPU
CEILING_SPLITS = 8
KIND_DRAWS = 199  # ways to mix two pools, beside the one that they are


class ScoreError(InputError):
    """There is nothing to score; the message says what is missing and how to get it."""


@dataclass(frozen=True)
class Score:
    """One graded submission. Accuracies are shares, times seconds."""

    score: float  # nan where accuracies are not known, of models that were made elsewhere; and all that rests on it
    interval: tuple[float, float]  # 90 %: the score that another draw of as many runs and oracles would get
    forgetting_quality: float
    ceiling: float  # forgetting quality of oracles against oracles
    ceiling_runs: int  # models on each side of it: `runs`, or half the pool if that is fewer
    retain_accuracy: float
    retain_accuracy_ratio: float
    test_accuracy: float
    test_accuracy_ratio: float
    oracle_retain_accuracy: float
    oracle_test_accuracy: float
    share_at_cap: float  # of forget examples at epsilon 50
    runs: int
    missing: tuple[int, ...]  # runs that failed and were left out on request
    seconds_per_run: float
    epsilons: np.ndarray  # [E]
    warnings: tuple[str, ...]
    projected: Projection | None = None  # forgetting quality at the official N; None if N is that, or it cannot be told
    not_projected: str = ""  # why it cannot
    within_budget: bool | None = None  # None where no limit was asked for
    over_budget: tuple[int, ...] = ()  # runs that took longer than their share of the limit
    measures: tuple[Measure, ...] = ()  # further measures, beside the official attack
    drawn_again: ScoreInterval | None = None  # the interval of the forgetting quality, with what it is made of
    ceiling_interval: tuple[float, float] = (0.0, 1.0)  # 90 %: the ceiling that another pool of oracles would give
    warning_details: tuple[ScoreWarning, ...] = ()  # those of the warnings that rest on the confidences and accuracies
    forgotten: ForgottenClasses | None = None  # where a whole class is to be forgotten

    def __str__(self) -> str:
        """Five lines: the score and its interval, its factors, the ceiling, what is projected, what to beware of."""
        ends = "{:.4f} to {:.4f}".format
        quality, ceiling = f"forgetting quality {self.forgetting_quality:.4f}", ends(*self.ceiling_interval)
        if self.is_known:
            first = f"score {self.score:.4f} at N = {self.runs}, 90 % interval {ends(*self.interval)}"
            second = f"{quality} x retain accuracy ratio {self.retain_accuracy_ratio:.4f} x test accuracy ratio "
            second += f"{self.test_accuracy_ratio:.4f}"
        else:
            first, second = f"{quality} at N = {self.runs}", "accuracies are not known, so there is no score"
        third = f"ceiling {self.ceiling:.4f} ({ceiling}), which retraining itself gets; the quality is "
        third += f"{self.quality_over_ceiling:.2f} of it"
        return "\n".join([first, second, third, self._in_the_end(), self._warned()])

    def _in_the_end(self) -> str:
        if self.projected is None:
            return self.not_projected or f"N = {self.runs} is the official one or more: nothing is projected"
        factor, what = (self.utility, "score") if self.is_known else (1.0, "forgetting quality")
        value, low, high = (factor * x for x in (self.projected.value, self.projected.low, self.projected.high))
        return f"{what} at N = {self.projected.models}, projected: {value:.4f}, 90 % interval {low:.4f} to {high:.4f}"

    def _warned(self) -> str:
        if not self.warnings:
            return "no warnings"
        more = "" if len(self.warnings) == 1 else f" (and {len(self.warnings) - 1} more in `warnings`)"
        return f"warning: {self.warnings[0]}{more}"

    def _repr_html_(self) -> str:
        return in_notebook(str(self))

    @property
    def is_known(self) -> bool:
        """Are the accuracies, and so the score, known? If not, the forgetting quality is all that there is."""
        return bool(np.isfinite(self.score))

    @property
    def utility(self) -> float:
        """What forgetting quality is multiplied by."""
        return self.retain_accuracy_ratio * self.test_accuracy_ratio

    @property
    def quality_over_ceiling(self) -> float:
        """Forgetting quality beside that of retraining, without accuracies; 1 is as good, within noise."""
        return self.forgetting_quality / self.ceiling if self.ceiling else float("nan")

    @property
    def score_over_ceiling(self) -> float:
        """The same with the accuracy ratios, as earlier versions showed it."""
        return self.score / self.ceiling if self.ceiling else float("nan")


def held_to_budget(score: Score, seconds: dict[int, float], hours: float) -> Score:
    """The score with its runs, by their seconds on this machine, held to a limit in hours for the official 512."""
    if not hours > 0:
        raise ScoreError(f"--budget-hours {hours:g} is no limit; the competition's is 8")
    share = hours * 3600 / OFFICIAL_RUNS
    late = tuple(index for index, taken in sorted(seconds.items()) if taken > share)
    return replace(score, over_budget=late, within_budget=float(np.mean(list(seconds.values()))) <= share)


def check_runs(runs: int) -> None:
    """Raise ScoreError for a number of runs that cannot give a usable score."""
    if runs < LEAST_RUNS:
        raise ScoreError(
            f"--runs {runs} is too few: below {LEAST_RUNS} the metric ranks methods wrongly. "
            "Use 64 for screening, 512 to compare"
        )


def compute_score(
    unlearned: dict[int, Record] | Sequence[Record],
    oracles: Sequence[Record],
    labels: np.ndarray,
    persons: np.ndarray,
    missing: Sequence[int] = (),
    original: Evaluation | None = None,
) -> Score:
    """Score N unlearned models against N oracles.

    Args:
        unlearned: the finished runs, by index or from 0; as many oracles, from the front, are compared with them.
        labels, persons: [E] class and person of every forget example.
        missing: indices of failed runs that are left out.
        original: how the original model does, if all runs started from one; then it is looked at, too.
    Raises:
        ScoreError: fewer than 16 runs, or fewer oracles than runs.
        MetricError: confidences that cannot be scored.
    """
    unlearned = unlearned if isinstance(unlearned, dict) else dict(enumerate(unlearned))
    runs = [unlearned[i] for i in sorted(unlearned)]
    check_runs(len(runs))
    if len(oracles) < len(runs):
        raise ScoreError(f"{len(runs)} runs need as many oracles, and there are {len(oracles)}")
    ours, pool = confidences(runs, labels), confidences(oracles, labels)
    theirs = pool[: len(runs)]
    epsilons = example_epsilons(ours, theirs)
    points = forgetting_points(epsilons, len(runs))
    quality, ceiling = float(points.mean()), pool_ceiling(pool, most=len(runs))
    accuracies = accuracy_fields(runs, oracles[: len(runs)])
    utility = accuracies["retain_accuracy_ratio"] * accuracies["test_accuracy_ratio"]
    found = find_warnings(ours, theirs, sorted(unlearned), quality, ceiling)
    if original is not None:
        found += original_warnings(original, theirs, labels, accuracies)
    return Score(
        score=quality * utility,
        forgetting_quality=quality,
        ceiling=ceiling,
        share_at_cap=float((epsilons >= EPSILON_CAP).mean()),
        runs=len(runs),
        missing=tuple(missing),
        seconds_per_run=float(np.median([run.facts.get("seconds", np.nan) for run in runs])),
        epsilons=epsilons,
        warnings=(*(one.text for one in found), *made_differently(runs, oracles[: len(runs)])),
        warning_details=tuple(found),
        **accuracies,
        **interval_fields(points, ours, pool, persons, utility, ceiling),
        **projected(ours, pool, persons),
    )


def accuracy_fields(runs: Sequence[Record], oracles: Sequence[Record]) -> dict[str, float]:
    """The fields of a score that say how often N runs and N oracles are right."""
    (ra, ta), (oracle_ra, oracle_ta) = mean_accuracies(runs), mean_accuracies(oracles)
    return {
        "retain_accuracy": ra,
        "retain_accuracy_ratio": ra / oracle_ra,
        "test_accuracy": ta,
        "test_accuracy_ratio": ta / oracle_ta,
        "oracle_retain_accuracy": oracle_ra,
        "oracle_test_accuracy": oracle_ta,
    }


def interval_fields(
    points: np.ndarray, ours: np.ndarray, pool: np.ndarray, persons: np.ndarray, utility: float, ceiling: float
) -> dict[str, object]:
    """The fields of a score that say how sure it and its ceiling are.

    Args:
        points, persons: [E].
        ours, pool: [N, E] and [M, E] confidences of the runs and of all oracles.
    """
    person, half = numbered(persons, len(points)), min(len(pool) // 2, len(ours))
    drawn_again = interval_around(points, ours, pool, person)
    return {
        "interval": (drawn_again.low * utility, drawn_again.high * utility),
        "drawn_again": drawn_again,
        "ceiling_runs": half,
        "ceiling_interval": ceiling_interval(ceiling, pool, person, half, CEILING_SPLITS),
    }


def with_accuracies(
    score: Score, unlearned: Sequence[Record], oracles: Sequence[Record], original: Evaluation | None, task: Task
) -> Score:
    """The score with what accuracies tell that only the task's labels can say.

    That is whether the original or the runs are clearly better than the oracles, and where a whole class is to be
    forgotten, accuracies on it and on the kept classes. The score itself stays as it is.

    Args:
        unlearned: the runs that were scored.
        oracles: at least as many; the first so many were compared with the runs.
        original: if all runs started from one.
    """
    sides = [[record.evaluation for record in some] for some in (unlearned, oracles[: len(unlearned)])]
    found = [ahead("submission", _accuracies(*sides, task))]
    if original is not None:
        found.insert(0, ahead("original", _accuracies([original], sides[1], task)))
    found = [one for one in found if one]
    return replace(
        score,
        warning_details=(*score.warning_details, *found),
        warnings=(*score.warnings, *(one.text for one in found)),
        forgotten=forgotten_classes(*sides, original, task),
    )


def _accuracies(ours: list[Evaluation], theirs: list[Evaluation], task: Task) -> dict:
    """By set: mean accuracy of ours, accuracies of theirs [N], examples; on the test set of classes that are kept."""
    retain = [np.array([one.retain_accuracy for one in side]) for side in (ours, theirs)]
    found = {"retain": (float(retain[0].mean()), retain[1], len(task.retain))}
    test = [kept_test_accuracy(side, task) for side in (ours, theirs)]
    if None not in test:
        found["test"] = (float(test[0][0].mean()), test[1][0], test[0][1])
    return found


def projected(unlearned: np.ndarray, retrained: np.ndarray, persons: np.ndarray) -> dict:
    """The fields of a score that say what the official N would give, from confidences at a smaller one.

    Of the retrained models [M, E] all are used, also those beyond N: they make the estimate surer.
    """
    if len(unlearned) >= OFFICIAL_RUNS:
        return {}
    try:
        return {"projected": projection_of(unlearned, retrained, OFFICIAL_RUNS, persons)}
    except ProjectionError as error:
        return {"not_projected": str(error)}


def confidences(records: Sequence[Record], labels: np.ndarray) -> np.ndarray:
    """Logit-scaled confidences [N, E] of the forget set under every model."""
    return confidences_in([r.evaluation for r in records], labels)


def mean_accuracies(records: Sequence[Record]) -> tuple[float, float]:
    """Mean retain and test accuracy."""
    pairs = [(r.evaluation.retain_accuracy, r.evaluation.test_accuracy) for r in records]
    ra, ta = np.mean(pairs, axis=0)
    return float(ra), float(ta)


def pool_ceiling(oracles: np.ndarray, most: int = OFFICIAL_RUNS, splits: int = CEILING_SPLITS) -> float:
    """What perfect unlearning gets: oracles [M, E] against oracles, averaged over several ways to halve the pool.

    The halves are disjoint and of at most `most` models, so a pool of twice as many gives the ceiling at the score's N.
    """
    half, total = min(len(oracles) // 2, most), 0.0
    rng = np.random.default_rng(0)
    for _ in range(splits):
        order = rng.permutation(len(oracles))
        total += quality_of(oracles[order[:half]], oracles[order[half : 2 * half]])
    return total / splits


def chances_of_one_kind(one: Sequence[Evaluation], other: Sequence[Evaluation], labels: np.ndarray) -> dict[str, float]:
    """How often models drawn at random from both pools differ as much as the pools do, 1 / 200 to 1, by what is scored.

    A permutation test of whether both pools are of one kind: by forgetting quality, which falls where an attack tells
    them apart, and by the difference of either mean accuracy. Of pools of one kind, each is below x with chance x.
    """
    both = [*one, *other]
    confidences = confidences_in(both, labels)
    right = np.array([(each.retain_accuracy, each.test_accuracy) for each in both])
    rng, far = np.random.default_rng(0), []
    orders = [np.arange(len(both)), *(rng.permutation(len(both)) for _ in range(KIND_DRAWS))]
    for order in orders:
        first, second = order[: len(one)], order[len(one) :]
        gaps = abs(right[first].mean(axis=0) - right[second].mean(axis=0))
        far.append((-quality_of(confidences[first], confidences[second]), *gaps))
    as_far = (np.array(far) >= np.array(far[0]) - 1e-12).mean(axis=0)
    return dict(zip(("forgetting quality", "retain accuracy", "test accuracy"), map(float, as_far)))


def original_warnings(
    original: Evaluation, retrained: np.ndarray, labels: np.ndarray, accuracies: dict[str, float]
) -> list[ScoreWarning]:
    """What is to be known of the one original model that all runs started from; retrained [N, E] confidences."""
    start = confidences_of(original.forget_logits[None], labels)[0]
    found = [far_original(start, retrained)]
    oracles = accuracies["oracle_retain_accuracy"], accuracies["oracle_test_accuracy"]
    if np.isfinite(oracles).all():
        found.append(weak_original(original, *oracles))
    return [one for one in found if one]


def made_differently(runs: Sequence[Record], oracles: Sequence[Record]) -> list[str]:
    """Warnings about models that were made with different devices or libraries."""
    found = []
    # Oracles that come with a task were made with another torch; within the runs, and within the oracles, one is due.
    groups = (("models", [*runs, *oracles], "device"), ("runs", runs, "torch"), ("oracles", oracles, "torch"))
    for what, models, key in groups:
        seen = sorted({r.facts[key] for r in models if key in r.facts})  # numbers made elsewhere do not say
        if len(seen) > 1:
            found.append(f"{what} were made with different {key}: {', '.join(seen)}")
    return found


# Scores of one method with several seeds: how far they scatter is how far to trust one of them.
#
# Each seed's runs are compared with oracles of their own where the pool has enough for all, since another draw of the
# method's runs is one thing and another draw of the oracles the other. Shared oracles hide none of the variance of a
# method that is near perfect, and half of others'; `python -m studies.tiers` measures that.


@dataclass(frozen=True)
class Repeats:
    """Scores by seed."""

    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    oracles: str  # "disjoint" or "shared"

    @property
    def mean(self) -> float:
        """Of the scores."""
        return float(np.mean(self.scores))

    @property
    def deviation(self) -> float:
        """Standard deviation of the scores: of one score, not of their mean."""
        return float(np.std(self.scores, ddof=1))


def repeats(by_seed: dict[int, Sequence[Record]], oracles: Sequence[Record], runs: int, labels: np.ndarray) -> Repeats:
    """Score the runs of every seed.

    Args:
        by_seed: at least two seeds and their finished runs, at most `runs` each.
        oracles: at least `runs`; where there are enough, seed number k is compared with the k-th `runs` of them.
        labels: [E] of the forget set.
    Raises:
        MetricError: confidences that cannot be scored.
    """
    disjoint = len(oracles) >= runs * len(by_seed)
    starts = [k * runs if disjoint else 0 for k in range(len(by_seed))]
    scores = [
        plain_score(records, oracles[start : start + len(records)], labels)
        for start, records in zip(starts, by_seed.values())
    ]
    return Repeats(tuple(by_seed), tuple(scores), "disjoint" if disjoint else "shared")


def plain_score(runs: Sequence[Record], oracles: Sequence[Record], labels: np.ndarray) -> float:
    """The score of N runs against N oracles, without all that stands beside it."""
    (ra, ta), (oracle_ra, oracle_ta) = mean_accuracies(runs), mean_accuracies(oracles)
    quality = quality_of(confidences(runs, labels), confidences(oracles, labels))
    return quality * (ra / oracle_ra) * (ta / oracle_ta)
