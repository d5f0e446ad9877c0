"""What models show of themselves, as rows of numbers; and pairs of sides that are perfect by construction.

A perfect pair is two sides of N models that were all retrained. Where the pool holds 2 N oracles, its disjoint halves
are such pairs. Elsewhere they are drawn: normal, with the oracles' means and with their covariances over everything at
once, so that what examples have in common by sharing a model stays.

How it is used: `further_measures` in further.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from local_eval.engine.records import Record
from local_eval.metric.metric import confidences_in, confidences_of
from local_eval.tasks.evaluate import control_sample
from local_eval.tasks.task import Task


@dataclass(frozen=True)
class Labels:
    """True classes: of the E forget examples, and of the samples of the retain and the test set that are kept."""

    forget: np.ndarray
    retain: np.ndarray
    test: np.ndarray

    @classmethod
    def of(cls, task: Task) -> Labels:
        """As the records of this task have them."""
        sampled = (split.labels.cpu()[control_sample(len(split))].numpy() for split in (task.retain, task.test))
        return cls(task.forget.labels.cpu().numpy(), *sampled)


@dataclass(frozen=True)
class Looks:
    """N models: logit-scaled confidences of the true class, and accuracies as shares."""

    forget: np.ndarray  # [N, E]
    accuracies: np.ndarray  # [N, 3] on the retain, forget and test set
    retain: np.ndarray  # [N, K]; K is 0 where the records do not keep it
    test: np.ndarray  # [N, K]

    @classmethod
    def of(cls, records: Sequence[Record], labels: Labels) -> Looks:
        """Of these models. Raises MetricError for logits that are not finite."""
        seen = [r.evaluation for r in records]
        logits = np.stack([e.forget_logits for e in seen])
        known = logits.shape[-1] > 0  # not of models that were given as confidences
        right = (logits.argmax(axis=-1) == labels.forget).mean(axis=1) if known else np.full(len(seen), np.nan)
        accuracies = np.array([(e.retain_accuracy, share, e.test_accuracy) for e, share in zip(seen, right)])
        forget = confidences_in(seen, labels.forget)
        if not all(e.controls for e in seen):
            return cls(forget, accuracies, *np.empty((2, len(seen), 0)))
        retain = confidences_of(np.stack([e.controls.retain_logits for e in seen]), labels.retain)
        test = confidences_of(np.stack([e.controls.test_logits for e in seen]), labels.test)
        return cls(forget, accuracies, retain, test)

    def __len__(self) -> int:
        return len(self.forget)

    def __getitem__(self, models: np.ndarray | slice) -> Looks:
        return Looks(*(getattr(self, field.name)[models] for field in fields(self)))

    @property
    def has_controls(self) -> bool:
        """Do the records keep how the models answer where nothing was to be forgotten?"""
        return self.retain.shape[1] > 0 and self.test.shape[1] > 0


Pair = tuple[Looks, Looks]


def perfect_pairs(oracles: Looks, models: int, repeats: int) -> list[Pair]:
    """Pairs of `models` retrained models a side, the same for the same oracles."""
    rng = np.random.default_rng(0)
    if not has_halves(oracles, models):
        drawn = [_drawn(oracles, 2 * models, rng) for _ in range(repeats)]
        return [(both[:models], both[models:]) for both in drawn]
    orders = [rng.permutation(len(oracles)) for _ in range(repeats)]
    return [(oracles[order[:models]], oracles[order[models : 2 * models]]) for order in orders]


def has_halves(oracles: Looks, models: int) -> bool:
    """Are there oracles for two sides?"""
    return len(oracles) >= 2 * models


def _drawn(oracles: Looks, count: int, rng: np.random.Generator) -> Looks:
    """Normal rows with the oracles' mean and covariance: a random mixture of how the oracles differ from their mean."""
    weights = rng.standard_normal((count, len(oracles))) / np.sqrt(len(oracles) - 1)
    sides = []
    for field in fields(oracles):
        values = getattr(oracles, field.name)
        mean = values.mean(axis=0)
        sides.append(mean + weights @ (values - mean))
    return Looks(*sides)
