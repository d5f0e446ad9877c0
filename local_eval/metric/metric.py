"""The competition's metric: attacks on every forget example, their epsilons, and the points they earn.

Confidences of N unlearned and N retrained models go in, one epsilon per forget example comes out; the mean of
the points `2 ** -floor(epsilon / 0.5)` is the forgetting quality. The rule, the grids and the quirks are those of the
organisers' released grader (google-deepmind/unlearning_evaluation, metric.py). `local_eval/metric/twin.py` spells the
same rule out over the whole grid, and the tests hold the two equal to the bit.

The attacks themselves, and why they are fast, are in `local_eval/metric/attacks.py`.

How to time it: python -m local_eval bench
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from local_eval.metric.attacks import best_interval, best_threshold
from local_eval.metric.given import (
    MODELS_FIRST,
    ROUNDING,
    SUM,
    USABLE,
    MetricError,
    as_classes,
    as_numbers,
    confidences_given,
    in_order,
    kind_of_rows,
    kind_of_singles,
)
from local_eval.store.records import Evaluation

LEAST_RUNS = 16  # models a side; below, the metric ranks methods wrongly (over-dispersed ones win)
EPSILON_CAP = 50.0  # perfect separation would be infinite
LARGEST = 1e4  # beyond this float32 thresholds no longer resolve 0.01; real confidences end at +-104
PEAKY_RATIO = 0.01  # below this ratio of ranges the attack is declared perfect
BUCKET = 0.5  # width in epsilon of the buckets; each is worth half of the one before


KINDS = ("logits", "probabilities", "losses")
TINY = 1e-45  # added inside both logarithms, as officially: confidences end near +-103.6


def logit_scaled_confidence(
    logits: np.ndarray, targets: np.ndarray | None = None, *, kind: str | None = None, order: str | None = None
) -> np.ndarray:
    """log p_y - log sum_{j != y} p_j, the statistic that every attack reads (LiRA; Carlini et al. 2022).

    Args:
        logits: [..., E, C] raw outputs of N models, or of one: arrays, lists or tensors; left untouched.
        targets: [E] true classes, from 0.
        kind: 'logits' (log-probabilities are logits, too), 'probabilities' [..., E, C], or without targets [..., E] of
            the true class, 'losses' [..., E], cross-entropy with the natural logarithm. None: logits that look like it.
        order: 'models, examples' or 'examples, models', of the first two of three axes; it must be said where there are
            as many models as examples.
    Returns:
        float64 [..., E]; saturates near +-103.6 because 1e-45 is added inside both logarithms, as officially.
    Raises:
        MetricError: a logit is NaN or infinite, targets do not fit, or these are no logits.
    """
    if kind not in (None, *KINDS):
        known = ", ".join(map(repr, KINDS))
        raise MetricError(f"kind is {kind!r}; give one of {known}; log-probabilities are logits, too")
    values = as_numbers(logits, kind or "logits")
    if kind == "losses" or kind == "probabilities" and targets is None:
        return _of_true_class(in_order(values, order), kind)
    if targets is None:
        raise MetricError("logits need targets: the true class of every example, [E]")
    values = in_order(values, order) if values.ndim > 2 else values
    targets = _of_all_models(targets, values.shape[:-1])
    examples = _examples_in(values, targets, order)
    _check_finite(values, kind or "logits")
    targets = as_classes(targets, examples, values.shape[-1])
    looks = kind_of_rows(values) if kind is None else ""
    if looks:
        raise MetricError(f"these look like {looks}{HINTS[looks]}")
    if order is None and values.ndim == 3:
        _look_which_is_which(values, targets)
    return _of_probabilities(values, targets) if kind == "probabilities" else _of_logits(values, targets)


HINTS = {
    "probabilities": "; give logits, or say kind='probabilities'",
    "percentages": "; give logits, or divide by 100 and say kind='probabilities'",
    "negative log-probabilities": "; give them with the other sign, which are logits",
}


def _of_all_models(targets: object, shape: tuple[int, ...]) -> object:
    """The row of targets that were given for every model [N, E], if they are the same; others as they are."""
    if (
        len(shape) != 2
        or not hasattr(targets, "__len__")
        or len(targets) != shape[0]
        or not hasattr(targets[0], "__len__")
    ):
        return targets
    rows = as_numbers(targets, "targets")
    if rows.shape != shape:
        return targets
    if (rows != rows[0]).any():
        raise MetricError(f"targets {rows.shape} differ between models; every model has the same forget examples, [E]")
    return rows[0]


def _examples_in(values: np.ndarray, targets: object, order: str | None) -> int:
    """E, if the shapes fit; raises MetricError with what they may be instead."""
    count = len(targets) if hasattr(targets, "__len__") else -1
    if values.ndim < 2 or values.ndim < 3 and values.shape[-1] == count != values.shape[0]:
        looks = kind_of_singles(values) or ("losses" if values.min() >= 0 else "confidences already")
        raise MetricError(
            f"logits {values.shape} have one number for each of {count} examples, not one per class: if they are "
            f"losses or probabilities of the true class, say kind=...; they look like {looks}"
        )
    if values.shape[-1] == 1:
        raise MetricError(f"logits {values.shape} have one class; of a binary model give both logits, such as 0 and z")
    if count not in (-1, values.shape[-2]) and values.ndim > 2 and order is None:
        axis = next((k for k, size in enumerate(values.shape) if size == count), None)
        where = {None: "no axis has as many", 0: "examples come first: say order='examples, models'"}
        reported = where.get(axis, f"axis {axis} has as many: move it to the second place from the end")
        raise MetricError(
            f"logits {values.shape} must be [models, examples, classes] with {count} examples; {reported}"
        )
    return values.shape[-2]


def _check_finite(values: np.ndarray, kind: str) -> None:
    if not np.isfinite(values).all():
        where = tuple(int(k) for k in np.argwhere(~np.isfinite(values))[0])
        who = f"model {where[0]}, example {where[1]}" if len(where) == 3 else f"example {where[-2]}"
        said = f"{kind.removesuffix('s')} at index {where} is {values[where]}"
        raise MetricError(f"{who}: {said}: the model has diverged")


def _look_which_is_which(values: np.ndarray, targets: np.ndarray) -> None:
    """Axes of one length: refuse if more answers are right the other way round, warn if that tells nothing."""
    models, examples, classes = values.shape
    if targets.max() < models < USABLE <= classes:
        warnings.warn(f"logits {values.shape} are read as {models} models and {classes} classes", stacklevel=3)
    if models != examples:
        return
    answers = values.argmax(axis=-1)
    here, there = (answers == targets).mean(), (answers == targets[:, None]).mean()
    clear = 1.5 / np.sqrt(len(targets))  # over three standard errors of either share
    how = "say order='models, examples' or order='examples, models'"
    if there > here + clear:
        raise MetricError(f"logits {values.shape}: {there:.0%} are right if the first axis has the examples; {how}")
    if here < there + clear:
        warnings.warn(f"as many models as examples: the first axis is read as models; {how}", stacklevel=3)


def _of_logits(values: np.ndarray, targets: np.ndarray) -> np.ndarray:
    shifted = values - values.max(axis=-1, keepdims=True)
    return _of_shares(np.exp(shifted).astype(np.float64), targets)


def _of_probabilities(values: np.ndarray, targets: np.ndarray) -> np.ndarray:
    if values.min() < -SUM or np.abs(values.sum(axis=-1, dtype=np.float64) - 1).max() > SUM:
        raise MetricError("kind='probabilities', but some are below 0 or do not sum to 1 over the classes")
    return _of_shares(values.astype(np.float64).clip(0), targets)


def _of_shares(probs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Confidences from fresh positive numbers [..., E, C], in proportion to probabilities; they are overwritten."""
    probs /= probs.sum(axis=-1, keepdims=True)
    index = np.broadcast_to(targets[:, None], (*probs.shape[:-1], 1))
    correct = np.take_along_axis(probs, index, axis=-1)[..., 0]
    np.put_along_axis(probs, index, 0.0, axis=-1)
    return np.log(correct + TINY) - np.log(probs.sum(axis=-1) + TINY)


