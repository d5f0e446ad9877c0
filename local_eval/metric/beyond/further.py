"""All further measures of a grading, as a list: the second table.

How it is used: `further_measures(unlearned, oracles, Labels.of(task))`, by `grade` and `score`.
"""

from __future__ import annotations

from collections.abc import Sequence

from local_eval.engine.records import Record
from local_eval.metric.beyond import (
    audited,
    controls,
    distances,
    klom,
    likelihood,
    pooled,
    simple_attack,
    tug_of_war,
)
from local_eval.metric.beyond.looks import Labels, Looks, perfect_pairs
from local_eval.metric.beyond.measure import Measure

FAMILIES = (likelihood, klom, distances, audited, pooled, controls, simple_attack, tug_of_war)
REPEATS = 6  # perfect pairs; more make the words a little firmer and all of it slower
SHOWN = ("lira_accuracy", "klom", "test_control")  # on the console; all are in score.json and in the report


def further_measures(unlearned: Sequence[Record], oracles: Sequence[Record], labels: Labels) -> list[Measure]:
    """Every measure that the records allow.

    Args:
        unlearned: N finished runs.
        oracles: at least N; the first N are compared with the runs, all of them say what is perfect.
    Raises:
        MetricError: logits that are not finite.
    """
    ours, pool = Looks.of(unlearned, labels), Looks.of(oracles, labels)
    pairs = perfect_pairs(pool, len(ours), REPEATS)
    theirs = pool[: len(ours)]
    return [measure for family in FAMILIES for measure in family.measures(ours, theirs, pairs)]
