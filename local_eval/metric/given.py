"""Numbers as people bring them, read as what they are: of any library and precision, or refused in one sentence.

Arrays, lists and tensors become plain float arrays before anything is computed: float32 stays what it is, since the
official rule is exact for it, and everything else becomes float64. The exponential of float16 logits, taken in float16,
gave a confidence of 103.6 for 22.5.

Nothing is transposed, and nothing is read as another kind, unless whoever gives it says so. What is noticed is told: by
the number of labels or persons, by what the two sides have in common, by sums to 1, by hard edges at 0.

How it is used: `forgetting_quality`, `logit_scaled_confidence`, `project` ... read what they get with it
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

import numpy as np

from local_eval.store.errors import WorkError, first_line

MODELS_FIRST, EXAMPLES_FIRST = ORDERS = ("models, examples", "examples, models")
ALIKE = 0.8  # of the rows' correlation: sides that share models go together both ways
USABLE = 16  # models a side of a usable score; fewer rows than this may be examples
CERTAIN, LIKELY = 5.0, 3.0  # standard deviations from chance
SCALE = 0.1  # least to median, and median to largest: losses span orders of magnitude and stop at 0
ROUNDING = 1e-6  # of float32: a loss may be so far below 0, a probability so far above 1
SUM = 1e-2  # how far probabilities may be from 1 together, float16 ones too
KINDS_OF_NUMBERS = {"O": "Python objects", "U": "texts", "S": "texts", "c": "complex numbers", "b": "true and false"}
SHOWN = 60  # characters of an error's text


class MetricError(WorkError, ValueError):
    """The numbers cannot be scored; the message says which and why."""


def as_numbers(values: object, what: str) -> np.ndarray:
    """Values of any library as a plain array: float32 as it is, all other precisions and integers as float64.

    Args:
        values: an array, nested lists, or a tensor of any device, also one that requires gradients.
        what: they are called so in errors.
    Raises:
        MetricError: ragged, masked, or no real numbers.
    """
    array = _plain(values, what)
    if array.dtype.kind not in "fiu":
        kind = KINDS_OF_NUMBERS.get(array.dtype.kind, f"values of type {array.dtype}"[:SHOWN])
        raise MetricError(f"{what} holds {kind}; give plain numbers, such as a float32 array")
    if array.size == 0:
        raise MetricError(f"{what} is empty, of shape {array.shape}")
    return array.astype(np.float32 if array.dtype.kind == "f" and array.dtype.itemsize == 4 else np.float64, copy=False)


def _plain(values: object, what: str) -> np.ndarray:
    """An array of whatever NumPy makes of it, without loss."""
    if isinstance(values, list | tuple):
        return _stacked(values, what)
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise MetricError(f"{what} has masked values; leave out the models or examples that they belong to")
    torch = sys.modules.get("torch")
    try:
        if torch is not None and isinstance(values, torch.Tensor):
            values = values.detach().cpu()
            small = values.is_floating_point() and values.dtype != torch.float32  # NumPy has no bfloat16
            return (values.double() if small else values).numpy()
        return np.asarray(values)
    except Exception as error:  # every library has its own
        said = first_line(error)
        raise MetricError(f"{what}: a {type(values).__name__} cannot be read as an array ({said[:SHOWN]})") from error


def _stacked(values: Sequence, what: str) -> np.ndarray:
    """A list of numbers, or of arrays, tensors or lists that all have one shape."""
    if not any(isinstance(one, list | tuple) or hasattr(one, "__array__") for one in values):
        return np.asarray(values) if values else np.empty(0)
    parts = [_plain(one, f"{what} {k}") for k, one in enumerate(values)]
    for k, part in enumerate(parts):
        if part.shape != parts[0].shape:
            raise MetricError(f"{what} is ragged: entry {k} has shape {part.shape}, entry 0 has {parts[0].shape}")
    return np.stack(parts)


def as_classes(targets: object, examples: int, classes: int | None = None, what: str = "targets") -> np.ndarray:
    """True classes as int64 [E]; whole floats, a column [E, 1] and one-hot rows [E, C] are taken, too.

    Raises:
        MetricError: their number or their values do not fit.
    """
    found = _plain(targets, what)
    if found.dtype.kind not in "biuf":
        kind = KINDS_OF_NUMBERS.get(found.dtype.kind, str(found.dtype)[:SHOWN])
        raise MetricError(f"{what} hold {kind}; give the number of each example's class, from 0")
    if found.ndim == 2 and found.shape[0] == examples:
        found = found[:, 0] if found.shape[1] == 1 else _not_one_hot(found, classes)
    if found.shape != (examples,):
        raise MetricError(f"{examples} examples need {what} of shape {(examples,)}, got {found.shape}")
    if not np.isfinite(found).all() or (found != np.floor(found)).any():
        odd = int(np.flatnonzero(~np.isfinite(found) | (found != np.floor(found)))[0])
        raise MetricError(f"target of example {odd} is {found[odd]}; give the number of its class, from 0")
    if classes is not None and not (found.min() >= 0 and found.max() < classes):
        one_off = "; count them from 0" if found.min() == 1 and found.max() == classes else ""
        raise MetricError(f"targets span {found.min()}..{found.max()}, but there are {classes} classes{one_off}")
    return found.astype(np.int64)


def _not_one_hot(rows: np.ndarray, classes: int | None) -> np.ndarray:
    """[E] from one-hot rows."""
    fits = classes in (None, rows.shape[1])
    if not fits or not (((rows == 0) | (rows == 1)).all() and (rows.sum(axis=1) == 1).all()):
        raise MetricError(f"targets {rows.shape} are neither classes nor one-hot rows; give one class per example, [E]")
    return rows.argmax(axis=1)


def as_persons(persons: object, examples: int) -> np.ndarray | None:
    """int64 [E] persons, numbered from 0; a column [E, 1] is taken. None if they do not fit `examples`."""
    found = _plain(persons, "persons")
    found = found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found
    if found.shape != (examples,) or found.dtype.kind == "f" and not np.isfinite(found).all():
        return None
    return np.unique(found, return_inverse=True)[1]


def in_order(values: np.ndarray, order: str | None) -> np.ndarray:
    """Values [models, examples, ...] of values in the order that was stated; as they are if none was."""
    if order not in (None, *ORDERS):
        raise MetricError(f"order is {order!r}; give {MODELS_FIRST!r} or {EXAMPLES_FIRST!r}")
    return values.swapaxes(0, 1) if order == EXAMPLES_FIRST and values.ndim > 1 else values


def confidences_given(
    sides: dict[str, object], order: str | None, persons: object = None, hints: int = 3
) -> list[np.ndarray]:
    """Confidences float64 [models, examples] of two or more sides, the last retrained; the rest is `checked_pair`'s.

    Args:
        sides: what was given, by name.
        order: of the axes, where it was stated.
        persons: one label for each example, if they were given; they tell the axes apart.
        hints: how many calls are between this one and the line that warnings are to name.
    Raises:
        MetricError: no numbers, or the axes are exchanged.
    """
    read = [in_order(as_numbers(values, f"{name} confidences"), order) for name, values in sides.items()]
    found = [values.astype(np.float64, copy=False) for values in read]
    if all(one.ndim == 2 and np.isfinite(one).all() for one in found):
        if order is None:
            _look_at_order(dict(zip(sides, found)), persons, hints + 1)
        _look_at_kind(dict(zip(sides, found)), hints + 1)
    return found


def _look_at_order(sides: dict[str, np.ndarray], persons: object, hints: int) -> None:
    """Refuse axes that are exchanged, and warn where that cannot be told."""
    *firsts, retrained = sides.values()
    how = f"give them as [models, examples], or say order={EXAMPLES_FIRST!r}"
    for name, one in list(sides.items())[:-1]:
        rows, columns = one.shape
        if rows != columns and one.shape == retrained.shape[::-1]:
            raise MetricError(f"{name} {one.shape} and retrained {retrained.shape}: one of them is transposed; {how}")
        if rows == len(retrained) and columns != retrained.shape[1]:
            text = f"{name} {one.shape} and retrained {retrained.shape} differ in examples, or have them first"
            raise MetricError(f"{text}: give the same forget examples on both sides; {how}")
    if persons is not None and retrained.shape[0] != retrained.shape[1]:
        if len(_plain(persons, "persons")) == len(retrained):
            raise MetricError(f"retrained {retrained.shape} and {len(retrained)} persons: examples come first; {how}")
        return
    if any(one.shape[1] != retrained.shape[1] for one in firsts):
        return  # an error of its own
    reported = [by_means(one, retrained) for one in firsts]
    if "exchanged" in reported:
        text = "the rows of both sides go together and their columns do not, so rows are examples"
        raise MetricError(f"confidences {retrained.shape}: {text}; {how}, or order={MODELS_FIRST!r} if they are models")
    if "unknown" in reported and retrained.shape[1] >= USABLE:
        text = f"read as {len(retrained)} models and {retrained.shape[1]} examples"
        warnings.warn(f"{text}; say order={MODELS_FIRST!r} if that is right, else {how}", stacklevel=hints)


def by_means(unlearned: np.ndarray, retrained: np.ndarray) -> str:
    """'right', 'exchanged' or 'unknown' axes of confidences [N, E]: what is hard for one side is hard for the other."""
    (rows, far), (columns, near) = _alike(unlearned, retrained, 1), _alike(unlearned, retrained, 0)
    if far > CERTAIN and columns < ALIKE * rows and unlearned.shape == retrained.shape and retrained.shape[1] >= USABLE:
        return "exchanged"
    return "right" if near > LIKELY else "unknown"


def _alike(one: np.ndarray, other: np.ndarray, axis: int) -> tuple[float, float]:
    """Rank correlation of the two sides' means over an axis, and in standard deviations how far that is from chance."""
    means = one.mean(axis=axis), other.mean(axis=axis)
    if len(means[0]) != len(means[1]) or len(means[0]) < 5 or any(np.ptp(each) == 0 for each in means):
        return 0.0, 0.0
    ranks = [np.argsort(np.argsort(each)) for each in means]
    found = float(np.corrcoef(*ranks)[0, 1])
    return found, float(np.arctanh(np.clip(found, -0.999, 0.999)) * np.sqrt(len(ranks[0]) - 3))


