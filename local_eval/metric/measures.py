"""Further measures beside the official score, each with what perfect unlearning gets at this N.

A measure is a function of two sides, N unlearned and N retrained models, that gives a number. The decorator `measure`
gives it a name, and with that a line in the table of `grade`, an entry under `beyond` in score.json and a row on the
report page, in the order of this file:

    @measure("mean_shift", "mean shift", worse=1, slight=0.1, clear=0.5, meaning="shift of the mean; 0 is perfect")
    def mean_shift(ours: ModelOutputs, theirs: ModelOutputs) -> float:
        return abs(float(ours.forget.mean() - theirs.forget.mean()))

What perfect unlearning gets is measured on pairs of sides that were all retrained. docs/scores.md has formula, source
and weakness of each measure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from scipy.special import stdtrit
from scipy.stats import beta, entropy, ks_2samp, mannwhitneyu, norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from local_eval.metric.attacks import DELTA
from local_eval.metric.given import MetricError
from local_eval.metric.metric import confidences_in, confidences_of, example_epsilons, forgetting_points
from local_eval.store.records import Record
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
class ModelOutputs:
    """What N models answer: logit-scaled confidences of the true class, and accuracies as shares."""

    forget: np.ndarray  # [N, E]
    accuracies: np.ndarray  # [N, 3] on the retain, forget and test set
    retain: np.ndarray  # [N, K]; K is 0 where the records do not keep it
    test: np.ndarray  # [N, K]

    @classmethod
    def of(cls, records: Sequence[Record], labels: Labels) -> ModelOutputs:
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

    def __getitem__(self, models: np.ndarray | slice) -> ModelOutputs:
        return ModelOutputs(*(getattr(self, field.name)[models] for field in fields(self)))

    @property
    def has_controls(self) -> bool:
        """Do the records keep how the models answer where nothing was to be forgotten?"""
        return self.retain.shape[1] > 0 and self.test.shape[1] > 0


# A perfect pair is two sides of N models that were all retrained. Where the pool holds 2 N oracles, its disjoint
# halves are such pairs. Elsewhere they are drawn: normal, with the oracles' means and with their covariances over
# everything at once, so that what examples have in common by sharing a model stays.

Pair = tuple[ModelOutputs, ModelOutputs]


def perfect_pairs(oracles: ModelOutputs, models: int, repeats: int) -> list[Pair]:
    """Pairs of `models` retrained models a side, the same for the same oracles."""
    rng = np.random.default_rng(0)
    if len(oracles) < 2 * models:
        drawn = [_drawn(oracles, 2 * models, rng) for _ in range(repeats)]
        return [(both[:models], both[models:]) for both in drawn]
    orders = [rng.permutation(len(oracles)) for _ in range(repeats)]
    return [(oracles[order[:models]], oracles[order[models : 2 * models]]) for order in orders]


def _drawn(oracles: ModelOutputs, count: int, rng: np.random.Generator) -> ModelOutputs:
    """Normal rows with the oracles' mean and covariance: a random mixture of how the oracles differ from their mean."""
    weights = rng.standard_normal((count, len(oracles))) / np.sqrt(len(oracles) - 1)
    sides = []
    for field in fields(oracles):
        values = getattr(oracles, field.name)
        mean = values.mean(axis=0)
        sides.append(mean + weights @ (values - mean))
    return ModelOutputs(*sides)


LEVEL = 0.95  # of perfect gradings at this N lie between `low` and `high`
PERFECT, SLIGHT, CLEAR, FAR, BETTER = "as perfect", "slightly off", "clearly off", "far off", "better than perfect"
REPEATS = 6  # perfect pairs; more make the words a little firmer and all of it slower

Function = Callable[[ModelOutputs, ModelOutputs], float]


def of_perfect_pairs(function: Function, theirs: ModelOutputs, pairs: Sequence[Pair]) -> np.ndarray:
    """Values [pairs] of perfect unlearning: those of pairs that are perfect."""
    return np.array([function(*pair) for pair in pairs])


