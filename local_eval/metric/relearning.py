"""Does what was forgotten come back when models are trained further on what they were to keep? Curves, and a verdict.

The measure is from Siddiqui et al. 2025 (arXiv 2505.22310; code: shoaibahmed/vision_relearning): fine-tune on retain
data alone, or with a tenth of the forget set, and look at the accuracy on the other forget examples after every epoch.
Retrained models gain what the retain set teaches about the forget set; a model that only hides it gains more. So the
curve of retrained models is the perfect one. runs/relearn.py trains.

How to run it: python -m local_eval relearn fanchuan --models 4
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from local_eval.metric.measures import CLEAR, FAR, LEVEL, PERFECT, SLIGHT

SEEN = ("accuracy", "confidence", "test_accuracy")  # of a model after an epoch: forget accuracy and mean confidence
SLIGHTLY, CLEARLY = 0.05, 0.2  # shares of the forget set that are right beyond the oracles'
LESS = "comes back less than in oracles"


@dataclass(frozen=True)
class Beside:
    """The mean of K unlearned models beside that of K retrained ones, and where that of K others would lie."""

    unlearned: float
    oracles: float
    low: float  # 95 % of the means of K other retrained models lie from here
    high: float  # to here

    @classmethod
    def of(cls, unlearned: np.ndarray, oracles: np.ndarray, spread: float | None = None) -> Beside:
        """From a number for each model, [K] of either side, K >= 2; `spread` is the oracles', if better known."""
        count, mean = len(oracles), float(oracles.mean())
        spread = oracles.std(ddof=1) if spread is None else spread
        # of the difference of two means of K, whose spread is known from K values
        reach = float(stdtrit(count - 1, (1 + LEVEL) / 2) * spread * np.sqrt(2 / count))
        return cls(float(unlearned.mean()), mean, mean - reach, mean + reach)

    @property
    def words(self) -> str:
        """How far the unlearned models' accuracy is from the oracles'."""
        if self.low <= self.unlearned <= self.high:
            return PERFECT
        off = self.unlearned - self.oracles
        return LESS if off < 0 else SLIGHT if off < SLIGHTLY else CLEAR if off < CLEARLY else FAR


@dataclass(frozen=True)
class Relearned:
    """What K unlearned and K retrained models know before and after every epoch of relearning."""

    unlearned: np.ndarray  # [K, epochs + 1, 3], as SEEN
    oracles: np.ndarray  # [K, epochs + 1, 3]

    @property
    def models(self) -> int:
        """K."""
        return len(self.oracles)

    @property
    def epochs(self) -> int:
        """How long it was trained."""
        return self.oracles.shape[1] - 1

    def after(self, epoch: int, what: str = "accuracy") -> Beside:
        """Both sides after an epoch; 0 is before the first. The spread is that of all epochs: few models may agree."""
        spread = float(np.sqrt(self.oracles[:, :, SEEN.index(what)].var(axis=0, ddof=1).mean()))
        return Beside.of(*(side[:, epoch, SEEN.index(what)] for side in (self.unlearned, self.oracles)), spread)

    def on_average(self, what: str = "accuracy") -> Beside:
        """Both sides' means over all epochs but the start, which stand for the whole curve."""
        return Beside.of(*(side[:, 1:, SEEN.index(what)].mean(axis=1) for side in (self.unlearned, self.oracles)))

    def rise(self, what: str = "accuracy") -> Beside:
        """By how much both sides are above their start, on average over the epochs."""
        sides = (side[:, :, SEEN.index(what)] for side in (self.unlearned, self.oracles))
        return Beside.of(*(side[:, 1:].mean(axis=1) - side[:, 0] for side in sides))

    def shown(self) -> list[int]:
        """Epochs for a small table: the first ones, then fewer and fewer, and the last."""
        powers = [2**k for k in range(self.epochs.bit_length())]
        return sorted({0, *(p for p in powers if p <= self.epochs), self.epochs})
