"""A whole class that is to be forgotten: accuracies on the forgotten and on the kept classes, each by itself.

A class counts as forgotten if the forget set has it and the retain set has no example of it. Oracles never saw it and
answer none of its test examples rightly. So the official test accuracy ratio, over all classes, rewards a method that
still knows the class: its test accuracy is above the oracles'. The official score stays as it is; these numbers stand
beside it.

How it is used: `forgotten_classes(unlearned, oracles, original, task)` in grader.py; the console, score.json and the
page show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from local_eval.engine.evaluation import SPLITS, Evaluation
from local_eval.tasks.task import Task

Shares = dict[str, dict[str, float | None]]  # by split, then "forgotten" and "kept"; None without an example


@dataclass(frozen=True)
class ForgottenClasses:
    """Accuracies, shares 0 to 1, means over models, by split and kind of class."""

    classes: tuple[int, ...]
    unlearned: Shares
    oracles: Shares
    original: Shares | None  # None where runs start from several


def classes_forgotten(task: Task) -> list[int]:
    """Classes that the forget set has and the retain set has not."""
    kept, gone = (_counts(task)[SPLITS.index(name)] for name in ("retain", "forget"))
    return np.flatnonzero((gone > 0) & (kept == 0)).tolist()


def forgotten_classes(
    unlearned: Sequence[Evaluation], oracles: Sequence[Evaluation], original: Evaluation | None, task: Task
) -> ForgottenClasses | None:
    """None where no whole class is to be forgotten, or where records do not hold right answers by class."""
    gone = classes_forgotten(task)
    every = [*unlearned, *oracles, *([original] if original else [])]
    if not gone or any(one.controls is None for one in every):
        return None
    sizes = _counts(task)
    found = [_shares(side, gone, sizes) for side in (unlearned, oracles)]
    return ForgottenClasses(tuple(gone), *found, _shares([original], gone, sizes) if original else None)


def _shares(models: Sequence[Evaluation], gone: list[int], sizes: np.ndarray) -> Shares:
    right = np.mean([one.controls.right for one in models], axis=0)  # [4, C]
    is_gone = np.isin(np.arange(sizes.shape[1]), gone)
    return {
        split: {kind: _share(right[s, which], sizes[s, which]) for kind, which in _kinds(is_gone)}
        for s, split in enumerate(SPLITS)
    }


def _kinds(is_gone: np.ndarray) -> tuple[tuple[str, np.ndarray], ...]:
    return ("forgotten", is_gone), ("kept", ~is_gone)


def _share(right: np.ndarray, size: np.ndarray) -> float | None:
    return float(right.sum() / size.sum()) if size.sum() else None


def kept_test_accuracy(models: Sequence[Evaluation], task: Task) -> tuple[np.ndarray, int] | None:
    """Test accuracy [n] of each model on the classes that the retain set has, and on how many examples.

    With no class forgotten that is the test accuracy. None where the records cannot tell.
    """
    gone, sizes = classes_forgotten(task), _counts(task)[SPLITS.index("test")]
    if not gone:
        return np.array([one.test_accuracy for one in models]), int(sizes.sum())
    kept = np.setdiff1d(np.arange(len(sizes)), gone)
    if any(one.controls is None for one in models) or not sizes[kept].sum():
        return None
    right = np.array([one.controls.right[SPLITS.index("test"), kept].sum() for one in models])
    return right / sizes[kept].sum(), int(sizes[kept].sum())


def _counts(task: Task) -> np.ndarray:
    """int [4, C]: examples by split and class."""
    labels = [task.splits[name].labels.cpu().numpy() for name in SPLITS]
    return np.stack([np.bincount(one, minlength=task.num_classes) for one in labels])
