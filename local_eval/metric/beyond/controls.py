"""The official score where nothing was to be forgotten: on test examples, which no model saw, and on retain examples.

Both sit at their ceiling if a method touches only what it should. A method that adds noise, or wears the network down,
to look like retraining on the forget set shows here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from local_eval.metric.beyond.looks import Looks, Pair
from local_eval.metric.beyond.measure import Kind, Measure, against_chance
from local_eval.metric.metric import MetricError, example_epsilons, forgetting_points

EXAMPLES = 64  # of each sample that are scored: 1 ms each
REPEATS = 4  # perfect pairs that are scored; more take seconds
TEST = Kind(
    key="test_control",
    name="control: test examples",
    worse=-1,
    slight=0.06,
    clear=0.15,
    meaning="forgetting quality of examples that no model saw; its ceiling is perfect, "
    "and below it a method changes more than it should",
)
RETAIN = replace(
    TEST,
    key="retain_control",
    name="control: retain examples",
    meaning="forgetting quality of examples that all models saw; its ceiling is perfect, "
    "and below it what was to be kept has changed",
)


def measures(ours: Looks, theirs: Looks, pairs: Sequence[Pair]) -> list[Measure]:
    """Both; none where the records keep no samples."""
    if not (ours.has_controls and theirs.has_controls):
        return []
    functions = (TEST, lambda a, b: quality(a.test, b.test)), (RETAIN, lambda a, b: quality(a.retain, b.retain))
    found = [against_chance(kind, f, ours, theirs, pairs[:REPEATS]) for kind, f in functions]
    return [measure for measure in found if np.isfinite([measure.value, measure.low, measure.high]).all()]


def quality(unlearned: np.ndarray, retrained: np.ndarray) -> float:
    """Mean points over EXAMPLES evenly spaced columns of confidences [N, K]; undefined ones are passed over."""
    total = unlearned.shape[1]
    kept = np.arange(min(total, EXAMPLES)) * total // min(total, EXAMPLES)
    epsilons = [e for k in kept if (e := _epsilon(unlearned[:, [k]], retrained[:, [k]])) is not None]
    return float(forgetting_points(epsilons, len(unlearned)).mean()) if epsilons else float("nan")


def _epsilon(unlearned: np.ndarray, retrained: np.ndarray) -> float | None:
    try:
        return float(example_epsilons(unlearned, retrained)[0])
    except MetricError:  # where every model answers alike, and at the largest confidence there is
        return None
