"""Fast points are nearly those of the official rule, and enough alike for what redraws need of them."""

import numpy as np
import pytest

from local_eval.metric.fast_points import fast_points
from local_eval.metric.metric import example_epsilons, forgetting_points
from studies.projections import family, skewed, student

KINDS = {
    "perfect": family(),
    "shift .5": family(0.5),
    "shift 2": family(2.0),
    "too wide": family(0.0, 1.5),
    "too narrow": family(0.2, 0.5),
    "narrow oracles": family(0.3, 0.8, spread=0.3),
    "very narrow": family(0.3, spread=0.15),
    "skewed": family(0.5, 0.8, unlearned=skewed),
    "heavy tails": family(0.2, unlearned=student(3), retrained=student(3)),
    "told apart": family(12.0),
}


def both(kind: str, models: int, examples: int) -> tuple[np.ndarray, np.ndarray]:
    unlearned, retrained = KINDS[kind](np.random.default_rng(3), models, examples)
    official = forgetting_points(example_epsilons(unlearned, retrained), models)
    return official, fast_points(unlearned.T.copy(), retrained.T.copy())


def test_most_examples_get_the_official_points_and_their_mean_is_close():
    for kind in KINDS:
        official, quick = both(kind, 32, 60)
        assert np.mean(official == quick) >= 0.85, kind
        assert quick.mean() == pytest.approx(official.mean(), abs=0.004 + 0.05 * official.mean()), kind


def test_where_not_every_pair_of_ends_is_tried_the_points_are_close_still():
    official, quick = both("perfect", 256, 24)
    assert np.mean(official == quick) >= 0.85


def test_a_side_without_variance_is_told_apart():
    flat, wide = np.full((5, 20), 3.0), np.random.default_rng(0).normal(3, 1, (5, 20))
    assert fast_points(flat, wide).tolist() == fast_points(wide, flat).tolist() == [0.0] * 5


def test_many_at_once_are_scored_as_one_by_one(monkeypatch):
    unlearned, retrained = KINDS["shift .5"](np.random.default_rng(4), 24, 30)
    together = fast_points(unlearned.T, retrained.T)
    monkeypatch.setattr("local_eval.metric.fast_points.CHUNK", 2 * 24 * 7)
    assert np.array_equal(together, fast_points(unlearned.T, retrained.T))
