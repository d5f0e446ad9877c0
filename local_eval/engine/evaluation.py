"""What is kept of a model that was looked at: all that a score and its controls need, and never its weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
