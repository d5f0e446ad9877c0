"""Outputs of models that are drawn, so that it is known how far from perfect they are."""

import numpy as np

from local_eval.metric.measures import ModelOutputs

PLACE, SPREAD, COMMON = 3.0, 1.5, 0.3  # COMMON: what a model's examples share, as a part of the spread


def outputs(seed, models=64, examples=60, shift=0.0, ratio=1.0, controls=40, control_shift=0.0):
    """Normal confidences; the forget examples are `shift` sd off and `ratio` times as wide."""
    rng = np.random.default_rng(seed)
    common = COMMON * rng.standard_normal((models, 1))

    def residuals(count):
        return common + np.sqrt(1 - COMMON**2) * rng.standard_normal((models, count))

    forget = PLACE + SPREAD * (shift + ratio * residuals(examples))
    retain, test = (PLACE + SPREAD * (control_shift + residuals(controls)) for _ in range(2))
    return ModelOutputs(forget, 0.9 + 0.01 * rng.standard_normal((models, 3)), retain, test)


def pair(models, examples=60, shift=0.0, ratio=1.0, seed=0):
    """An unlearned and a retrained side."""
    return outputs([seed, 1], models, examples, shift, ratio), outputs([seed, 2], models, examples)
