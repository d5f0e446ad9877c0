"""Attacks and distances exactly as their authors' code computes them: RULI's game, U-LiRA, KLoM.

Papers compare methods by these, so here they stand to the letter, quirks included, beside our own in measures.py:

    RULI    (Naderloui et al., USENIX Security 2025; code: datasec-lab/Ruli) likelihood ratio of two kernel densities,
            true positive rate at 1 % false positives and AUC; on vulnerable and on protected examples apart
    U-LiRA  (Hayes et al. 2024, arXiv 2403.01218; code: RoyRin/data-unlearning-bench, ulira_strong) ratio of two normal
            laws, every unlearned model left out in turn
    KLoM    (Georgiev et al. 2024, arXiv 2410.23232; code: easydub/EasyDUB-code) divergence over 20 shared bins, whose
            last one leaves out the largest value

Where ours differ: `lira_accuracy` fits one half and tries the other, with n - 1 in the spread, on both sides; published
U-LiRA leaves one out, divides by n and tries unlearned models alone. `klom` counts the largest value and scales the
floored shares to sum to 1. `lira_tpr` has normal laws where RULI has kernels of width 1.

How to run it: python -m local_eval measures fanchuan --runs 64
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn.metrics import auc, roc_curve

from local_eval.metric import few_models
from local_eval.metric.measures import (
    BINS,
    LARGEST,
    LEAST_MODELS,
    LOW_FPR,
    REPEATS,
    Labels,
    Measure,
    MeasureSpec,
    ModelOutputs,
    measured,
    perfect_pairs,
)
from local_eval.store.records import Record

# RULI's game, efficacy side: is this the answer of a model that has unlearned the example, or of one that never saw it?
#
# Published: S shadow models, of which a third has unlearned an example and a third never saw it, give two kernel
# densities for each example; they judge one target model, whose forget set and held-out set are told apart. Here every
# unlearned and every retrained model is the target once, and the densities are made of all others: pair i is left out.


KERNEL = 1.0  # width in confidences: what scikit-learn's KernelDensity takes unless it is told
CLIPPED = 1e-6  # probabilities below this count as this
PARTS = 3  # of the forget set by memorisation: the first is vulnerable, the last protected


def ruli_ratios(unlearned: np.ndarray, retrained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Likelihood ratios u / (u + r) of confidences [N, E] of either side, 0 to 1; 1 says unlearned."""
    sides = [_as_published(side) for side in (unlearned, retrained)]
    found = [np.empty(side.shape) for side in sides]
    for e in range(unlearned.shape[1]):
        u, r = (side[:, e] for side in sides)
        across = _kernels(u, r)
        found[0][:, e] = _ratio(_kernels(u, u).sum(axis=1), across.sum(axis=1))
        found[1][:, e] = _ratio(across.sum(axis=0), _kernels(r, r).sum(axis=1))
    return found[0], found[1]


def _as_published(confidences: np.ndarray) -> np.ndarray:
    """Confidences log p / (1 - p) with both shares kept above CLIPPED."""
    end = np.log((1 - CLIPPED) / CLIPPED)
    return np.clip(confidences, -end, end)


def _kernels(values: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """What each fitted value [N] adds to the density at each value [N], up to a factor; nothing where i is i."""
    kernel = np.exp(-(((values[:, None] - fitted) / KERNEL) ** 2) / 2)
    np.fill_diagonal(kernel, 0.0)
    return kernel


def _ratio(of_unlearned: np.ndarray, of_retrained: np.ndarray) -> np.ndarray:
    total = of_unlearned + of_retrained
    return np.where(total > 0, of_unlearned / np.where(total > 0, total, 1.0), 0.5)  # far from both: no answer


def memorised(original: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """How much more confident [E] the original is than the retrained models [N, E] are on average."""
    return original - retrained.mean(axis=0)


def vulnerable_and_protected(memorisation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the third of the examples that is memorised most, and of that which is memorised least."""
    order = np.argsort(-memorisation, kind="stable")
    size = max(len(order) // PARTS, 1)
    return np.sort(order[:size]), np.sort(order[-size:])


def ruli_tpr(ours: ModelOutputs, theirs: ModelOutputs, examples: np.ndarray | slice = slice(None)) -> float:
    """True positive rate where the false positive rate is next to LOW_FPR, over these examples and all models."""
    false, true = _roc(ours.forget[:, examples], theirs.forget[:, examples])
    return float(true[np.argmin(np.abs(false - LOW_FPR))])


def ruli_auc(ours: ModelOutputs, theirs: ModelOutputs, examples: np.ndarray | slice = slice(None)) -> float:
    """Area under the ROC curve, over these examples and all models."""
    return float(auc(*_roc(ours.forget[:, examples], theirs.forget[:, examples])))


def _roc(unlearned: np.ndarray, retrained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ratios = ruli_ratios(unlearned, retrained)
    answers = np.repeat([1, 0], [side.size for side in ratios])
    return roc_curve(answers, np.concatenate([side.ravel() for side in ratios]))[:2]


# U-LiRA as published: two normal laws, fitted to all retrained models and to all unlearned ones but that in question.


def ulira(ours: ModelOutputs, theirs: ModelOutputs) -> float:
    """Mean over the forget examples of `ulira_strong`."""
    return float(ulira_strong(ours.forget, theirs.forget).mean())


def ulira_strong(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """Share [E] of unlearned models that are called unlearned, from confidences [N, E] of either side.

    A ratio that has no value, since both densities are 0 or a spread is, does not count as such, as published.
    """
    centre, around = unlearned.mean(axis=0), len(unlearned) - 1
    off = unlearned - centre  # sums to 0, so that without one value the others' sum is minus that value
    mean = -off / around
    variance = np.maximum(((off**2).sum(axis=0) - off**2) / around - mean**2, 0.0)
    ours = _density(off, mean, np.sqrt(variance))
    theirs = _density(unlearned, retrained.mean(axis=0), retrained.std(axis=0))
    with np.errstate(invalid="ignore"):
        return (ours / (ours + theirs) > 0.5).mean(axis=0)


def _density(values: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Normal density; nan where the spread is 0."""
    spread = np.where(spread > 0, spread, np.nan)
    return np.exp(-(((values - mean) / spread) ** 2) / 2) / (spread * np.sqrt(2 * np.pi))


# KLoM as published. Its bins are half open, so that the largest value of both sides, which is the end of the last bin,
# falls into none: one model of one side is left out for every example.


def klom_published_95(ours: ModelOutputs, theirs: ModelOutputs) -> float:
    """95th percentile over the forget examples, as EasyDUB reports it."""
    return float(np.percentile(klom_published(ours.forget, theirs.forget), 95))


def klom_published(unlearned: np.ndarray, retrained: np.ndarray, drop_largest: bool = True) -> np.ndarray:
    """KL(unlearned || retrained) [E] of margins [N, E] each; with `drop_largest` as EasyDUB's code has it.

    Shares of retrained models are raised to LEAST_MODELS where unlearned ones are, and not scaled again.
    """
    p, q = np.clip(unlearned, -LARGEST, LARGEST), np.clip(retrained, -LARGEST, LARGEST)
    low, high = np.minimum(p.min(axis=0), q.min(axis=0)), np.maximum(p.max(axis=0), q.max(axis=0))
    edges = np.linspace(low, np.where(low >= high, low + 1.0, high), BINS + 1)
    if not drop_largest:
        edges[-1] = np.inf
    p, q = _shares(p, edges), _shares(q, edges)
    terms = np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0) / np.maximum(q, LEAST_MODELS)), 0.0)
    return terms.sum(axis=0)


