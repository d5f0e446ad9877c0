"""The forgetting quality that N = 512 models would give, estimated from fewer.

At small N the score takes the noise of few models for closeness: a method one sd off scores .065 at N = 32 and .017
at 512, while perfect unlearning scores about .18 at every N. The projection takes that noise out:

1. Read each example's shift and spread ratio, and how noisy both are (`projection_shapes.py`).
2. Estimate the true distribution of the two over the examples, by maximum likelihood (`projection_mixture.py`).
3. Draw true pairs from each example's posterior, redraw 512 + 512 confidences with them and with residuals pooled
   over examples (so skew, tails and stray runs are kept: `projection_redraw.py`), and score these by the real metric.

The interval adds up, on a log scale, the changes of the estimate when groups of models or of persons are left out, the
noise of the redraws, what the method is off by on simulated families, and the uncertain rate of stray runs. Runs that
may go astray but were not seen to are not in it.

Where it errs, and by how much: python -m local_eval.metric.projection_study
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from local_eval.engine.errors import InputError
from local_eval.metric.given import as_persons, confidences_given
from local_eval.metric.metric import checked_pair
from local_eval.metric.projection_estimate import Estimate, estimate, mean_points, models_variance, persons_variance
from local_eval.metric.projection_shapes import flatness

SMALLEST = 24  # models a side; below, simulated errors exceed a factor of 1.5
FEWEST_EXAMPLES = 10  # below, noise and differences between examples cannot be told apart
REDRAWS = 800  # examples scored at the target N; noise of 2 to 10 %, for about a second
STRAY_REDRAWS = 300  # at either end of the stray rate's interval
MODEL_ERROR = 0.08  # sd of log(estimate / truth) that simulated families show beyond sampling
SHAPE_ERROR = 0.25  # the same, added where the two sides differ in shape
FLAT_ERROR = 6.0  # the same at SMALLEST models, added per L-kurtosis below the normal's: hard edges and second peaks
NORMAL_90 = 1.645


class ProjectionError(InputError):
    """These confidences cannot be projected; the message says why in one sentence."""


@dataclass(frozen=True)
class Projection:
    """The score expected at N = `models`, and the ends of its 90 % interval."""

    value: float
    low: float
    high: float
    models: int


def project(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    models: int = 512,
    persons: np.ndarray | None = None,
    *,
    order: str | None = None,
) -> Projection:
    """Estimate the official score at `models` unlearned and retrained models from fewer of both.

    Args:
        unlearned, retrained: [N, E] logit-scaled confidences, N >= 24; of retrained models there may be more or fewer.
        models: N of the score wanted, above the N given; 512 is the official one.
        persons: [E] labels of examples that vary together (frames of one person); default: each on its own.
        order: of the axes, as in `forgetting_quality`.
    Raises:
        MetricError: shapes or values cannot be scored at any N.
        ProjectionError: they can, but not projected.
    """
    given = confidences_given({"unlearned": unlearned, "retrained": retrained}, order, persons)
    return projection_of(*given, models, persons)


def projection_of(
    unlearned: np.ndarray, retrained: np.ndarray, models: int, persons: np.ndarray | None = None
) -> Projection:
    """`project` of confidences that are known to be [N, E]."""
    unlearned, retrained = checked_pair(unlearned, retrained, same_count=False)
    persons = _clusters(persons, unlearned.shape[1])
    _refuse(unlearned, retrained, models)
    found = estimate(unlearned, retrained, len(np.unique(persons)))
    value, error = mean_points(found, models, found.stray_rates(), REDRAWS)
    variance = MODEL_ERROR**2 + (SHAPE_ERROR * (1 - found.redrawer.alike)) ** 2 + error**2
    flat = max(flatness(found.unlearned), flatness(found.retrained))
    variance += (FLAT_ERROR * flat) ** 2 * SMALLEST / min(len(unlearned), len(retrained))
    variance += models_variance(unlearned, retrained, found, models) + persons_variance(found, persons, models)
    reach = NORMAL_90 * np.sqrt(variance)
    down, up = (np.hypot(reach, shift) for shift in _stray_reach(found, value, models))
    return Projection(value, float(value * np.exp(-down)), float(min(1.0, value * np.exp(up))), models)


def _clusters(persons: np.ndarray | None, examples: int) -> np.ndarray:
    """Numbers of the persons, [E]."""
    found = np.arange(examples) if persons is None else as_persons(persons, examples)
    if found is None:
        raise ProjectionError(
            f"persons must be one label for each of {examples} examples, got shape {np.shape(persons)}."
        )
    return found


def _refuse(unlearned: np.ndarray, retrained: np.ndarray, models: int) -> None:
    """Raise ProjectionError where there is nothing to project from."""
    count, examples = min(len(unlearned), len(retrained)), unlearned.shape[1]
    if count < SMALLEST:
        raise ProjectionError(f"{count} models a side are too few to project from: give at least {SMALLEST}.")
    if models <= count:
        raise ProjectionError(f"{count} models a side already give the score at {models}: score {models} of them.")
    if examples < FEWEST_EXAMPLES:
        raise ProjectionError(f"{examples} examples are too few to project from: give at least {FEWEST_EXAMPLES}.")
    for name, values in (("unlearned", unlearned), ("retrained", retrained)):
        constant = np.flatnonzero(np.ptp(values, axis=0) == 0)
        if constant.size:
            raise ProjectionError(f"All {name} models agree on example {constant[0]}: its spread cannot be estimated.")
    if told_apart(unlearned, retrained).all():
        raise ProjectionError("Every example is told apart without error, so how far apart they are is not seen.")


def told_apart(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """Whether no value of one sample lies within the range of the other, bool [E]: epsilon is then at its cap."""
    inside = [
        ((one >= other.min(axis=0)) & (one <= other.max(axis=0))).any(axis=0)
        for one, other in ((unlearned, retrained), (retrained, unlearned))
    ]
    return ~(inside[0] & inside[1])


def _stray_reach(found: Estimate, value: float, models: int) -> tuple[float, float]:
    """How far the log estimate falls, and rises, at the ends of the stray rates' intervals; 0 if none was seen."""
    if not any(found.stray_rates()):
        return 0.0, 0.0
    many, few = (mean_points(found, models, found.stray_rates(chance), STRAY_REDRAWS)[0] for chance in (0.95, 0.05))
    return min(0.0, float(np.log(many / value))), max(0.0, float(np.log(few / value)))
