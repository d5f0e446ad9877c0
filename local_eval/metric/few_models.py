"""Membership attacks that need one or two retrained models beside the one that they attack: RMIA and IAM.

Most attacks of metric/measures.py learn from N models a side. These two ask of a single model whether it still knows an
example, and take one or two others that never saw it as references. So a handful of runs is enough for them, as in
`quick`. Each gives every example a number, larger for a member of the training set:

    RMIA  (Zarifzadeh et al. 2024, arXiv 2312.03262; code: privacytrustlab/ml_privacy_meter)
          p(x) = (1 + a) / 2 * mean of p_reference(x) + (1 - a) / 2, the offline estimate of how likely x is to anybody;
          score = share of population points z with [p_model(x) / p(x)] / [p_model(z) / p(z)] > 1
    IAM   (Wang et al., USENIX Security 2025; code: Happy2Git/Unlearning_Inference_IAM), the offline variant
          how far between a model that never saw x and one that was fitted to it the model's answer lies: the mean,
          weighted by alpha, of Gumbel distribution functions at the answer, moved by alpha from the one to the other

The examples in question are the forget set, against half of the test examples that the records keep, which no model
saw. The other half is RMIA's population. Retrained models, not one half, say what is perfect: they never saw the forget
set, but it may be harder or easier than the test set.

How to run it: python -m local_eval measures fanchuan --runs 64
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import expit
from scipy.stats import rankdata
from sklearn.metrics import roc_curve

from local_eval.metric.measures import LOW_FPR, MeasureSpec, ModelOutputs

OFFLINE_A = 0.3  # RMIA's share a of what a reference says, where it is not tuned
TRIED = np.arange(0, 1.1, 0.1)  # values of a that are tried, as published
LEAST_PROBABILITY = 1e-300  # of the true class: a ratio needs more than 0
LEVELS = 100  # of IAM's alpha, 0 and 1 included
ADDED, LEAST = 1e-2, 1e-5  # IAM's signal is -log(ADDED - log(LEAST + p)), moved and scaled to 0 at p = 0 and 1 at p = 1
EULER = 0.5772  # Euler and Mascheroni's constant, with its published digits
LEAST_SCALE = 1e-10  # of a Gumbel law: a constant has one, too
FEWEST = 10  # test examples of each half
REFERENCES = 1  # nearly as good as 128, by IAM's own logs


@dataclass(frozen=True)
class Seen:
    """Probabilities of the true class that one model, or several along a first axis, give to the examples."""

    points: np.ndarray  # [..., X] of the forget set, then of the test examples that are no population
    population: np.ndarray  # [..., Z] of the other test examples
    fitted: np.ndarray  # [..., K] of retain examples, which the model was trained on

    @classmethod
    def of(cls, models: ModelOutputs, which: int | np.ndarray) -> Seen:
        """What one of these models gives, or several."""
        forget, test, retain = (getattr(models, name)[which] for name in ("forget", "test", "retain"))
        points = np.concatenate([forget, test[..., 1::2]], axis=-1)
        return cls(*(np.maximum(expit(one), LEAST_PROBABILITY) for one in (points, test[..., ::2], retain)))


Attack = Callable[[Seen, Seen], np.ndarray]  # (one model, references) -> [X], larger for a member


def rmia(model: Seen, references: Seen, a: float = OFFLINE_A) -> np.ndarray:
    """RMIA's scores [X] of one model's examples, offline.

    Args:
        references: models that saw neither points nor population, along the first axis.
        a: 0 to 1; how much a reference's answer says of models that saw the example.
    """
    ratio, among = (
        target / ((1 + a) / 2 * theirs.mean(axis=0) + (1 - a) / 2)
        for target, theirs in ((model.points, references.points), (model.population, references.population))
    )
    return (ratio[:, None] / among > 1.0).mean(axis=1)


def iam(model: Seen, references: Seen) -> np.ndarray:
    """IAM's scores [X] of one model's examples, offline: 1 minus the published score, which is large if unlearned.

    One spread for all examples, as with a single shadow model; what a fitted model would say is the mean over the
    references and the examples that they were trained on.
    """
    alpha = np.linspace(0, 1, LEVELS)[:, None]
    out, target = signal(references.points), signal(model.points)
    fit = signal(references.fitted).mean()
    between = out[:, None] + (fit - out[:, None]) * alpha[:-1]  # [R, LEVELS - 1, X]
    spread = between.std(axis=(0, 2))[:, None]
    scale = np.maximum(np.sqrt(6) * spread / np.pi, LEAST_SCALE)
    place = between.mean(axis=0) - scale * EULER
    with np.errstate(over="ignore"):  # where the answer is far below: exp(-inf) is the 0 that it should be
        known = np.exp(-np.exp(-(target - place) / scale))
    return (alpha[1:] * known).sum(axis=0) / alpha.sum()


def signal(probability: np.ndarray) -> np.ndarray:
    """IAM's signal of probabilities of the true class, 0 to 1."""
    low, high = -np.log(ADDED - np.log(LEAST)), -np.log(ADDED - np.log(LEAST + 1))
    return (-np.log(ADDED - np.log(LEAST + probability)) - low) / (high - low)