@dataclass(frozen=True)
class MeasureSpec:
    """What is measured, apart from any models."""

    key: str  # for programs
    name: str  # for people
    worse: int  # 1: larger is worse; -1: smaller is worse; 0: any difference is
    slight: float  # a difference from perfect below this is slight: a shift of 0.3 sd makes it where all else is equal
    clear: float  # one above this is large: a shift of 1 sd makes it
    meaning: str  # what good looks like, in a sentence
    function: Function
    in_table: bool = True  # of the console; all are in score.json and on the page
    needs: Callable[[ModelOutputs], bool] = lambda models: True  # of either side, to have this measure
    perfect: Callable[[Function, ModelOutputs, Sequence[Pair]], np.ndarray] = of_perfect_pairs  # at least two values


MEASURES: dict[str, MeasureSpec] = {}  # by key, in the order in which they are shown


def measure(key: str, name: str, **more: object) -> Callable[[Function], Function]:
    """Make a function of two sides a further measure; `more` are the other fields of `MeasureSpec`.

    Raises ValueError for a key that is taken.
    """

    def register(function: Function) -> Function:
        if key in MEASURES:
            raise ValueError(f"there is a measure {key!r} already: {MEASURES[key].name}")
        MEASURES[key] = MeasureSpec(key, name, function=function, **more)
        return function

    return register


@dataclass(frozen=True)
class Measure:
    """One measure of one grading."""

    key: str
    name: str
    value: float
    perfect: float  # what perfect unlearning gets at this N
    low: float  # of perfect gradings at this N, 95 % lie from here
    high: float  # to here
    words: str  # how far the value is from perfect
    meaning: str


def further_measures(unlearned: Sequence[Record], oracles: Sequence[Record], labels: Labels) -> list[Measure]:
    """Every measure that the records allow.

    Args:
        unlearned: N finished runs.
        oracles: at least N; the first N are compared with the runs, all of them say what is perfect.
    Raises:
        MetricError: logits that are not finite.
    """
    ours, pool = ModelOutputs.of(unlearned, labels), ModelOutputs.of(oracles, labels)
    theirs, pairs = pool[: len(ours)], perfect_pairs(pool, len(ours), REPEATS)
    found = [measured(spec, ours, theirs, pairs) for spec in MEASURES.values()]
    return [one for one in found if one]


def measured(spec: MeasureSpec, ours: ModelOutputs, theirs: ModelOutputs, pairs: Sequence[Pair]) -> Measure | None:
    """Measure these two sides, and beside them perfect ones; None where models lack what it needs, or it is not finite.

    Args:
        ours, theirs: N unlearned and N retrained models.
        pairs: perfect pairs of the same N.
    """
    if not (spec.needs(ours) and spec.needs(theirs)):
        return None
    found = judged(spec, spec.function(ours, theirs), spec.perfect(spec.function, theirs, pairs))
    return found if np.isfinite([found.value, found.low, found.high]).all() else None


def shown_in_table(measures: Sequence[Measure]) -> list[Measure]:
    """Those that the console shows."""
    return [one for one in measures if one.key in MEASURES and MEASURES[one.key].in_table]


def judged(spec: MeasureSpec, value: float, perfect: np.ndarray) -> Measure:
    """The measure with its words, from values [n >= 2] of perfect gradings."""
    count, middle = len(perfect), float(perfect.mean())
    reach = stdtrit(count - 1, (1 + LEVEL) / 2) * float(perfect.std(ddof=1)) * np.sqrt(1 + 1 / count)
    low, high = float(middle - reach), float(middle + reach)
    words = in_words(spec, value - middle, inside=low <= value <= high)
    return Measure(spec.key, spec.name, float(value), middle, low, high, words, spec.meaning)


def in_words(spec: MeasureSpec, off: float, inside: bool) -> str:
    """How far a value that differs by `off` is from perfect; `inside` the noise of perfect gradings it is not."""
    if inside:
        return PERFECT
    if spec.worse * off < 0:
        return BETTER
    return SLIGHT if abs(off) < spec.slight else CLEAR if abs(off) < spec.clear else FAR


