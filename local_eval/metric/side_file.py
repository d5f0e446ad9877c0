"""One side of a grading from a file of numbers: what many models, made elsewhere, say of the forget examples.

A .npz or .npy file holds logits or probabilities [models, examples, classes], or confidences or losses [models,
examples], under these names; an array without a name is read by its shape. Beside them may stand `retain_accuracy` and
`test_accuracy`, shares for all models or for each, and `image_id` or `labels` [examples], by which the order of the
examples is checked. Files that the kit saves (`oracles --save-pool`) are read, too.

How it is used: `read_side(path, task)`; python -m local_eval grade --unlearned mine.npz --retrained theirs.npz
"""

from __future__ import annotations

import hashlib
import io
import math
import warnings
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from local_eval.metric.given import MetricError, as_classes, as_numbers, kind_of_singles
from local_eval.metric.metric import logit_scaled_confidence
from local_eval.store.errors import InputError
from local_eval.store.records import Controls, Evaluation
from local_eval.store.sealed import DamagedFile, unseal_bytes
from local_eval.tasks.task import Task

ENDINGS = (".npz", ".npy")
KINDS = ("logits", "probabilities", "confidences", "losses")
ALSO = {"forget_logits": "logits", "probs": "probabilities", "targets": "labels", "image_ids": "image_id"}
PLAIN = "arr_0"  # what np.savez calls an array without a name
ACCURACIES = ("retain_accuracy", "test_accuracy")
OURS = {"accuracies", "about", *(field.name for field in fields(Controls))}  # in files of oracles that the kit saves
NO_PICKLES = "save plain numbers, such as np.savez(file, logits=logits)"


class SideError(InputError):
    """A side that was made elsewhere cannot be used; the message names the file, what is wrong and what to do."""


@dataclass(frozen=True)
class SideFile:
    """What a file holds of N models."""

    kind: str  # one of KINDS
    evaluations: tuple[Evaluation, ...]
    digest: str  # short hash of the file
    ordered: str  # by which array the order of the examples was checked; empty if by none
    said: str  # what was unusual, in words


def read_side(path: Path, task: Task) -> SideFile:
    """The models in a .npz or .npy file, with shapes and values checked against the task.

    Raises:
        SideError: unreadable, of another shape, order or kind than the task needs, or not finite.
    """
    content = _bytes_of(path)
    arrays = {ALSO.get(name, name): array for name, array in _arrays(path, content).items()}
    try:
        kind = _kind_in(arrays)
        values = as_numbers(arrays[kind if kind in arrays else _only(arrays)], kind)
        labels, examples = task.forget.labels.cpu().numpy(), len(task.forget)
        _check_shape(values, kind, examples, task.num_classes)
        ordered, places = _order_of(arrays, task, examples)
        values = values[:, places]
        confidences, said = _confidences(values, labels, kind)
        accuracies = _accuracies(arrays, len(values))
    except MetricError as error:
        raise SideError(f"{path}: {error}") from error
    known = {*KINDS, *ACCURACIES, *OURS, "labels", "image_id", PLAIN}
    if foreign := sorted(arrays.keys() - known - ({_only(arrays)} if kind not in arrays else set())):
        said.append(f"{', '.join(foreign)} passed over")
    logits = _as_logits(values, kind)
    models = zip(logits, accuracies, confidences)
    evaluations = tuple(Evaluation(one, float(ra), float(ta), None, own) for one, (ra, ta), own in models)
    return SideFile(kind, evaluations, hashlib.sha256(content).hexdigest()[:12], ordered, "; ".join(said))


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SideError(f"{path} cannot be read ({error.strerror})") from error


def _arrays(path: Path, content: bytes) -> dict[str, np.ndarray]:
    """The arrays in a file by name; no pickle is read, and no more memory is asked for than there are bytes."""
    if content.startswith(np.lib.format.MAGIC_PREFIX):  # a .npy: as the only member of a .npz
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(f"{PLAIN}.npy", content)
        content = buffer.getvalue()
    try:
        arrays, _ = unseal_bytes(content, path)
    except DamagedFile as error:
        said = str(error).removeprefix(f"{path} is damaged ").strip("()")
        raise SideError(f"{path} is no .npz or .npy file of numbers ({said}); {NO_PICKLES}") from error
    if not arrays:
        raise SideError(f"{path} holds no arrays; {NO_PICKLES}")
    return arrays


def _only(arrays: dict[str, np.ndarray]) -> str:
    """The name of the array that has no name that tells what it is, if there is just one; else empty."""
    rest = [name for name in arrays if name not in {*KINDS, *ACCURACIES, *OURS, "labels", "image_id"}]
    return rest[0] if len(rest) == 1 else ""


