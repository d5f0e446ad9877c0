"""What is kept of a model that was looked at: all that a score needs, and never its weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Evaluation:
    """All that a score needs of one model."""

    forget_logits: np.ndarray  # float32 [E, C]
    retain_accuracy: float
    test_accuracy: float
