"""The starting kit's attack: a logistic regression on one model's losses, forget examples against test examples.

As there, both sets are cut to the same size and the accuracy is the mean over ten random splits, with the same splits.
Retrained models, not one half, say what is perfect: forget and test examples may differ in how hard they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit

from local_eval.metric.beyond.looks import Looks, Pair
from local_eval.metric.beyond.measure import Kind, Measure, judged

SPLITS = 10
FEWEST = 10  # examples of a set, so that ten splits differ
MOST, LEAST = 16, 4  # models a side that are attacked, a quarter of them: each takes 20 ms
SIMPLE = Kind(
    key="simple_attack",
    name="starting kit's attack",
    worse=0,
    slight=0.02,
    clear=0.05,
    meaning="accuracy of telling forget from test examples by the loss; perfect is what retrained models get",
)


def measures(ours: Looks, theirs: Looks, pairs: Sequence[Pair] = ()) -> list[Measure]:
    """The mean over some models a side; none without enough forget and test examples."""
    if min(ours.test.shape[1], theirs.test.shape[1], ours.forget.shape[1]) < FEWEST:
        return []
    some = min(max(len(ours) // 4, LEAST), MOST)
    perfect = attacked(theirs[:some])
    # a mean over as many models, as often as there are models: its spread is theirs over the root of their number
    means = perfect.mean() + (perfect - perfect.mean()) / np.sqrt(some)
    return [judged(SIMPLE, float(attacked(ours[:some]).mean()), means)]


def attacked(models: Looks) -> np.ndarray:
    """Accuracy [N] of the attack on each model."""
    return np.array([attack(losses(f), losses(t)) for f, t in zip(models.forget, models.test)])


def losses(confidences: np.ndarray) -> np.ndarray:
    """Cross-entropies of the true class: -log p, where a confidence is log p / (1 - p)."""
    return np.logaddexp(0, -confidences)


def attack(forget: np.ndarray, test: np.ndarray) -> float:
    """Held-out accuracy on two sets of losses; the larger is cut."""
    size = min(len(forget), len(test))
    values = np.concatenate([test[:size], forget[:size]])[:, None]
    member = np.repeat([0, 1], size)
    right = []
    for fit, held in StratifiedShuffleSplit(SPLITS, random_state=0).split(values, member):
        model = LogisticRegression(solver="newton-cholesky").fit(values[fit], member[fit])
        right.append(model.score(values[held], member[held]))
    return float(np.mean(right))
