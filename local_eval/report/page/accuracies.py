"""Accuracies of the three kinds of models on the four sets, and by class where the records hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from local_eval.engine.evaluation import SPLITS
from local_eval.engine.records import Record
from local_eval.report.page.results import Results

KINDS = ("original", "retrained", "unlearned")


@dataclass(frozen=True)
class Accuracies:
    """Shares of right answers; nan where the records do not hold them, or where a class has no examples."""

    mean: np.ndarray  # [3, 4] by kind and split
    spread: np.ndarray  # [3, 4] sd over models
    by_class: np.ndarray  # [3, 4, C] means
    size: np.ndarray  # int [4, C] examples

    def missing(self) -> list[str]:
        """Kinds of models of which the validation set's and the classes' accuracies were not kept."""
        return [kind for k, kind in enumerate(KINDS) if np.isnan(self.mean[k, SPLITS.index("validation")])]


def accuracies(results: Results) -> Accuracies:
    """Work them out for the original, the retrained and the unlearned models."""
    task, classes = results.task, results.task.num_classes
    size = np.stack([np.bincount(task.splits[s].labels.cpu().numpy(), minlength=classes) for s in SPLITS])
    labels = task.forget.labels.cpu().numpy()
    kinds = [[results.original], results.retrained, list(results.unlearned.values())]
    found = [_of_kind(records, size, labels) for records in kinds]
    return Accuracies(*(np.stack(part) for part in zip(*found)), size)


def _of_kind(records: Sequence[Record], size: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean [4], sd [4] over models, and means by class [4, C]."""
    right = np.stack([right_answers(r, labels, size.shape[1]) for r in records])  # [n, 4, C]
    each = right.sum(axis=2) / np.maximum(size.sum(axis=1), 1)
    each[:, SPLITS.index("retain")] = [r.evaluation.retain_accuracy for r in records]
    each[:, SPLITS.index("test")] = [r.evaluation.test_accuracy for r in records]
    by_class = np.where(size > 0, right.mean(axis=0) / np.maximum(size, 1), np.nan)
    return each.mean(axis=0), each.std(axis=0), by_class


def right_answers(record: Record, labels: np.ndarray, classes: int) -> np.ndarray:
    """float [4, C]: right answers by split and class; nan where not kept, as only the forget set always is."""
    evaluation = record.evaluation
    if evaluation.controls is not None:
        return evaluation.controls.right.astype(float)
    found = np.full((len(SPLITS), classes), np.nan)
    if not evaluation.forget_logits.shape[1]:  # given as confidences
        return found
    hits = labels[evaluation.forget_logits.argmax(axis=1) == labels]
    found[SPLITS.index("forget")] = np.bincount(hits, minlength=classes)
    return found