def _look_at_kind(sides: dict[str, np.ndarray], hints: int) -> None:
    """Warn of numbers that look like something else than confidences."""
    for name, one in sides.items():
        if one.size >= USABLE and (kind := kind_of_singles(one)):
            text = f"{name} confidences look like {kind}, "
            text += "which logit_scaled_confidence(..., kind=...) turns into confidences"
            warnings.warn(text, stacklevel=hints)
            return


def kind_of_singles(values: np.ndarray) -> str:
    """What single numbers per example look like, if not like confidences; else empty."""
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1 + ROUNDING and low < high:
        return "probabilities or losses (all are within 0 and 1)"
    size = np.abs(values)
    middle = float(np.median(size))
    if (low >= -ROUNDING or high <= ROUNDING) and size.min() < SCALE * middle and middle < SCALE * size.max():
        return "losses (none is below 0)" if high > ROUNDING else "logarithms of probabilities (none is above 0)"
    return ""


def kind_of_rows(rows: np.ndarray) -> str:
    """What numbers [..., C] per class look like, if not like logits; else empty."""
    if rows.shape[-1] < 2 or rows.min() < -ROUNDING:
        return ""
    sums = rows.sum(axis=-1, dtype=np.float64)
    if rows.max() <= 1 + SUM and np.abs(sums - 1).max() <= SUM:
        return "probabilities"
    if rows.max() <= 100 + SUM and np.abs(sums - 100).max() <= 100 * SUM and rows.max() > 1:
        return "percentages"
    unsure = rows.min(axis=-1).max() > SUM  # a row of one 0 and large numbers may be anything
    if unsure and np.abs(np.exp(-rows.astype(np.float64)).sum(axis=-1) - 1).max() <= SUM:
        return "negative log-probabilities"
    return ""