# U-LiRA: a likelihood-ratio attack on every forget example, fitted on half of the models and tried on the other.
#
# An attacker who knows how the confidence of an example is distributed among unlearned and among retrained models, as
# two normal laws, says of a model which of the two it is. Both halves are fitted and tried once.


LOW_FPR = 0.01
LEAST_SPREAD = 1e-6  # a constant has a likelihood, too


@measure(
    "lira_accuracy",
    "U-LiRA accuracy",
    worse=1,
    slight=0.055,
    clear=0.19,
    meaning="share of models that an attacker tells apart by one example; 0.5 is guessing",
)
def lira_accuracy(ours: ModelOutputs, theirs: ModelOutputs) -> float:
    """Share of right answers over examples and models of both sides."""
    unlearned, retrained = log_ratios(ours.forget, theirs.forget)
    return float(((unlearned > 0).mean() + (retrained <= 0).mean()) / 2)


@measure(
    "lira_tpr",
    f"U-LiRA TPR at {LOW_FPR:.0%} FPR",
    worse=1,
    slight=0.012,
    clear=0.08,
    meaning="share of unlearned models recognised while one in a hundred of the retrained is taken for such; "
    f"{LOW_FPR:g} is guessing",
    in_table=False,
)
def lira_tpr(ours: ModelOutputs, theirs: ModelOutputs) -> float:
    """True positive rate over all examples and models where the false positive rate is LOW_FPR."""
    ratios = log_ratios(ours.forget, theirs.forget)
    answers = np.repeat([1, 0], [side.size for side in ratios])
    false, true, _ = roc_curve(answers, np.concatenate([side.ravel() for side in ratios]))
    return float(np.interp(LOW_FPR, false, true))


