"""U-LiRA: a likelihood-ratio attack on every forget example, fitted on half of the models and tried on the other.

An attacker who knows how the confidence of an example is distributed among unlearned and among retrained models, as
two normal laws, says of a model which of the two it is. Both halves are fitted and tried once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm
from sklearn.metrics import roc_curve

from local_eval.metric.beyond.looks import Looks, Pair
from local_eval.metric.beyond.measure import Kind, Measure, against_chance

LOW_FPR = 0.01
LEAST_SPREAD = 1e-6  # a constant has a likelihood, too
ACCURACY = Kind(
    key="lira_accuracy",
    name="U-LiRA accuracy",
    worse=1,
    slight=0.055,
    clear=0.19,
    meaning="share of models that an attacker tells apart by one example; 0.5 is guessing",
)
TPR = Kind(
    key="lira_tpr",
    name=f"U-LiRA TPR at {LOW_FPR:.0%} FPR",
    worse=1,
    slight=0.012,
    clear=0.08,
    meaning="share of unlearned models recognised while one in a hundred of the retrained is taken for such; "
    f"{LOW_FPR:g} is guessing",
)


def measures(ours: Looks, theirs: Looks, pairs: Sequence[Pair]) -> list[Measure]:
    """Accuracy, and recognised at few false alarms."""
    return [against_chance(kind, f, ours, theirs, pairs) for kind, f in ((ACCURACY, accuracy), (TPR, recognised))]


def accuracy(ours: Looks, theirs: Looks) -> float:
    """Share of right answers over examples and models of both sides."""
    unlearned, retrained = log_ratios(ours.forget, theirs.forget)
    return float(((unlearned > 0).mean() + (retrained <= 0).mean()) / 2)


def recognised(ours: Looks, theirs: Looks) -> float:
    """True positive rate over all examples and models where the false positive rate is LOW_FPR."""
    ratios = log_ratios(ours.forget, theirs.forget)
    answers = np.repeat([1, 0], [side.size for side in ratios])
    false, true, _ = roc_curve(answers, np.concatenate([side.ravel() for side in ratios]))
    return float(np.interp(LOW_FPR, false, true))


def log_ratios(unlearned: np.ndarray, retrained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log p(unlearned) / p(retrained) of confidences [N, E] of either side, each by laws fitted to the other half."""
    half = len(unlearned) // 2
    halves = (slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))
    parts = [
        [_log_density(unlearned[fit], side[held]) - _log_density(retrained[fit], side[held]) for fit, held in halves]
        for side in (unlearned, retrained)
    ]
    return tuple(np.concatenate(part[::-1]) for part in parts)


def _log_density(fitted: np.ndarray, values: np.ndarray) -> np.ndarray:
    spread = np.maximum(fitted.std(axis=0, ddof=1), LEAST_SPREAD)
    return norm.logpdf(values, fitted.mean(axis=0), spread)
