"""What a handful of runs can tell: accuracies, attacks that need few models, shift and spread. No score.

Shift and spread ratio are taken over all forget examples together, with the noise of so few runs taken out of them, and
come with the standard error that leaving out one run at a time shows.

How to run it: python -m local_eval quick fanchuan
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import digamma

from local_eval.metric.few_models import OFFLINE_A, attacked_auc, can_be_attacked, iam, rmia, tuned_a
from local_eval.metric.measures import Labels, ModelOutputs, attacked
from local_eval.metric.score import ScoreError
from local_eval.store.errors import many
from local_eval.store.records import Record

FEWEST = 3  # runs; of fewer there is no spread to speak of, and no error of it
ATTACKED = 8  # models a side that the starting kit's attack is tried on
LEAST_SPREAD = 1e-6
SHIFTED, NARROW, WIDE = 0.3, 0.85, 1.15  # beyond these a third of the points is lost at N = 512


@dataclass(frozen=True)
class Column:
    """One kind of models: mean accuracies as shares, and what attacks get, None where no test examples are kept."""

    retain: float
    forget: float
    test: float
    attack: float | None
    rmia: float | None = None  # AUC with one retrained model as reference, forget against test examples
    iam: float | None = None


@dataclass(frozen=True)
class QuickLook:
    """The numbers; shift in sd of retrained models, spread as a ratio to theirs, each with its standard error."""

    unlearned: Column
    retrained: Column
    original: Column
    shift: tuple[float, float]
    ratio: tuple[float, float]
    seconds: float  # a run's, in the middle

    @property
    def words(self) -> str:
        """What would hold a score back, as far as it is seen."""
        (shift, shift_error), (ratio, ratio_error) = self.shift, self.ratio
        found = ["shifted"] if shift - shift_error > SHIFTED else []
        found += ["too narrow"] if ratio + ratio_error < NARROW else ["too wide"] if ratio - ratio_error > WIDE else []
        return " and ".join(found) or "neither a shift nor another spread is seen with so few runs"


def quick_look(runs: Sequence[Record], oracles: Sequence[Record], original: Record, labels: Labels) -> QuickLook:
    """Look at a few runs beside the oracles.

    Raises:
        ScoreError: fewer than 3 runs or oracles.
        MetricError: logits that are not finite.
    """
    if min(len(runs), len(oracles)) < FEWEST:
        raise ScoreError(
            f"{many(min(len(runs), len(oracles)), 'run')} cannot show a spread: give at least --runs {FEWEST}"
        )
    ours, theirs, start = (ModelOutputs.of(records, labels) for records in (runs, oracles, [original]))
    next_ones = theirs[np.roll(np.arange(len(theirs)), -1)]  # no oracle is its own reference
    again = start[np.zeros(min(len(theirs), ATTACKED), np.int64)]  # the original, with one reference after the other
    a = tuned_a(start, theirs) if can_be_attacked(start) and can_be_attacked(theirs) else OFFLINE_A
    every = shift_and_ratio(ours.forget, theirs.forget)
    without = np.array([shift_and_ratio(np.delete(ours.forget, k, axis=0), theirs.forget) for k in range(len(ours))])
    errors = without.std(axis=0) * np.sqrt(len(ours) - 1)  # jackknife
    shift, ratio = zip(every, errors.tolist())
    seconds = float(np.median([run.facts["seconds"] for run in runs]))
    columns = (_column(ours, theirs, a), _column(theirs, next_ones, a), _column(again, theirs, a))
    return QuickLook(*columns, shift, ratio, seconds)


def shift_and_ratio(unlearned: np.ndarray, retrained: np.ndarray) -> tuple[float, float]:
    """Size of the shift in sd of retrained models, and ratio of the spreads, over all examples of [n, E] and [m, E].

    The shift is the root of the mean square, less what noise adds to it; the ratio a geometric mean, unbiased for
    normal confidences.
    """
    counts = len(unlearned), len(retrained)
    spreads = [np.maximum(side.std(axis=0, ddof=1), LEAST_SPREAD) for side in (unlearned, retrained)]
    shifts = (unlearned.mean(axis=0) - retrained.mean(axis=0)) / spreads[1]
    noise = (spreads[0] / spreads[1]) ** 2 / counts[0] + 1 / counts[1]
    logs = [np.log(spread) - _log_bias(count) for spread, count in zip(spreads, counts)]
    return float(np.sqrt(max((shifts**2 - noise).mean(), 0.0))), float(np.exp((logs[0] - logs[1]).mean()))


def _log_bias(count: int) -> float:
    """By how much the logarithm of the sd of `count` normal values is off on average."""
    return (digamma((count - 1) / 2) - np.log((count - 1) / 2)) / 2


def _column(models: ModelOutputs, references: ModelOutputs, a: float) -> Column:
    """Of models, each with a reference of its own; `a` is RMIA's share of what a reference says."""
    some = models[:ATTACKED]
    attack = float(attacked(some).mean()) if models.has_controls else None
    few = [None, None]
    if can_be_attacked(models) and can_be_attacked(references):
        few = [attacked_auc(one, some, references) for one in (partial(rmia, a=a), iam)]
    return Column(*(float(share) for share in models.accuracies.mean(axis=0)), attack, *few)
