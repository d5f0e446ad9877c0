"""One attack on the whole forget set: a classifier sees all confidences of a model at once.

The official attacks look at one example at a time. So a shift too small to be seen there, or runs whose examples all
move together, pass them; here they do not. The better of two classifiers counts: naive Bayes, which adds up what the
examples say each, and a logistic regression on what they say together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from local_eval.metric.beyond.looks import Looks, Pair
from local_eval.metric.beyond.measure import Kind, Measure, against_chance

FOLDS = 5
POOLED = Kind(
    key="pooled_attack",
    name="pooled attack",
    worse=1,
    slight=0.1,
    clear=0.3,
    meaning="share of models that an attacker tells apart by the whole forget set; about 0.5 is guessing",
)


def measures(ours: Looks, theirs: Looks, pairs: Sequence[Pair]) -> list[Measure]:
    """Its held-out accuracy."""
    return [against_chance(POOLED, pooled_accuracy, ours, theirs, pairs)]


def pooled_accuracy(ours: Looks, theirs: Looks) -> float:
    """Accuracy over models of both sides, each judged by a classifier that was fitted without it."""
    values = np.concatenate([ours.forget, theirs.forget])
    side = np.repeat([1, 0], [len(ours), len(theirs)])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    logistic = LogisticRegression(solver="newton-cholesky")
    together = make_pipeline(StandardScaler(), FunctionTransformer(overall), StandardScaler(), logistic)
    return max(float(cross_val_score(attacker, values, side, cv=folds).mean()) for attacker in (GaussianNB(), together))


def overall(values: np.ndarray) -> np.ndarray:
    """[n, 3] of standardised confidences [n, E]: mean, its square, and the logarithm of the mean square."""
    mean = values.mean(axis=1)
    return np.column_stack([mean, mean**2, np.log((values**2).mean(axis=1) + 1e-12)])
