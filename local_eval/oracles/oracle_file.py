"""Oracles as one small file, so that whoever trained them on a GPU saves all others the training.

A score needs of an oracle only the forget set's logits and two accuracies: 512 oracles of the competition's size take
10 MB. A file fits one exact task: data, network, recipe and training code, by fingerprint.

How to use it: python -m local_eval oracles --task T --runs 512 --save-pool FILE.npz
               python -m local_eval oracles --task T --runs 512 --load-pool FILE.npz
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np

from local_eval.engine.evaluation import Controls, Evaluation
from local_eval.engine.files import locked, write_atomically
from local_eval.engine.records import (
    UNREADABLE,
    Record,
    RecordError,
    check_values,
    controls_in,
    plain_facts,
    record_path,
    save_record,
)
from local_eval.engine.sealed import LONGEST, DamagedFile, seal, unseal


def save_pool(records: list[Record], path: Path) -> None:
    """Write oracles 0, 1, 2 ... to one compressed file; raises OutputError."""
    accuracies = np.array([(r.evaluation.retain_accuracy, r.evaluation.test_accuracy) for r in records])
    about = json.dumps({"identities": [r.identity for r in records], "facts": [r.facts for r in records]})
    logits = np.stack([r.evaluation.forget_logits for r in records])
    arrays = {"forget_logits": logits, "accuracies": accuracies, "about": np.array(about)}
    controls = [r.evaluation.controls for r in records]
    if all(controls):
        arrays |= {f.name: np.stack([getattr(c, f.name) for c in controls]) for f in fields(Controls)}
    write_atomically(path, seal(arrays, compressed=True))


def load_pool(path: Path, identity: Callable[[int], dict], shape: tuple[int, int]) -> list[Record]:
    """The oracles in a file, verified against what oracle 0, 1, 2 ... of a task must be.

    Args:
        shape: (E, C) of one oracle's logits.
    Raises:
        RecordError: the file cannot be read, is damaged, or its oracles are of another task.
    """
    try:
        arrays, _ = unseal(path)
        logits, accuracies, about = arrays["forget_logits"], arrays["accuracies"], json.loads(str(arrays["about"]))
        identities, facts = list(map(dict, about["identities"])), list(map(plain_facts, about["facts"]))
        if len(identities) != len(facts):
            raise ValueError(f"it names {len(identities)} oracles and tells of {len(facts)}")
    except (OSError, DamagedFile, *UNREADABLE) as error:
        text = f"{type(error).__name__}: {str(error)[:LONGEST]}"
        raise RecordError(f"{path} is no file of oracles ({text})") from error
    count = len(identities)
    foreign = [k for k in range(count) if identities[k] != identity(k)]
    if foreign:
        raise RecordError(
            f"{path} holds oracles of another task, or of another version of it: "
            f"{str(identities[foreign[0]])[:LONGEST]}, expected {identity(foreign[0])}"
        )
    check_values(path, logits, accuracies, (count, *shape), (count, 2))
    together = controls_in(path, arrays, (count,))
    return [
        Record(Evaluation(one, float(ra), float(ta), _nth(together, k)), identities[k], facts[k])
        for k, (one, (ra, ta)) in enumerate(zip(logits, accuracies))
    ]


def _nth(together: Controls | None, k: int) -> Controls | None:
    return Controls(*(getattr(together, f.name)[k] for f in fields(Controls))) if together else None


def unpack_pool(records: list[Record], folder: Path) -> int:
    """Put oracles where the grader looks for them, unless some are there already; returns how many were new."""
    with locked(folder):
        new = [k for k in range(len(records)) if not record_path(folder, k).exists()]
        for k in new:
            save_record(record_path(folder, k), records[k])
    return len(new)