def log_ratios(unlearned: np.ndarray, retrained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log p(unlearned) / p(retrained) of confidences [N, E] of either side, each by laws fitted to the other half."""
    half = len(unlearned) // 2
    halves = (slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))
    parts = [
        [_log_density(unlearned[fit], side[held]) - _log_density(retrained[fit], side[held]) for fit, held in halves]
        for side in (unlearned, retrained)
    ]
    return tuple(np.concatenate(part[::-1]) for part in parts)


def _log_density(fitted: np.ndarray, values: np.ndarray) -> np.ndarray:
    spread = np.maximum(fitted.std(axis=0, ddof=1), LEAST_SPREAD)
    return norm.logpdf(values, fitted.mean(axis=0), spread)


# KLoM: how far, as a Kullback-Leibler divergence, the margins of an example are from those of oracles.
#
# Defined by Georgiev et al. (2024) on margins log p_y - log sum of the others, which are the confidences here. Its
# noise floor, what oracles get against oracles, is large and falls with N: 0.64 at N = 64, 0.05 at 512.


BINS = 20  # on the range of both sides together
LEAST_MODELS = 1e-5  # share of oracles in a bin that holds none
LARGEST = 100.0  # margins beyond count as this
KLOM_MEANING = "divergence of the margins from the oracles'; its noise floor at this N is perfect, not 0"


@measure("klom", "KLoM, mean", worse=1, slight=0.06, clear=0.6, meaning=KLOM_MEANING)
def klom(ours: ModelOutputs, theirs: ModelOutputs) -> float:
    """Mean over the forget examples."""
    return float(np.mean(divergences(ours.forget, theirs.forget)))


@measure("klom_95", "KLoM, 95th percentile", worse=1, slight=0.09, clear=0.8, meaning=KLOM_MEANING, in_table=False)
def klom_95(ours: ModelOutputs, theirs: ModelOutputs) -> float:
    """95th percentile over the forget examples."""
    return float(np.percentile(divergences(ours.forget, theirs.forget), 95))


def divergences(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """KL(unlearned || retrained) [E] of margins [N, E] each, binned."""
    sides = [np.clip(side, -LARGEST, LARGEST) for side in (unlearned, retrained)]
    low = np.minimum(*(side.min(axis=0) for side in sides))
    width = np.maximum(*(side.max(axis=0) for side in sides)) - low
    width[width == 0] = 1.0  # all values are one: one bin holds them
    p, q = (_shares((side - low) / width) for side in sides)
    return entropy(p, np.maximum(q, LEAST_MODELS), axis=0)


def _shares(places: np.ndarray) -> np.ndarray:
    """Share [BINS, E] of values [N, E], which lie in 0..1, by bin."""
    bins = np.minimum((places * BINS).astype(np.int64), BINS - 1)
    return np.stack([(bins == b).mean(axis=0) for b in range(BINS)])


# Two distances between the confidences of unlearned and retrained models, example by example, without any fit.


@measure(
    "ks",
    "Kolmogorov-Smirnov distance",
    worse=1,
    slight=0.085,
    clear=0.35,
    meaning="largest gap between the distributions of an example's confidence; noise makes it positive",
    in_table=False,
)
def ks_distance(ours: ModelOutputs, theirs: ModelOutputs) -> float:
    """Mean over examples of the largest difference of the two empirical distribution functions."""
    return float(ks_2samp(ours.forget, theirs.forget, axis=0, method="asymp").statistic.mean())


@measure(
    "auc",
    "AUC distance",
    worse=1,
    slight=0.068,
    clear=0.245,
    meaning="|AUC - 1/2| of a threshold on an example's confidence; blind where only the spreads differ",
    in_table=False,
)
def auc_distance(ours: ModelOutputs, theirs: ModelOutputs) -> float:
    """Mean over examples of |area under the ROC curve - 1/2|."""
    larger = mannwhitneyu(ours.forget, theirs.forget, axis=0, method="asymptotic").statistic
    return float(np.abs(larger / (len(ours) * len(theirs)) - 0.5).mean())


# An audited epsilon: one that holds with 95 % confidence, instead of the largest that luck can show.
#
# The official epsilon is the best of many attacks on the very models that it was found on. Here the threshold, and
# its direction, are chosen on one half of the models. The other half gives upper ends for both error rates (Clopper
# and Pearson, 97.5 % each, so 95 % together), and these a lower end for epsilon. Perfect unlearning gets 0.


CONFIDENCE = 0.975  # of each error rate's end


@measure(
    "audited_epsilon",
    "audited epsilon",
    worse=1,
    slight=0.05,
    clear=0.6,
    meaning="epsilon that is proven with 95 % confidence, mean over examples; 0 is perfect, or few models",
    in_table=False,
)
def audited_epsilon(ours: ModelOutputs, theirs: ModelOutputs) -> float:
    """The mean over the forget examples."""
    return float(audited_epsilons(ours.forget, theirs.forget).mean())


def audited_epsilons(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """Lower ends of epsilon [E], 95 % each, from confidences [N, E] of either side."""
    half = len(unlearned) // 2
    table = bounds(half)
    return np.array(
        [
            _audit(u[:half], r[:half], u[half : 2 * half], r[half : 2 * half], table)
            for u, r in zip(unlearned.T, retrained.T)
        ]
    )


def _audit(u_choose: np.ndarray, r_choose: np.ndarray, u_held: np.ndarray, r_held: np.ndarray, table: np.ndarray):
    """One example's: choose 'at least t' or 'below t' means unlearned on two samples [n], look it up on two others."""
    thresholds = np.concatenate([u_choose, r_choose])
    up, down = table[_errors(u_choose, r_choose, thresholds)], table[_errors(r_choose, u_choose, thresholds)]
    if up.max() >= down.max():
        return table[_errors(u_held, r_held, thresholds[up.argmax()])]
    return table[_errors(r_held, u_held, thresholds[down.argmax()])]


def _errors(positive: np.ndarray, negative: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False positives and false negatives of 'at least t means positive', for each t."""
    false_positives = len(negative) - np.searchsorted(np.sort(negative), thresholds)
    return false_positives, np.searchsorted(np.sort(positive), thresholds)


@lru_cache(maxsize=4)
def bounds(models: int) -> np.ndarray:
    """[n+1, n+1]: the lower end of epsilon for (false positives, false negatives) among `models` a side."""
    errors = np.arange(models + 1)
    upper = np.ones(models + 1)
    upper[:-1] = beta.ppf(CONFIDENCE, errors[:-1] + 1, models - errors[:-1])
    reach, log_upper = np.log(np.maximum(1 - DELTA - upper, DELTA)), np.log(upper)
    table = np.maximum(reach[:, None] - log_upper[None, :], reach[None, :] - log_upper[:, None])
    return np.maximum(table, 0.0)


# One attack on the whole forget set: a classifier sees all confidences of a model at once.
#
# The official attacks look at one example at a time. So a shift too small to be seen there, or runs whose examples
# all move together, pass them; here they do not. The better of two classifiers counts: naive Bayes, which adds up
# what the examples say each, and a logistic regression on what they say together.


FOLDS = 5


@measure(
    "pooled_attack",
    "pooled attack",
    worse=1,
    slight=0.1,
    clear=0.3,
    meaning="share of models that an attacker tells apart by the whole forget set; about 0.5 is guessing",
    in_table=False,
)
def pooled_attack(ours: ModelOutputs, theirs: ModelOutputs) -> float:
    """Accuracy over models of both sides, each judged by a classifier that was fitted without it."""
    values = np.concatenate([ours.forget, theirs.forget])
    side = np.repeat([1, 0], [len(ours), len(theirs)])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    logistic = LogisticRegression(solver="newton-cholesky")
    together = make_pipeline(StandardScaler(), FunctionTransformer(overall), StandardScaler(), logistic)
    return max(float(cross_val_score(attacker, values, side, cv=folds).mean()) for attacker in (GaussianNB(), together))


def overall(values: np.ndarray) -> np.ndarray:
    """[n, 3] of standardised confidences [n, E]: mean, its square, and the logarithm of the mean square."""
    mean = values.mean(axis=1)
    return np.column_stack([mean, mean**2, np.log((values**2).mean(axis=1) + 1e-12)])


# The official score where nothing was to be forgotten: on test examples, which no model saw, and on retain examples.
#
# Both sit at their ceiling if a method touches only what it should. A method that adds noise, or wears the network
# down, to look like retraining on the forget set shows here.


EXAMPLES = 64  # of each sample that are scored: 1 ms each
CONTROL_REPEATS = 4  # perfect pairs that are scored; more take seconds


def of_a_few_pairs(function: Function, theirs: ModelOutputs, pairs: Sequence[Pair]) -> np.ndarray:
    """Values of perfect unlearning, of a few perfect pairs."""
    return of_perfect_pairs(function, theirs, pairs[:CONTROL_REPEATS])


@measure(
    "test_control",
    "control: test examples",
    worse=-1,
    slight=0.06,
    clear=0.15,
    meaning="forgetting quality of examples that no model saw; its ceiling is perfect, "
    "and below it a method changes more than it should",
    needs=lambda models: models.has_controls,
    perfect=of_a_few_pairs,
)
def control_of_test(ours: ModelOutputs, theirs: ModelOutputs) -> float:
    """On test examples."""
    return quality(ours.test, theirs.test)


@measure(
    "retain_control",
    "control: retain examples",
    worse=-1,
    slight=0.06,
    clear=0.15,
    meaning="forgetting quality of examples that all models saw; its ceiling is perfect, "
    "and below it what was to be kept has changed",
    in_table=False,
    needs=lambda models: models.has_controls,
    perfect=of_a_few_pairs,
)
def control_of_retain(ours: ModelOutputs, theirs: ModelOutputs) -> float:
    """On retain examples."""
    return quality(ours.retain, theirs.retain)


def quality(unlearned: np.ndarray, retrained: np.ndarray) -> float:
    """Mean points over EXAMPLES evenly spaced columns of confidences [N, K]; undefined ones are passed over."""
    total = unlearned.shape[1]
    kept = np.arange(min(total, EXAMPLES)) * total // min(total, EXAMPLES)
    epsilons = [e for k in kept if (e := _epsilon(unlearned[:, [k]], retrained[:, [k]])) is not None]
    return float(forgetting_points(epsilons, len(unlearned)).mean()) if epsilons else float("nan")


def _epsilon(unlearned: np.ndarray, retrained: np.ndarray) -> float | None:
    try:
        return float(example_epsilons(unlearned, retrained)[0])
    except MetricError:  # where every model answers alike, and at the largest confidence there is
        return None


# The starting kit's attack: a logistic regression on one model's losses, forget examples against test examples.
#
# As there, both sets are cut to the same size and the accuracy is the mean over ten random splits, with the same
# splits. Retrained models, not one half, say what is perfect: forget and test examples may differ in how hard they
# are.


SPLITS = 10
FEWEST = 10  # examples of a set, so that ten splits differ
MOST, LEAST = 16, 4  # models a side that are attacked, a quarter of them: each takes 20 ms


def some_of(outputs: ModelOutputs) -> ModelOutputs:
    """The models that are attacked."""
    return outputs[: min(max(len(outputs) // 4, LEAST), MOST)]


def means_of_oracles(function: Function, theirs: ModelOutputs, pairs: Sequence[Pair]) -> np.ndarray:
    """Means over as many oracles, as often as there are models: their spread is that of one over the root of these."""
    perfect = attacked(some_of(theirs))
    return perfect.mean() + (perfect - perfect.mean()) / np.sqrt(len(some_of(theirs)))


@measure(
    "simple_attack",
    "starting kit's attack",
    worse=0,
    slight=0.02,
    clear=0.05,
    meaning="accuracy of telling forget from test examples by the loss; perfect is what retrained models get",
    in_table=False,
    needs=lambda models: min(models.test.shape[1], models.forget.shape[1]) >= FEWEST,
    perfect=means_of_oracles,
)
def simple_attack(ours: ModelOutputs, theirs: ModelOutputs) -> float:
    """The mean over some of our models."""
    return float(attacked(some_of(ours)).mean())


def attacked(models: ModelOutputs) -> np.ndarray:
    """Accuracy [N] of the attack on each model."""
    return np.array([attack(losses(f), losses(t)) for f, t in zip(models.forget, models.test)])


def losses(confidences: np.ndarray) -> np.ndarray:
    """Cross-entropies of the true class: -log p, where a confidence is log p / (1 - p)."""
    return np.logaddexp(0, -confidences)


def attack(forget: np.ndarray, test: np.ndarray) -> float:
    """Held-out accuracy on two sets of losses; the larger is cut."""
    size = min(len(forget), len(test))
    values = np.concatenate([test[:size], forget[:size]])[:, None]
    member = np.repeat([0, 1], size)
    right = []
    for fit, held in StratifiedShuffleSplit(SPLITS, random_state=0).split(values, member):
        model = LogisticRegression(solver="newton-cholesky").fit(values[fit], member[fit])
        right.append(model.score(values[held], member[held]))
    return float(np.mean(right))


# Accuracies alone, as other benchmarks compare them; they are not known of models that were given as confidences.


@measure(
    "tug_of_war",
    "tug of war",
    worse=-1,
    slight=0.02,
    clear=0.1,
    meaning="retain, forget and test accuracies beside the oracles'; 1 is best",
    in_table=False,
    needs=lambda models: np.isfinite(models.accuracies).all(),
)
def tug_of_war(ours: ModelOutputs, theirs: ModelOutputs) -> float:
    """(1 - |difference|) of the mean accuracies on the retain, forget and test set, multiplied; 0 to 1."""
    differences = np.abs(ours.accuracies.mean(axis=0) - theirs.accuracies.mean(axis=0))
    return float(np.prod(1 - differences))