def _of_true_class(values: np.ndarray, kind: str) -> np.ndarray:
    """Confidences from losses or probabilities [..., E] of the true class."""
    if not np.isfinite(values).all():
        where = tuple(int(k) for k in np.argwhere(~np.isfinite(values))[0])
        raise MetricError(f"{kind} at index {where} is {values[where]}: the model has diverged")
    if values.min() < -ROUNDING or kind == "probabilities" and values.max() > 1 + ROUNDING:
        raise MetricError(f"kind={kind!r}, but they span {values.min():g}..{values.max():g}")
    values = values.astype(np.float64).clip(0, 1 if kind == "probabilities" else None)
    if kind == "losses":
        return np.log(np.exp(-values) + TINY) - np.log(-np.expm1(-values) + TINY)
    return np.log(values + TINY) - np.log((1 - values) + TINY)


def confidences_of(logits: np.ndarray | list[np.ndarray], targets: np.ndarray) -> np.ndarray:
    """`logit_scaled_confidence` of what is known to be logits [N, E, C], such as a network's own outputs."""
    return logit_scaled_confidence(logits, targets, kind="logits", order=MODELS_FIRST)


def confidences_in(evaluations: Sequence[Evaluation], labels: np.ndarray) -> np.ndarray:
    """Confidences [N, E] of the forget set under models that were looked at, or that were given as numbers."""
    if given := [one.confidences for one in evaluations if one.confidences is not None]:
        return np.stack(given)
    return confidences_of([one.forget_logits for one in evaluations], labels)


