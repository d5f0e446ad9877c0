"""The pooled attack sees what no single example shows: small shifts, of any sign, and runs that move together."""

from dataclasses import replace

import numpy as np
import pytest

from local_eval.metric.measures import pooled_attack
from tests.metric.measures.made import PLACE, SPREAD, pair

MODELS, EXAMPLES = 96, 100


@pytest.fixture(scope="module")
def sides():
    return pair(MODELS, EXAMPLES)


def test_it_guesses_where_there_is_nothing(sides):
    assert pooled_attack(*sides) == pytest.approx(0.5, abs=0.1)


def test_small_shifts_of_either_sign_are_seen(sides):
    ours, theirs = sides
    signs = np.where(np.arange(EXAMPLES) % 2, 1, -1)
    assert pooled_attack(replace(ours, forget=ours.forget + 0.3 * SPREAD * signs), theirs) > 0.8


def test_the_right_marginals_are_not_enough_if_examples_move_together(sides):
    ours, theirs = sides
    one = np.random.default_rng(0).standard_normal((MODELS, 1))
    together = np.repeat(PLACE + SPREAD * one, EXAMPLES, axis=1)
    assert pooled_attack(replace(ours, forget=together), theirs) > 0.9