def _kind_in(arrays: dict[str, np.ndarray]) -> str:
    """Which kind of numbers there is; raises MetricError unless it is one."""
    named = [kind for kind in KINDS if kind in arrays]
    if len(named) > 1:
        raise MetricError(f"holds {' and '.join(named)}; keep the one that is to be graded")
    if named:
        return named[0]
    if not (name := _only(arrays)):
        raise MetricError(f"holds {', '.join(sorted(arrays))}; name what is to be graded: {', '.join(KINDS)}")
    array = arrays[name]
    if array.ndim != 2:
        return "logits"
    if array.dtype.kind in "fiu" and array.size and np.isfinite(array).all() and (looks := kind_of_singles(array)):
        raise MetricError(f"{name} {array.shape} looks like {looks}; name the array what it is: {', '.join(KINDS)}")
    return "confidences"


def _check_shape(values: np.ndarray, kind: str, examples: int, classes: int) -> None:
    """Raise MetricError unless values are [N, E, C], or [N, E], of this task."""
    whole = kind == "logits" or kind == "probabilities" and values.ndim == 3
    wanted = (examples, classes) if whole else (examples,)
    form = f"[models, {', '.join(map(str, wanted))}]"
    if values.ndim == len(wanted) + 1 and values.shape[1:] == wanted:
        return
    first = values.ndim == len(wanted) + 1 and (values.shape[0], *values.shape[2:]) == wanted
    hint = f"; if the examples come first, save np.swapaxes({kind}, 0, 1)" if first else ""
    what = f"{examples} forget examples" + (f" and {classes} classes" if whole else "")
    raise MetricError(f"{kind} have shape {values.shape}; this task has {what}, so they must be {form}{hint}")


def _order_of(arrays: dict[str, np.ndarray], task: Task, examples: int) -> tuple[str, np.ndarray]:
    """By what the order is known, and the place in the file of every example of the task."""
    here = np.arange(examples)
    if "image_id" in arrays:
        theirs = as_classes(arrays["image_id"], examples, what="image_id").tolist()
        mine = task.forget.image_id.tolist()
        if sorted(theirs) != sorted(mine) or len(set(mine)) < examples:
            raise MetricError("image_id are not those of the task's forget set, each once; these are other examples")
        place = {one: k for k, one in enumerate(theirs)}
        return "image_id", np.array([place[one] for one in mine])
    if "labels" in arrays:
        theirs, mine = as_classes(arrays["labels"], examples, what="labels"), task.forget.labels.cpu().numpy()
        if (theirs != mine).any():
            same = "the same in another order: give image_id, too" if sorted(theirs) == sorted(mine) else "others"
            raise MetricError(f"labels differ from those of the task's forget set; they are {same}")
        return "labels", here
    return "", here


def _confidences(values: np.ndarray, labels: np.ndarray, kind: str) -> tuple[np.ndarray, list[str]]:
    """float64 [N, E], and what is to be told of how they were read."""
    with warnings.catch_warnings(record=True) as reported:
        warnings.simplefilter("always")
        if kind == "confidences":
            found = _finite(values.astype(np.float64))
        elif kind == "logits":
            found = logit_scaled_confidence(values, labels)
        else:
            found = logit_scaled_confidence(values, labels if values.ndim == 3 else None, kind=kind)
    said = [
        str(one.message).replace("; say order='models, examples' or order='examples, models'", "") for one in reported
    ]
    return found, said


def _finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        model, example = (int(k) for k in np.argwhere(~np.isfinite(values))[0])
        raise MetricError(f"model {model}, example {example}: confidence is {values[model, example]}")
    return values


def _as_logits(values: np.ndarray, kind: str) -> np.ndarray:
    """float32 [N, E, C]; C is 0 where classes are not known."""
    if values.ndim < 3:
        return np.empty((*values.shape, 0), np.float32)
    with np.errstate(divide="ignore"):
        rows = np.maximum(np.log(values), math.log(1e-45)) if kind == "probabilities" else values
    return rows.astype(np.float32)


def _accuracies(arrays: dict[str, np.ndarray], models: int) -> np.ndarray:
    """float64 [N, 2] on the retain and the test set; nan where the file does not say them."""
    found = np.full((models, 2), np.nan)
    if "accuracies" in arrays:
        found[:] = _shares(arrays["accuracies"], "accuracies", models, (models, 2))
    for column, name in enumerate(ACCURACIES):
        if name in arrays:
            found[:, column] = _shares(arrays[name], name, models, (models,))
    return found


def _shares(given: np.ndarray, name: str, models: int, shape: tuple[int, ...]) -> np.ndarray:
    values = as_numbers(given, name).astype(np.float64)
    if len(shape) == 1 and values.size in (1, models):
        values = np.broadcast_to(values.ravel(), shape)
    if values.shape != shape:
        raise MetricError(f"{name} has shape {values.shape}; give one number, or one for each of {models} models")
    if not (values >= 0).all() or not (values <= 1).all():
        percent = "; divide per cent by 100" if 1 < values.max() <= 100 else ""
        raise MetricError(f"{name} must be shares from 0 to 1, not {values.min():g} to {values.max():g}{percent}")
    return values
