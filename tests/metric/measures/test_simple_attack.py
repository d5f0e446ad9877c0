"""The starting kit's attack finds members by their loss, and is compared with retrained models, not with a half."""

from dataclasses import replace

import numpy as np
import pytest

from local_eval.metric.measures import FAR, MEASURES, PERFECT, attack, losses, measured
from tests.metric.measures.made import outputs

SPEC = MEASURES["simple_attack"]


def test_losses_are_cross_entropies():
    p = np.array([0.01, 0.5, 0.99])
    assert losses(np.log(p / (1 - p))) == pytest.approx(-np.log(p))


def test_members_with_small_losses_are_found():
    rng = np.random.default_rng(0)
    assert attack(rng.exponential(0.1, 60), rng.exponential(2.0, 90)) > 0.8
    assert attack(rng.exponential(1.0, 60), rng.exponential(1.0, 60)) == pytest.approx(0.5, abs=0.15)


def test_forget_examples_that_are_easy_for_retrained_models_too_are_no_fault():
    ours, theirs = outputs(1, models=16, shift=1.0), outputs(2, models=16, shift=1.0)
    alike = measured(SPEC, ours, theirs, [])
    assert alike.perfect > 0.6
    assert alike.words == PERFECT
    better = measured(SPEC, replace(ours, forget=ours.forget + 6), theirs, [])
    assert better.words == FAR


def test_too_few_examples_give_no_attack():
    assert measured(SPEC, outputs(1, 16, examples=5), outputs(2, 16, examples=5), []) is None