def _shares(margins: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Share [BINS, E] of margins [N, E] from each edge [BINS + 1, E] to below the next, of those in any bin."""
    counts = -np.diff([(margins >= edge).sum(axis=0) for edge in edges], axis=0)
    total = counts.sum(axis=0)
    return counts / np.where(total > 0, total, 1)


def specs(original: ModelOutputs | None, theirs: ModelOutputs) -> list[MeasureSpec]:
    """The measures of this file; RULI's parts need an original, whose confidences say what was memorised."""
    found = [
        MeasureSpec(
            "ulira_published",
            "U-LiRA as published",
            worse=1,
            slight=0.055,
            clear=0.18,
            meaning="share of unlearned models that an attacker recognises by one example; 0.5 is guessing",
            function=ulira,
        ),
        MeasureSpec(
            "klom_published_95",
            "KLoM as published, P95",
            worse=1,
            slight=0.09,
            clear=0.8,
            meaning="95th percentile of the margins' divergence; its noise floor at this N is perfect, not 0",
            function=klom_published_95,
        ),
    ]
    if original is None:
        return found
    memorisation = memorised(original.forget.mean(axis=0), theirs.forget)
    for part, examples in zip(("vulnerable", "protected"), vulnerable_and_protected(memorisation)):
        about = f"on the {len(examples)} forget examples that were memorised {'most' if part[0] == 'v' else 'least'}"
        found += [
            MeasureSpec(
                f"ruli_tpr_{part}",
                f"RULI TPR, {part}",
                worse=1,
                slight=0.012,
                clear=0.08,
                meaning=f"unlearned models found at {LOW_FPR:.0%} false alarms, {about}; {LOW_FPR:g} is guessing",
                function=partial(ruli_tpr, examples=examples),
            ),
            MeasureSpec(
                f"ruli_auc_{part}",
                f"RULI AUC, {part}",
                worse=1,
                slight=0.055,
                clear=0.25,
                meaning=f"chance that an unlearned model looks more like one than a retrained model does, {about}",
                function=partial(ruli_auc, examples=examples),
            ),
        ]
    return found


# All that is measured on request: the attacks of few_models.py and the above.


@dataclass(frozen=True)
class Asked:
    """A measure that was asked for, and what the original model gets by it, where one model can be measured."""

    measure: Measure
    original: float | None = None


def measures_on_request(
    unlearned: Sequence[Record],
    oracles: Sequence[Record],
    originals: Sequence[Record],
    labels: Labels,
    references: int = few_models.REFERENCES,
) -> list[Asked]:
    """Every measure of these two files that the records allow.

    Args:
        unlearned: N finished runs.
        oracles: at least N; the first N are compared with the runs, all of them say what is perfect.
        originals: that the runs started from; empty where none is known.
        references: retrained models that RMIA and IAM have for each attacked one.
    Raises:
        MetricError: logits that are not finite.
    """
    ours, pool = ModelOutputs.of(unlearned, labels), ModelOutputs.of(oracles, labels)
    start = ModelOutputs.of(originals, labels) if originals else None
    theirs, pairs = pool[: len(ours)], perfect_pairs(pool, len(ours), REPEATS)
    few = few_models.specs(start, theirs, references)
    found = []
    for spec in (*few, *specs(start, pool)):
        measure = measured(spec, ours, theirs, pairs)
        anchor = None
        if measure and spec in few and start is not None and spec.needs(start):
            anchor = float(spec.function(start[np.arange(len(ours)) % len(start)], theirs))
        found += [Asked(measure, anchor)] if measure else []
    return found
