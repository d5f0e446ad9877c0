"""Two distances between the confidences of unlearned and retrained models, example by example, without any fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import ks_2samp, mannwhitneyu

from local_eval.metric.beyond.looks import Looks, Pair
from local_eval.metric.beyond.measure import Kind, Measure, against_chance

KS = Kind(
    key="ks",
    name="Kolmogorov-Smirnov distance",
    worse=1,
    slight=0.085,
    clear=0.35,
    meaning="largest gap between the distributions of an example's confidence; noise makes it positive",
)
AUC = Kind(
    key="auc",
    name="AUC distance",
    worse=1,
    slight=0.068,
    clear=0.245,
    meaning="|AUC - 1/2| of a threshold on an example's confidence; blind where only the spreads differ",
)


def measures(ours: Looks, theirs: Looks, pairs: Sequence[Pair]) -> list[Measure]:
    """Both, as means over the forget examples."""
    return [against_chance(kind, f, ours, theirs, pairs) for kind, f in ((KS, ks_distance), (AUC, auc_distance))]


def ks_distance(ours: Looks, theirs: Looks) -> float:
    """Mean over examples of the largest difference of the two empirical distribution functions."""
    return float(ks_2samp(ours.forget, theirs.forget, axis=0, method="asymp").statistic.mean())


def auc_distance(ours: Looks, theirs: Looks) -> float:
    """Mean over examples of |area under the ROC curve - 1/2|."""
    larger = mannwhitneyu(ours.forget, theirs.forget, axis=0, method="asymptotic").statistic
    return float(np.abs(larger / (len(ours) * len(theirs)) - 0.5).mean())
