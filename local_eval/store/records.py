"""Results on disk: what is kept of each model that was looked at, in a file of its own, verified when read.

A record is an .npz with the forget set's logits, the two accuracies and, as JSON, what the model was made from. Its
`identity` names everything that must agree for two records to be comparable: a record with another identity is foreign
and never mixed in.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from local_eval.store.errors import InputError
from local_eval.store.files import write_atomically
from local_eval.store.sealed import LONGEST, DamagedFile, seal, unseal_bytes

# What is kept of a model that was looked at: all that a score and its controls need, and never its weights.


SPLITS = ("retain", "forget", "validation", "test")  # the rows of `right`


@dataclass(frozen=True)
class Controls:
    """What tells whether a score was come by honestly: how a model answers where nothing was to be forgotten."""

    retain_logits: np.ndarray  # float32 [K, C] on a fixed sample of the retain set
    test_logits: np.ndarray  # float32 [K, C] on a fixed sample of the test set
    right: np.ndarray  # int64 [4, C]: right answers by split and true class


@dataclass(frozen=True)
class Evaluation:
    """All that a score needs of one model."""

    forget_logits: np.ndarray  # float32 [E, C]
    retain_accuracy: float
    test_accuracy: float
    controls: Controls | None = None  # None in records of a version that did not keep them
    # Of models that were made elsewhere, as numbers: there logits may have no classes, and accuracies be nan
    confidences: np.ndarray | None = None  # float64 [E]; None where they are computed from the logits


FOLLOWED = ("files", "environment", "looked", "listed")  # in `read`, of a run
KINDS = {
    "seconds": (int, float),
    "device": str,
    "torch": str,
    "read": dict,
    "sandbox": dict,
}  # of facts, where they are there
UNREADABLE = (KeyError, ValueError, TypeError, RecursionError)  # what comes of JSON that is something else


class RecordError(InputError):
    """A file on disk cannot be trusted; the message names it and says why."""


@dataclass(frozen=True)
class Record:
    """One evaluated model and where it came from."""

    evaluation: Evaluation
    identity: dict  # what must agree: task fingerprint, submission hash, seed, index
    facts: dict  # what is worth knowing: seconds, device, versions


def save_record(path: Path, record: Record) -> None:
    """Write one record atomically. Raises OutputError."""
    write_atomically(path, record_bytes(record))


def record_bytes(record: Record) -> bytes:
    """The content of a record's file; also how a record travels from another machine."""
    e = record.evaluation
    about = json.dumps({"identity": record.identity, "facts": record.facts}, sort_keys=True)
    accuracies = np.array([e.retain_accuracy, e.test_accuracy])
    arrays = {"forget_logits": e.forget_logits, "accuracies": accuracies, "about": np.array(about)}
    return seal(arrays | (asdict(e.controls) if e.controls else {}))


def load_record(path: Path, identity: dict, shape: tuple[int, int]) -> Record:
    """Read and verify one record; one of an earlier version, without a checksum, is written anew.

    Args:
        identity: what the record must have been made from.
        shape: (E, C) of its logits.
    Raises:
        RecordError: truncated, unreadable, foreign, misshapen or not finite.
        FileNotFoundError: there is none.
    """
    record, sealed = record_in(path.read_bytes(), path)
    check_fit(path, record, identity, shape)
    if not sealed:
        save_record(path, record)
    return record


def check_fit(path: Path, record: Record, identity: dict, shape: tuple[int, int]) -> None:
    """Raise RecordError unless a record was made from what it must have been made from, with logits of this shape."""
    check_identity(path, record.identity, identity)
    if record.evaluation.forget_logits.shape != (*shape,):
        raise RecordError(f"{path} holds logits {record.evaluation.forget_logits.shape}, expected {(*shape,)}")


def plain_facts(facts: object) -> dict:
    """The facts of a record, if those that are used are of their kind; raises TypeError or ValueError."""
    found = dict(facts)
    wrong = [key for key, kind in KINDS.items() if key in found and not isinstance(found[key], kind)]
    if not wrong:
        read, sandbox = found.get("read", {}), found.get("sandbox", {"level": ""})
        texts = [read.get("untold", []), [sandbox.get("level")]]
        texts += [list(dict(read.get(key, {})).values()) for key in FOLLOWED]
        wrong = [] if all(isinstance(one, str) for some in texts for one in some) else ["read or its sandbox"]
    if wrong:
        raise TypeError(f"its {wrong[0]} cannot be used")
    return found


def record_in(content: bytes, path: Path | str) -> tuple[Record, bool]:
    """The record in the content of a file, and whether it was sealed; `path` names it in errors.

    Raises:
        RecordError: truncated, unreadable, misshapen or not finite.
    """
    try:
        arrays, sealed = unseal_bytes(content, path)
        logits, accuracies, about = arrays["forget_logits"], arrays["accuracies"], json.loads(str(arrays["about"]))
        found, facts = dict(about["identity"]), plain_facts(about["facts"])
    except DamagedFile as error:
        raise RecordError(str(error)) from error
    except UNREADABLE as error:
        raise RecordError(f"{path} is no record ({type(error).__name__}: {str(error)[:LONGEST]})") from error
    check_values(path, logits, accuracies, logits.shape, (2,))
    evaluation = Evaluation(logits, float(accuracies[0]), float(accuracies[1]), controls_in(path, arrays))
    return Record(evaluation, found, facts), sealed


def controls_in(path: Path | str, arrays: dict[str, np.ndarray], lead: tuple[int, ...] = ()) -> Controls | None:
    """The controls among a file's arrays, if they are there; raises RecordError if they cannot be used.

    Args:
        lead: (N,) where every array holds those of N models.
    """
    names = [field.name for field in fields(Controls)]
    if not any(name in arrays for name in names):
        return None
    if not all(name in arrays and _is_control(name, arrays[name], lead) for name in names):
        raise RecordError(f"{path} holds controls that are incomplete, misshapen or not finite")
    return Controls(*(arrays[name] for name in names))


def _is_control(name: str, array: np.ndarray, lead: tuple[int, ...]) -> bool:
    kind = "i" if name == "right" else "f"
    there = array.dtype.kind == kind and array.ndim == len(lead) + 2 and array.shape[: len(lead)] == lead
    return there and bool(np.isfinite(array).all())


def check_identity(path: Path, found: dict, identity: dict) -> None:
    """Raise RecordError, with what differs, unless a record was made from what it must have been made from."""
    if found != identity:
        differing = sorted(k for k in found.keys() | identity.keys() if found.get(k) != identity.get(k))
        raise RecordError(f"{path} belongs to something else: {', '.join(differing)[:LONGEST]} differ")


def check_values(path: Path | str, logits: np.ndarray, accuracies: np.ndarray, shape: tuple, pairs: tuple) -> None:
    """Raise RecordError unless a file's arrays have these shapes and finite values."""
    if logits.shape != shape or logits.dtype != np.float32:
        raise RecordError(f"{path} holds logits {str(logits.dtype)[:LONGEST]} {logits.shape}, expected float32 {shape}")
    if accuracies.shape != pairs or accuracies.dtype != np.float64:
        dtype = str(accuracies.dtype)[:LONGEST]
        raise RecordError(f"{path} holds accuracies {dtype} {accuracies.shape}, expected float64 {pairs}")
    if not (np.isfinite(logits).all() and np.isfinite(accuracies).all()):
        raise RecordError(f"{path} holds NaN or infinite values")


def record_path(folder: Path, index: int) -> Path:
    """Where record `index` lies in `folder`."""
    return folder / f"{index:04d}.npz"
