"""Results on disk: one file per trained or unlearned model, written whole or not at all, and verified when read.

A record is an .npz with the forget set's logits, the two accuracies and, as JSON, what the model was made from. Its
`identity` names everything that must agree for two records to be comparable: a record with another identity is foreign
and never mixed in.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from filelock import FileLock, Timeout

from local_eval.train import Evaluation


class RecordError(ValueError):
    """A file on disk cannot be trusted; the message names it and says why."""


class OutputError(OSError):
    """The output folder cannot be used or written; the message says what is kept and what to do."""


@dataclass(frozen=True)
class Record:
    """One evaluated model and where it came from."""

    evaluation: Evaluation
    identity: dict  # what must agree: task fingerprint, submission hash, seed, index
    facts: dict  # what is worth knowing: seconds, device, versions


def versions(device: torch.device | str) -> dict[str, str]:
    """Device and library versions that a result was made with."""
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"device": f"{device.type} {name}", "torch": torch.__version__, "numpy": np.__version__}


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file so that, whatever happens, it holds either the old or the new content: write, fsync, rename.

    Large content may be given as a function that writes it to an open file.

    Raises:
        OutputError: the folder is read-only, the disk is full, or the like. What was there before is untouched.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            content(file) if callable(content) else file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except OSError as error:
        _remove_quietly(partial)
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}. Everything finished before it is kept; "
            "make room or choose another --out, then run the same command again"
        ) from error


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows cannot open folders; there the rename alone has to do
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_quietly(path: Path) -> None:
    with contextlib.suppress(OSError):  # the write's own error is the one to tell
        path.unlink(missing_ok=True)


def save_record(path: Path, record: Record) -> None:
    """Write one record atomically. Raises OutputError."""
    e = record.evaluation
    about = json.dumps({"identity": record.identity, "facts": record.facts}, sort_keys=True)
    buffer = io.BytesIO()
    accuracies = np.array([e.retain_accuracy, e.test_accuracy])
    np.savez(buffer, forget_logits=e.forget_logits, accuracies=accuracies, about=np.array(about))
    write_atomically(path, buffer.getvalue())


def load_record(path: Path, identity: dict, shape: tuple[int, int]) -> Record:
    """Read and verify one record.

    Args:
        identity: what the record must have been made from.
        shape: (E, C) of its logits.
    Raises:
        RecordError: truncated, unreadable, foreign, misshapen or not finite.
        FileNotFoundError: there is none.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            logits, accuracies, about = file["forget_logits"], file["accuracies"], json.loads(str(file["about"]))
            found, facts = about["identity"], about["facts"]
    except FileNotFoundError:
        raise
    # numpy and zipfile have no common error for what damaged bytes can cause
    except Exception as error:
        raise RecordError(f"{path} is damaged ({type(error).__name__}: {error})") from error
    if found != identity:
        differing = sorted(k for k in found.keys() | identity.keys() if found.get(k) != identity.get(k))
        raise RecordError(f"{path} belongs to something else: {', '.join(differing)} differ")
    if logits.shape != tuple(shape) or logits.dtype != np.float32 or accuracies.shape != (2,):
        raise RecordError(f"{path} holds logits {logits.dtype} {logits.shape}, expected float32 {tuple(shape)}")
    if not (np.isfinite(logits).all() and np.isfinite(accuracies).all()):
        raise RecordError(f"{path} holds NaN or infinite values")
    return Record(Evaluation(logits, float(accuracies[0]), float(accuracies[1])), found, facts)


def read_records(
    folder: Path, identity: Callable[[int], dict], count: int, shape: tuple[int, int]
) -> dict[int, Record]:
    """The finished records 0..count-1 in `folder`, verified; a damaged or foreign file is named and not trusted."""
    done = {}
    for index in range(count):
        try:
            done[index] = load_record(record_path(folder, index), identity(index), shape)
        except FileNotFoundError:
            continue
        except RecordError as error:
            print(f"{error}; it will be made again", file=sys.stderr)
    return done


def record_path(folder: Path, index: int) -> Path:
    """Where record `index` lies in `folder`."""
    return folder / f"{index:04d}.npz"


class locked:
    """`with locked(folder):` one writer at a time, in one folder, on one machine.

    Raises:
        OutputError: another grader is at work there, or the folder cannot be made.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.lock = FileLock(folder / ".lock", blocking=False)

    def __enter__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock.acquire()
        except Timeout:
            raise OutputError(
                f"another grader is writing to {self.folder}; wait for it, or choose another --out"
            ) from None
        except OSError as error:
            raise OutputError(
                f"cannot use {self.folder} for output: {error.strerror or error}; choose another --out"
            ) from error

    def __exit__(self, *exception) -> None:
        self.lock.release()
