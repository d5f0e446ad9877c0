"""Can a task tell methods apart? A verdict, from fresh originals that forgot nothing, scored as if they had unlearned.

What they get is where methods start from; the ceiling is where they can go. If both are close, the training leaves no
trace of the forget set that an attack could find, every method looks good, and none can be told from doing nothing.

How it is used: `verdict(score, originals, oracles, labels)` in grader.py, for python -m local_eval headroom
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from local_eval.metric.score import OFFICIAL_RUNS, Score, mean_accuracies
from local_eval.store.records import Record

HALF, MOST = 0.5, 0.8  # share of the ceiling from which a task can hardly tell, and cannot
LEARNED = 0.95  # retain accuracy of originals below which they have not learned what they are to forget by heart
GAP = 0.05  # forget accuracy of originals above that of oracles, below which the labels leave no trace
FEW = 100  # forget examples


@dataclass(frozen=True)
class Verdict:
    """yes, hardly or no; what it rests on; and what to change."""

    word: str
    share: float  # forgetting quality of originals that forgot nothing, of the ceiling
    low: float  # ends of its interval, with that of the ceiling
    high: float
    advice: tuple[str, ...]  # sentences; none for a plain yes

    def lines(self, runs: int) -> list[str]:
        """In words, a line each."""
        range_of = f"{100 * self.share:.0f} % of the ceiling (90 % interval {100 * self.low:.0f} to {self._high} %)"
        return [
            f"can this task tell methods apart at N = {runs}? {self.word}: {MEANING[self.word]}",
            f"  originals that forgot nothing get {range_of}",
            *(f"  {one}" for one in self.advice),
        ]

    @property
    def _high(self) -> str:
        return f"{100 * min(self.high, 9.99):.0f}"


MEANING = {
    "yes": "there is room between doing nothing and retraining",
    "hardly": "doing nothing comes close to retraining, or may; differences between methods are small beside the noise",
    "no": "doing nothing looks like retraining, so every score is about the ceiling, whatever a method does",
}


def verdict(score: Score, originals: Sequence[Record], oracles: Sequence[Record], labels: np.ndarray) -> Verdict:
    """Judge a task.

    Args:
        score: of the originals against the oracles.
        originals, oracles: N and N or more, as they were scored.
        labels: int [E] classes of the forget set.
    """
    share = score.quality_over_ceiling
    low, high = (
        end / ceiling if ceiling else float("inf")
        for end, ceiling in zip((score.drawn_again.low, score.drawn_again.high), score.ceiling_interval[::-1])
    )
    word = word_of(share, high)
    advice = [] if word == "yes" else _advice(score, originals, oracles[: len(originals)], labels, share, high)
    return Verdict(word, share, low, high, tuple(advice))


def word_of(share: float, high: float) -> str:
    """The verdict for a share of the ceiling whose interval ends at `high`; nan, without a ceiling, is a no."""
    if not share < MOST:
        return "no"
    return "yes" if share < HALF and high < MOST else "hardly"


def _advice(
    score: Score, originals: Sequence[Record], oracles: Sequence[Record], labels: np.ndarray, share: float, high: float
) -> list[str]:
    """What to change, the most likely first."""
    retain, _ = mean_accuracies(originals)
    ours, theirs = (_forget_accuracy(side, labels) for side in (originals, oracles))
    seen = (
        f"they answer {100 * ours:.0f} % of the forget set rightly, oracles, which never saw it, {100 * theirs:.0f} %"
    )
    found = []
    if retain < LEARNED:
        found.append(
            f"train longer, with a larger learning rate or less weight decay and augmentation: originals answer only "
            f"{100 * retain:.0f} % of the retain set rightly, so they have learned little by heart ({seen})"
        )
    elif ours - theirs < GAP:
        found.append(
            f"forget what is harder: {seen}. Take rare, odd or wrongly labelled examples, whole persons or a class; or "
            "let the network overfit more: fewer retain images, a larger network, less weight decay"
        )
    elif share >= HALF:
        found.append(f"let the network overfit more: train longer, less weight decay, fewer retain images ({seen})")
    if len(labels) < FEW:
        found.append(f"forget more: {len(labels)} examples are few, and the interval is wide for it")
    if share < HALF <= high or score.runs < OFFICIAL_RUNS:
        found.append(_more_runs(score))
    return found


def _more_runs(score: Score) -> str:
    ahead = ""
    if score.projected is not None and score.ceiling:
        part = 100 * score.projected.value / score.ceiling
        ahead = f": at N = {OFFICIAL_RUNS} originals would get about {part:.0f} % of the ceiling, projected"
    return f"or give more --runs, which see smaller differences{ahead}"


def _forget_accuracy(records: Sequence[Record], labels: np.ndarray) -> float:
    return float(np.mean([(r.evaluation.forget_logits.argmax(axis=1) == labels).mean() for r in records]))
