"""Which of two methods is better, said after the table.

How to run it: python -m local_eval compare fanchuan baseline_finetune --runs 64
"""

from __future__ import annotations

from itertools import combinations

from local_eval.grader import Grader
from local_eval.metric.paired import comparison_of
from local_eval.metric.score import Score, confidences
from local_eval.on_disk import graded_confidences


def tell_pairs(grader: Grader, scores: dict[str, Score]) -> None:
    """Print a line for every two methods: better, worse or cannot tell."""
    labels, persons = grader.labels_and_persons
    oracles = confidences(grader.cached_oracles()[: grader.runs], labels)
    runs = {name: graded_confidences(grader, name) for name in scores}
    for first, second in combinations(scores, 2):
        utilities = scores[first].utility, scores[second].utility
        found = comparison_of(runs[first], runs[second], oracles, persons, utilities)
        print(found.in_words(first, second))
