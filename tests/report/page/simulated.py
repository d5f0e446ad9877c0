"""Gradings of simulated models, for looking at pages: perfect, shifted, too narrow, or with outlier runs.

How to make them: python -m tests.report.page.simulated FOLDER
"""

import sys
import time
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from local_eval.metric.score import compute_score
from local_eval.metric.uncertainty.projection import ProjectionError
from local_eval.report.page.facts import MeasureRow, PageSource
from local_eval.report.page.render import write_page
from local_eval.report.result import Result, save_score
from local_eval.store.records import Controls, Evaluation, Record
from local_eval.tasks.recipe import Recipe
from local_eval.tasks.task import Split, Task

CLASSES = 4
CASES = {
    "perfect": {},
    "shifted": {"shift": 1.0},
    "too_wide": {"ratio": 1.8},
    "too_narrow": {"ratio": 0.4},
    "two_percent_outliers": {"outlier": 0.02},
    "shifted_and_narrow": {"shift": 0.7, "ratio": 0.55, "right": 0.75},
    "identical": {"ratio": 0.0},
}
ABOUT = {
    "seed": 0, "when": "2026-01-01T00:00:00+00:00", "torch": "2", "numpy": "2", "hardware": "none, simulated",
    "kit": {"version": "0", "commit": "0"}, "settings": {}, "untold": [], "task_spec": "made_up",
}  # fmt: skip


def split(examples: int, seed: int) -> Split:
    """Noise around a pattern for each class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(examples) % CLASSES
    images = torch.randint(0, 256, (examples, 3, 8, 8), generator=generator, dtype=torch.uint8)
    ids = torch.arange(examples) + 1000 * seed
    return Split(images, labels, image_id=ids, person_id=ids // 3, age=labels)


def task(examples: int, name: str = "made_up") -> Task:
    """A task that is only looked at."""
    splits = {name: split(n, k) for k, (name, n) in enumerate({"retain": 400, "validation": 80, "test": 80}.items())}
    recipe = Recipe(epochs=1, lr=1.0, weight_decay=0.0)
    return Task(name, torch.nn.Identity, forget=split(examples, 9), recipe=recipe, num_classes=CLASSES, **splits)


def records(models, labels, seed, shift=0.0, ratio=1.0, outlier=0.0, right=0.9, controls=True):
    """Normal confidences about a place of each example's own; a share `outlier` of the runs lies 5 sd off."""
    rng = np.random.default_rng(seed)
    place = np.random.default_rng(99).normal(2.0, 1.5, len(labels))
    conf = place + shift * 1.2 + ratio * 1.2 * rng.normal(size=(models, len(labels)))
    conf[: round(outlier * models)] += 6.0
    logits = np.zeros((models, len(labels), CLASSES), np.float32)
    logits[:, np.arange(len(labels)), labels] = conf + np.log(CLASSES - 1)
    size = np.array([100, 0, 20, 20])[:, None] * np.ones(CLASSES, int)
    found = []
    for one in logits:
        hits = rng.binomial(size, right)
        hits[1] = np.bincount(labels[one.argmax(1) == labels], minlength=CLASSES)
        kept = Controls(one[:4], one[:4], hits) if controls else None
        evaluation = Evaluation(one, hits[0].sum() / 400, hits[3].sum() / 80, kept)
        found.append(Record(evaluation, {}, {"seconds": 2 + rng.random(), "device": "cpu", "torch": "2"}))
    return found


def projecting(really: bool):
    """A real projection takes seconds, so that tests go without."""
    refused = ProjectionError("not asked for.")
    return nullcontext() if really else patch("local_eval.metric.score.projection_of", side_effect=refused)


def results(
    folder: Path, models=24, examples=30, name="mine", pool=None, task_name="made_up", projected=False, **changes
) -> PageSource:
    """A grading whose score.json lies in `folder`."""
    made = task(examples, task_name)
    labels, persons = made.forget.labels.numpy(), made.forget.person_id.numpy()
    oracles = records(pool or 2 * models, labels, 2)
    runs = dict(enumerate(records(models, labels, 1, **changes)))
    with projecting(projected):
        score = compute_score(runs, oracles, labels, persons)
    content = Result.read(save_score(score, folder, name, task_name, ABOUT))
    original = records(1, labels, 3, shift=2.0, ratio=0.3)[0]
    return PageSource(content, runs, oracles, original, made, "python -m local_eval grade mine --task made_up")


def measure_rows() -> tuple[MeasureRow, ...]:
    """Rows that another part of the kit may give."""
    return (MeasureRow("likelihood ratio", "0.62", "0.50", "How often a likelihood ratio names the model rightly."),)


if __name__ == "__main__":
    models, examples = (int(x) for x in sys.argv[2:4]) if len(sys.argv) > 2 else (64, 60)
    for case in sys.argv[4:] or CASES:
        found = results(Path(sys.argv[1]) / case, models, examples, case, projected=True, **CASES[case])
        began = time.process_time()
        path = write_page(found, Path(sys.argv[1]) / case)
        took = time.process_time() - began
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB, {took:.1f} CPU s, score {found.result['score']:.4f}")