def scores(attack: Attack, ours: ModelOutputs, theirs: ModelOutputs, references: int = REFERENCES) -> tuple:
    """Scores of our models' forget examples [N, E], and of test examples [N, T]: model i has references i, i + 1 ...

    Each model is attacked with references of its own, so that the mean does not hang on one of them.
    """
    count = len(theirs)
    found = [attack(Seen.of(ours, i), Seen.of(theirs, np.arange(i, i + references) % count)) for i in range(len(ours))]
    return tuple(np.split(np.stack(found), [ours.forget.shape[1]], axis=1))


def mean_auc(members: np.ndarray, others: np.ndarray) -> float:
    """Mean over models of the chance that a forget example scores above a test example, ties counted half.

    Args:
        members, others: [N, E] and [N, T].
    """
    count = members.shape[1]
    ranks = rankdata(np.concatenate([members, others], axis=1), axis=1)[:, :count].sum(axis=1)
    return float(np.mean(ranks - count * (count + 1) / 2) / (count * others.shape[1]))


def pooled_tpr(members: np.ndarray, others: np.ndarray) -> float:
    """Share of forget examples found where LOW_FPR of the test examples are taken for such; one threshold for all."""
    false, true, _ = roc_curve(np.repeat([1, 0], [members.size, others.size]), np.r_[members.ravel(), others.ravel()])
    return float(np.interp(LOW_FPR, false, true))


def attacked_auc(attack: Attack, ours: ModelOutputs, theirs: ModelOutputs, references: int = REFERENCES) -> float:
    """`mean_auc` of an attack on our models with theirs as references."""
    return mean_auc(*scores(attack, ours, theirs, references))


def attacked_tpr(attack: Attack, ours: ModelOutputs, theirs: ModelOutputs, references: int = REFERENCES) -> float:
    """`pooled_tpr` of an attack on our models with theirs as references."""
    return pooled_tpr(*scores(attack, ours, theirs, references))


def tuned_a(original: ModelOutputs, theirs: ModelOutputs, references: int = REFERENCES) -> float:
    """The value of a with which RMIA finds the forget set best in the original model, which was trained on it.

    Published code tunes it on a model whose members are known, in the same steps; of equal ones the first is taken.

    Args:
        original: one model, or several originals.
    """
    each = original[np.arange(min(len(theirs), len(original) * 8)) % len(original)]  # a few references to a model
    found = [attacked_auc(partial(rmia, a=a), each, theirs, references) for a in TRIED]
    return float(TRIED[int(np.argmax(found))])


def can_be_attacked(models: ModelOutputs) -> bool:
    """Do the records keep enough of the retain and test sets?"""
    return models.retain.shape[1] > 0 and models.test.shape[1] >= 2 * FEWEST


def specs(original: ModelOutputs | None, theirs: ModelOutputs, references: int = REFERENCES) -> list[MeasureSpec]:
    """The measures of this file.

    Args:
        original: on which RMIA is tuned; None where there is none, and a is OFFLINE_A.
        theirs: retrained models.
    """
    usable = original is not None and all(map(can_be_attacked, (original, theirs)))
    a = tuned_a(original, theirs, references) if usable else OFFLINE_A
    found = []
    for key, name, attack in (("rmia", "RMIA", partial(rmia, a=a)), ("iam", "IAM", iam)):
        about = f"a membership attack with {references} retrained model{'s' if references > 1 else ''} as reference"
        found.append(
            MeasureSpec(
                f"{key}_auc",
                f"{name} AUC",
                worse=0,
                slight=0.06,
                clear=0.18,
                meaning=f"chance that {about} ranks a forget above a test example; perfect is what oracles get",
                function=partial(attacked_auc, attack, references=references),
                needs=can_be_attacked,
            )
        )
        found.append(
            MeasureSpec(
                f"{key}_tpr",
                f"{name} TPR at {LOW_FPR:.0%} FPR",
                worse=0,
                slight=0.005,
                clear=0.02,
                meaning=f"share of forget examples that {about} finds while it takes {LOW_FPR:.0%} of test examples "
                "for members; perfect is what oracles get",
                function=partial(attacked_tpr, attack, references=references),
                needs=can_be_attacked,
            )
        )
    return found