def example_epsilons(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """The best attack's epsilon for every forget example.

    Args:
        unlearned, retrained: [N, E] confidences of N models each.
    Returns:
        float64 [E] in [0, 50]; 50 means that an attack tells the two sets of models apart without error.
    Raises:
        MetricError: shapes differ, N < 2, a value is not finite, or an example on which no attack is defined
            (all confidences identical, or every threshold discarded).
    """
    unlearned, retrained = checked_pair(unlearned, retrained)
    epsilons = np.empty(unlearned.shape[1])
    for e in range(unlearned.shape[1]):
        epsilons[e] = _one_epsilon(np.sort(unlearned[:, e]), np.sort(retrained[:, e]), e)
    return epsilons


def forgetting_points(epsilons: np.ndarray, models: int) -> np.ndarray:
    """Points [E]: 1, 1/2, 1/4 ... by buckets of 0.5, and 0 past the last bucket that N = `models` gives."""
    # The last bucket ends at ceil(ln(N-1)): about the largest finite epsilon that N models can show.
    last = np.ceil(np.log(models - 1))
    bucket = np.floor(np.asarray(epsilons) / BUCKET)
    return np.where((bucket + 1) * BUCKET <= last, 0.5**bucket, 0.0)


def forgetting_quality(unlearned: np.ndarray, retrained: np.ndarray, *, order: str | None = None) -> float:
    """Mean points over the forget set, from confidences [N, E] each. Perfect unlearning scores about 0.18, not 1.

    Args:
        unlearned, retrained: logit-scaled confidences: arrays, lists or tensors.
        order: 'models, examples' or 'examples, models'; if it is not said, a warning says where it cannot be told.
    Warns below 16 models a side, which the command line refuses.

    Raises:
        MetricError: as `example_epsilons`; or the axes are exchanged.
    """
    pair = confidences_given({"unlearned": unlearned, "retrained": retrained}, order)
    warn_of_few(len(pair[0]))
    return quality_of(*pair)


def warn_of_few(models: int) -> None:
    """For a function that a script has called: warn of a number of models at which no method should be judged."""
    if models < LEAST_RUNS:
        text = f"N = {models} is too few: below {LEAST_RUNS} the metric ranks methods wrongly; use 64 for screening, "
        warnings.warn(f"{text}512 to compare", stacklevel=3)


def quality_of(unlearned: np.ndarray, retrained: np.ndarray) -> float:
    """`forgetting_quality` of confidences that are known to be [N, E]."""
    return float(forgetting_points(example_epsilons(unlearned, retrained), len(unlearned)).mean())


def checked_pair(
    unlearned: np.ndarray, retrained: np.ndarray, same_count: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 [N, E]; raises MetricError unless they can be scored against each other."""
    pair = []
    for name, values in (("unlearned", unlearned), ("retrained", retrained)):
        values = as_numbers(values, f"{name} confidences").astype(np.float64, copy=False)
        if values.ndim != 2:
            logits = "; make them of logits with logit_scaled_confidence" if values.ndim == 3 else ""
            raise MetricError(f"{name} confidences must be [models, examples], got shape {values.shape}{logits}")
        if not np.isfinite(values).all():
            model, example = (int(k) for k in np.argwhere(~np.isfinite(values))[0])
            raise MetricError(f"{name} model {model}, example {example}: confidence is {values[model, example]}")
        if np.abs(values).max() > LARGEST:
            raise MetricError(
                f"{name} confidences reach {np.abs(values).max():g}; are they raw logits? They end at +-104"
            )
        pair.append(values)
    if pair[0].shape[not same_count :] != pair[1].shape[not same_count :]:
        ours, theirs = (len(one) for one in pair)
        few = f"; the first {min(ours, theirs)} models of each would do" if ours != theirs else ""
        raise MetricError(
            f"unlearned {pair[0].shape} and retrained {pair[1].shape} differ; give the same N and examples{few}"
        )
    if min(map(len, pair)) < 2:
        raise MetricError("one model on each side says nothing: give at least 2 (and 16 for a usable score)")
    return pair[0], pair[1]


def _one_epsilon(unlearned: np.ndarray, retrained: np.ndarray, example: int) -> float:
    """Epsilon from two sorted samples [N]; the classes are ordered by median, as officially."""
    positive, negative = unlearned, retrained
    if np.median(retrained) > np.median(unlearned):
        positive, negative = retrained, unlearned
    ranges = positive[-1] - positive[0], negative[-1] - negative[0]
    smallest, largest = min(ranges), max(ranges)
    if largest == 0.0 and positive[0] == negative[0]:
        raise MetricError(
            f"example {example}: all {2 * len(positive)} confidences are {positive[0]}; no attack is defined. "
            "Are the unlearned and the retrained models one and the same?"
        )
    if largest == 0.0 or smallest / largest < PEAKY_RATIO:
        return EPSILON_CAP
    best = max(best_interval(positive, negative), best_threshold(positive, negative))
    if best == -np.inf:
        raise MetricError(f"example {example}: every threshold was discarded, the official rule has no answer")
    return float(min(best, np.float32(EPSILON_CAP)))
