"""What is drawn within a seed depends on it alone, and what is drawn around it goes on as if nothing had been."""

import random

import numpy as np
import pytest
import torch

from local_eval.isolation.device import drawn_so_far, seeded


def draw():
    """From all generators; numpy's normals come in pairs, of which one is kept for later."""
    return float(torch.rand(())), float(np.random.randn()), random.random(), random.gauss(0, 1)


def test_within_a_seed_all_generators_start_from_it():
    found = []
    for seed in (7, 8, 7, 5_000_000_000):
        draw()
        with seeded(seed):
            found.append((draw(), draw()))
    assert found[0] == found[2]
    assert len({found[0], found[1], found[3]}) == 3


def test_afterwards_they_go_on_as_if_nothing_had_been_also_after_an_error():
    with seeded(1):
        expected = [draw() for _ in range(4)]
    with seeded(1):
        found = [draw()]
        with seeded(2):
            draw()
            with seeded(3):
                draw()
        found.append(draw())
        with pytest.raises(KeyError), seeded(2):
            draw()
            raise KeyError
        found += [draw(), draw()]
    assert found == expected


def test_weights_are_those_of_torchs_own_seed():
    torch.manual_seed(5)
    expected = torch.rand(3)
    with seeded(5):
        assert torch.equal(torch.rand(3), expected)


def test_a_draw_from_any_generator_is_noticed():
    for one in (lambda: torch.rand(1), lambda: np.random.rand(), random.random):
        before = drawn_so_far()
        assert drawn_so_far() == before
        one()
        assert drawn_so_far() != before
