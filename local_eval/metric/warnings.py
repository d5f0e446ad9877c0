"""What a reader must know before believing a score, each with the numbers it rests on.

A warning has a `kind` for programs, a sentence for people, and its data. They are found from the confidences and a few
figures of a score alone; what the models were made with is compared in `score.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from local_eval.metric.given import MetricError
from local_eval.metric.metric import quality_of
from local_eval.metric.uncertainty.sides import outlier_runs
from local_eval.store.records import Evaluation

LEAK = 1.5  # times the ceiling: no honest method gets so far, by its luck alone
ALIKE = 0.4  # of the oracles' spread: runs that look like one model
NARROW = 0.4  # spread of the oracles' confidences; below, the official grid is coarse, and all scores are lower
OUTLIERS = 0.1  # share of the runs; more are no outliers but what the method does
COSTLY = 2.0  # times the score, without the outliers
DECIDE = 256  # N from which the order of methods is that of large N
FAR = 4.0  # spreads of the oracles between the original's confidence and theirs, on half of the examples
WEAK = 0.9  # of the oracles' accuracy
CLEARLY = 2.0  # times spread and counting noise: better than the oracles by more than luck
TELLING = 0.01  # of accuracy; less moves no score by much
SHOWN = 8  # indices named in a sentence


@dataclass(frozen=True)
class ScoreWarning:
    """One thing to know: its kind, a sentence, and the numbers in it."""

    kind: str  # leak, identical, alike, narrow, strays, few, original, ahead
    text: str
    data: dict = field(default_factory=dict)


def find_warnings(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    indices: Sequence[int],
    quality: float,
    ceiling: float,
) -> list[ScoreWarning]:
    """All that apply to the runs and the oracles.

    Args:
        unlearned, retrained: [N, E] confidences.
        indices: the numbers of the N runs.
        quality, ceiling: their forgetting quality, and what oracles get against oracles.
    """
    spreads = unlearned.std(axis=0), retrained.std(axis=0)
    found = [
        too_good(quality, ceiling),
        identical(unlearned) or alike(*spreads),
        narrow(spreads[1]),
        costly_outliers(unlearned, retrained, indices, quality),
        few(len(unlearned)),
    ]
    return [one for one in found if one]


def too_good(quality: float, ceiling: float) -> ScoreWarning | None:
    """A score above what retraining itself gets: the runs saw the oracles, or the grid does not see the difference."""
    if not quality > LEAK * ceiling:
        return None
    text = (
        f"forgetting quality {quality:.4f} is over {LEAK} x the ceiling {ceiling:.4f}: do the runs contain the "
        "oracles, or are all confidences within 0.01 of each other, which the official grid cannot tell apart?"
    )
    return ScoreWarning("leak", text, {"quality": quality, "ceiling": ceiling})


def identical(unlearned: np.ndarray) -> ScoreWarning | None:
    """Runs without any variance."""
    if (np.ptp(unlearned, axis=0) > 0).any():
        return None
    return ScoreWarning("identical", "all runs are identical: the method is deterministic, and such a method scores 0")


def alike(unlearned_spread: np.ndarray, retrained_spread: np.ndarray) -> ScoreWarning | None:
    """Runs that vary far less than the oracles do."""
    usable = retrained_spread > 0
    ratio = float(np.median(unlearned_spread[usable] / retrained_spread[usable])) if usable.any() else 1.0
    if ratio >= ALIKE:
        return None
    text = (
        f"the runs spread {ratio:.2f} times as much as the oracles: they look like one model, which alone costs most "
        "of the score. What differs from run to run?"
    )
    return ScoreWarning("alike", text, {"spread_ratio": ratio})


def narrow(retrained_spread: np.ndarray) -> ScoreWarning | None:
    """Oracles so alike that the official grid is coarse for them."""
    spread = float(np.median(retrained_spread))
    if spread >= NARROW:
        return None
    text = (
        f"the oracles' confidences spread by {spread:.2f}, less than {NARROW}; scores then live on another scale (see "
        "the ceiling)"
    )
    return ScoreWarning("narrow", text, {"spread": spread})


def costly_outliers(
    unlearned: np.ndarray, retrained: np.ndarray, indices: Sequence[int], quality: float
) -> ScoreWarning | None:
    """A few runs far off on many examples, without which the score would be at least twice as high."""
    is_outlier = outlier_runs(unlearned)
    if not 0 < is_outlier.sum() <= max(1, OUTLIERS * len(is_outlier)):
        return None
    try:
        without = quality_of(unlearned[~is_outlier], retrained[: int((~is_outlier).sum())])
    except MetricError:  # nothing to compare with
        return None
    if not without >= COSTLY * quality:
        return None
    named = [int(index) for index, off in zip(indices, is_outlier) if off]
    shown = ", ".join(map(str, named[:SHOWN])) + (" ..." if len(named) > SHOWN else "")
    text = (
        f"{len(named)} of {len(is_outlier)} runs went astray ({shown}); without them forgetting quality would be "
        f"{without:.4f} instead of {quality:.4f}"
    )
    return ScoreWarning("strays", text, {"runs": named, "without": without, "quality": quality})


def few(models: int) -> ScoreWarning | None:
    """An N at which methods that are not perfect look better than they are, some more than others."""
    if models >= DECIDE:
        return None
    text = f"N = {models} is for screening: imperfect methods look better than at 512; decide at {DECIDE} or more"
    return ScoreWarning("few", text, {"runs": models})


def far_original(original: np.ndarray, retrained: np.ndarray) -> ScoreWarning | None:
    """An original model so far from all oracles that whatever starts from it looks bad. original [E]."""
    spread = np.maximum(retrained.std(axis=0, ddof=1), 1e-12)
    distance = float(np.median(np.abs(original - retrained.mean(axis=0)) / spread))
    if distance <= FAR:
        return None
    text = (
        f"the original model is {distance:.1f} spreads of the oracles away from them on half of the forget set: every "
        "method that starts from it scores low. The command `headroom` shows what such originals get on this task"
    )
    return ScoreWarning("original", text, {"distance": distance})


def weak_original(original: Evaluation, retain_accuracy: float, test_accuracy: float) -> ScoreWarning | None:
    """An original model whose accuracies lag behind the oracles' means, which holds down every method's utility."""
    ratios = {
        "retain": original.retain_accuracy / max(retain_accuracy, 1e-12),
        "test": original.test_accuracy / max(test_accuracy, 1e-12),
    }
    worst = min(ratios, key=ratios.get)
    if ratios[worst] >= WEAK:
        return None
    text = (
        f"the original model's {worst} accuracy is {ratios[worst]:.2f} of the oracles': every method that starts from "
        "it pays for that"
    )
    return ScoreWarning("original", text, {"split": worst, "ratio": ratios[worst]})


def ahead(who: str, accuracies: dict[str, tuple[float, np.ndarray, int]]) -> ScoreWarning | None:
    """A model that is clearly better than the oracles where they should be alike: the two were not trained alike.

    Args:
        who: "original" or "submission".
        accuracies: by set, retain or test: its mean accuracy, those of the oracles [N], and of how many examples.
    """
    found = {}
    for split, (ours, theirs, examples) in accuracies.items():
        mean, spread = float(theirs.mean()), float(theirs.std(ddof=1))
        noise = np.sqrt(spread**2 + mean * (1 - mean) / examples)
        if ours - mean > max(CLEARLY * noise, TELLING):
            found[split] = {"accuracy": float(ours), "oracles": mean, "spread": spread}
    if not found:
        return None
    reported = " and ".join(
        f"{split} accuracy {one['accuracy']:.3f}, oracles {one['oracles']:.3f} (spread {one['spread']:.3f})"
        for split, one in found.items()
    )
    name = {"original": "the original model is", "submission": "the runs are"}[who]
    text = f"{name} clearly better than the oracles: {reported}. "
    text += AHEAD[who]
    return ScoreWarning("ahead", text, {"who": who, "sets": found})


AHEAD = {
    "original": "They were not trained alike, so the accuracy ratios reward that, and not forgetting: train oracles as "
    "the original was (longer, other recipe), or go by forgetting quality",
    "submission": "The ratios multiply the score for that; go by forgetting quality, and see whether the oracles are "
    "trained to the end",
}
