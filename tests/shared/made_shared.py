"""A graded method of made-up models, as `share` finds it on disk, and shared files of it that somebody has changed.

How it is used: source_of(folder), then content = shared_bytes(source, NOBODY); changed(content, alter) for a forgery
"""

import io
import json
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import torch

from local_eval.methods.submission import Submission
from local_eval.oracles.oracles import pool_bytes, pool_in
from local_eval.report.page.facts import PageSource
from local_eval.report.page.method import MethodText
from local_eval.report.result import Result, checksum
from local_eval.shared import verifying, writing
from local_eval.store.for_others import Private, pack
from local_eval.store.records import SPLITS, Controls, Evaluation, Record
from local_eval.store.sealed import unseal_bytes
from local_eval.tasks.recipe import Recipe
from local_eval.tasks.task import Split, Task
from tests.conftest import GOOD

SIZES = {"retain": 20, "forget": 12, "validation": 8, "test": 9}
RUNS, ORACLES, CLASSES = 16, 18, 3
FINGERPRINT, ORIGINAL = "0123456789ab", "ba9876543210"
NOBODY = Private((), ())
DOCSTRING = "Shrinks <b>weights</b>.\n\nSecond paragraph: {{ 7 * 7 }} </pre><script>alert(1)</script>."
SOURCE = f'"""{DOCSTRING}"""\nSCALE = 1.0\nSTEPS = (1,\n         2)\n' + GOOD.replace("0.01", "0.01 * SCALE")


def task() -> Task:
    """Labels, persons and images of noise."""
    rng, splits = np.random.default_rng(5), {}
    for name, size in SIZES.items():
        labels = torch.from_numpy(np.append(np.arange(CLASSES), rng.integers(0, CLASSES, size - CLASSES)))
        ids = torch.arange(size) + 100
        images = torch.from_numpy(rng.integers(0, 256, (size, 3, 4, 4), np.uint8))
        splits[name] = Split(images, labels, image_id=ids, person_id=ids // 3, age=labels)
    return Task(
        "made_up", torch.nn.Identity, **splits, recipe=Recipe(epochs=1, lr=1.0, weight_decay=0.0), num_classes=CLASSES,
        notes=("labels are words",),
    )  # fmt: skip


def record(made: Task, identity: dict, seed: int, **facts) -> Record:
    """A model with answers drawn at random."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(SIZES["forget"], CLASSES)).astype(np.float32)
    logits[np.arange(len(logits)), made.forget.labels.numpy()] += 2
    kept = [rng.normal(size=(SIZES[name], CLASSES)).astype(np.float32) for name in ("retain", "test")]
    right = np.stack([np.bincount(made.splits[name].labels, minlength=CLASSES) for name in SPLITS]) - 1
    accuracies = right[0].sum() / SIZES["retain"], right[3].sum() / SIZES["test"]
    facts = {"seconds": 1.0 + seed, "device": "cpu x86_64", "torch": "2", "numpy": "2"} | facts
    return Record(Evaluation(logits, *map(float, accuracies), Controls(*kept, right)), identity, facts)


def source_of(folder, text: str = SOURCE, name: str = "mine", about: dict | None = None, **facts) -> PageSource:
    """What the page of a grading with one changed constant is drawn from; run 3 has failed.

    Args:
        about: further fields of score.json, in place of the usual.
        facts: of the records of runs.
    """
    (folder / f"{name}.py").write_text(text)
    submission, made = Submission.find(f"{folder / name}.py[SCALE=0.5]"), task()
    of_runs = {"kind": "run", "task": FINGERPRINT, "submission": submission.digest(), "original": ORIGINAL, "seed": 0}
    numbers = [k for k in range(RUNS + 1) if k != 3]
    runs = {k: record(made, of_runs | {"index": k}, k, **facts) for k in numbers}
    pool = [record(made, {"kind": "oracle", "task": FINGERPRINT, "index": k}, 100 + k) for k in range(ORACLES)]
    original = record(made, {"kind": "original", "task": FINGERPRINT, "original": ORIGINAL}, 99)
    e = original.evaluation
    told = {
        "task_spec": "digits", "when": "2026-01-01T00:00:00+00:00", "kit": {"version": "0", "commit": "0"}, "seed": 0,
        "torch": "2", "numpy": "2", "hardware": "none, made up", "originals": 1, "settings": {"SCALE": "0.5"},
        "untold": [], "made_from": of_runs | {"index": None, "out": str(folder)}, "repeats": None, "kaggle": None,
        "original": {"retain_accuracy": e.retain_accuracy, "test_accuracy": e.test_accuracy, "hash": ORIGINAL},
    } | (about or {})  # fmt: skip
    score = verifying.scored(runs, pool, original, made, [3])
    result = Result.of(score, submission.label, made.name, told)
    method, failures = MethodText.of(submission), {3: f"ValueError: in {folder}"}
    return PageSource(result, runs, pool, original, made, "unused", failures=failures, method=method)


@contextmanager
def plainly():
    """Without further measures, a second of each score, and without the page, two seconds of each."""
    page = patch.object(writing, "page_of", lambda _: "<!DOCTYPE html>")
    with patch.object(verifying, "further_measures", lambda *_: []), page:
        yield


def members_of(content: bytes) -> tuple[dict, dict[str, bytes]]:
    """Contents and members of a shared file, without any check."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return json.loads(members.pop("contents.json")), members


def changed(content: bytes, alter) -> bytes:
    """A forgery: alter(contents, members) changes both, and all checksums are made anew."""
    contents, members = members_of(content)
    alter(contents, members)
    return pack({k: v for k, v in contents.items() if k != "sha256"}, members)


def with_score(**fields):
    """Alters score.json, and makes its own checksum fit."""

    def alter(_, members):
        found = json.loads(members["score.json"]) | fields
        members["score.json"] = json.dumps(found | {"sha256": checksum(found)}).encode()

    return alter


def edited(old, new, member="method.py"):
    """Alters a member: one text in it becomes another."""

    def alter(_, members):
        assert old in members[member], "else nothing would be changed"
        members[member] = members[member].replace(old, new)

    return alter


def with_records(name: str, change):
    """Alters the records in a member: change(list of records) gives others."""

    def alter(_, members):
        arrays, _ = unseal_bytes(members[name], name)
        identities = json.loads(str(arrays["about"]))["identities"]
        shape = arrays["forget_logits"].shape[1:]
        members[name] = pool_bytes(change(pool_in(members[name], name, lambda k: identities[k], shape)))

    return alter


def nudged(records: list[Record], k: int = 0, far: float = 0.5, **fields) -> list[Record]:
    """The same with one logit of one record changed, or with other fields of its evaluation."""
    logits = records[k].evaluation.forget_logits.copy()
    logits[0, 0] += far
    evaluation = replace(records[k].evaluation, **({"forget_logits": logits} | fields))
    return [*records[:k], replace(records[k], evaluation=evaluation), *records[k + 1 :]]
