"""The metric equals the official rule to the bit, and answers or refuses where the rule has no answer.

The golden values come from the organisers' code, run on a CPU with its crashing assertion mended; the confidences
behind them are plain normal draws, so they are generated here.
"""

import tracemalloc

import numpy as np
import pytest

from local_eval.metric.attacks import epsilon_table
from local_eval.metric.given import MetricError
from local_eval.metric.metric import (
    EPSILON_CAP,
    example_epsilons,
    forgetting_points,
    forgetting_quality,
    logit_scaled_confidence,
)
from local_eval.metric.twin import epsilon_over_grid


def draws(kind: str, models: int, examples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, models])
    u, r = rng.normal(3.0, 1.0, (2, models, examples))
    return {
        "same": (u, r),
        "shifted": (u + 0.5, r),
        "far": (u + 2.0, r),
        "narrow": (3 + (u - 3) * 0.2, r),
        "very narrow": (3 + (u - 3) * 0.02, r),
        "both narrow": (u * 0.05, r * 0.04),
        "separated": (u + 50, r),
        "wide": ((u - 3) * 15, (r - 3) * 12),
        "heavy tail": (rng.standard_t(2, (models, examples)), rng.standard_t(2, (models, examples))),
        "ties": (np.round(u * 4) / 4, np.round(r * 4) / 4),
        "grid ties": (np.round(u, 2), np.round(r, 2)),
        "two humps": (u + 4 * (rng.random((models, examples)) < 0.3), r),
    }[kind]


KINDS = ["same", "shifted", "far", "narrow", "very narrow", "both narrow", "separated", "wide", "heavy tail", "ties"]
KINDS += ["grid ties", "two humps"]


def test_fast_epsilons_equal_the_whole_grid_to_the_bit():
    sizes = [(kind, models, 3 if models < 20 else 1) for kind in KINDS for models in (3, 16, 37)]
    for kind, models, examples in [*sizes, ("ties", 64, 2), ("heavy tail", 64, 2), ("two humps", 100, 2)]:
        u, r = draws(kind, models, examples, seed=1)
        slow = [epsilon_over_grid(u[:, e], r[:, e]) for e in range(examples)]
        if np.isnan(slow).any():
            with pytest.raises(MetricError):
                example_epsilons(u, r)
        else:
            assert example_epsilons(u, r).tolist() == slow, (kind, models)


def test_forgetting_quality_equals_published_golden_values():
    """With rng = default_rng(seed), R = normal(mean, 1), then U."""
    for seed, models, examples, mean, shift, spread, official in (
        (0, 32, 8, 3, 0, 1, 0.265625),
        (1, 64, 6, 3, 0.5, 1, 0.114583),
        (2, 64, 6, 3, 0, 2, 0.03125),
        (3, 32, 6, 0, 0, 1, 0.239583),
        (4, 128, 4, 5, 0.3, 1, 0.140625),
        (5, 48, 6, 2, 4, 1, 0.0065104),
        (6, 32, 6, 2, 0, 0.3, 0.0286458),
    ):
        rng = np.random.default_rng(seed)
        r = rng.normal(mean, 1, (models, examples))
        u = rng.normal(mean + shift, spread, (models, examples))
        assert forgetting_quality(u, r) == pytest.approx(official, abs=1e-6), seed


def test_a_deterministic_method_scores_zero():
    _, r = draws("same", 64, examples=4, seed=4)
    u = np.broadcast_to(r[0], r.shape)
    assert example_epsilons(u, r).tolist() == [EPSILON_CAP] * 4
    assert forgetting_quality(u, r) == 0.0


def test_the_oracles_themselves_score_one():
    _, r = draws("same", 64, examples=4, seed=5)
    assert forgetting_quality(r, r) == 1.0


def test_the_two_sides_may_be_exchanged():
    u, r = draws("shifted", 64, examples=4, seed=7)
    assert example_epsilons(u, r).tolist() == example_epsilons(r, u).tolist()


def test_points_halve_every_half_and_end_at_the_last_bucket():
    assert forgetting_points(np.array([0.0, 0.499, 0.5, 1.0, 6.9, 7.0, 50.0]), 512).tolist() == [
        1, 1, 0.5, 0.25, 0.5**13, 0, 0,
    ]  # fmt: skip
    assert forgetting_points(np.array([0.0]), 2).tolist() == [0.0]  # no bucket at all, as officially


def test_the_table_discards_exactly_one_zero_rate():
    table = epsilon_table(10)
    assert table[0, 0] == np.inf
    assert (table[0, 1:] == -np.inf).all()
    assert (table[1:, 0] == -np.inf).all()
    assert np.isfinite(table[1:10, 1:10]).all()


def test_confidences_that_are_not_finite_are_refused_by_name():
    for value in (np.nan, np.inf, -np.inf):
        u, r = draws("same", 16, examples=3, seed=8)
        r[5, 2] = value
        with pytest.raises(MetricError, match="retrained model 5, example 2"):
            example_epsilons(u, r)


def test_what_cannot_be_scored_is_refused_with_the_reason():
    u, r = draws("same", 16, examples=3, seed=9)
    same = np.full((16, 1), 2.0)
    for pair, reason in (
        ((u[:15], r), "differ"),
        ((np.zeros((1, 3)), np.ones((1, 3))), "at least 2"),
        ((same, same), "no attack is defined"),
        ((u * 1e6, r), "raw logits"),
    ):
        with pytest.raises(MetricError, match=reason):
            example_epsilons(*pair)
    assert example_epsilons(same, same + 0.5).tolist() == [EPSILON_CAP], "different constants are told apart"


def test_memory_does_not_grow_with_the_grid():
    u, r = draws("same", 64, examples=1, seed=11)
    peaks = []
    for scale in (1, 300):
        example_epsilons(u * scale, r * scale)
        tracemalloc.start()
        example_epsilons(u * scale, r * scale)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] < 5e6


def test_confidence_equals_the_plain_formula():
    rng = np.random.default_rng(12)
    logits, targets = rng.normal(0, 3, (4, 5, 10)), np.array([0, 3, 9, 3, 1])
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    right = np.stack([p[:, e, t] for e, t in enumerate(targets)], axis=1)
    found = logit_scaled_confidence(logits, targets)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.log(right) - np.log(1 - right), rtol=1e-9)


def test_confidence_saturates_and_leaves_its_argument_alone():
    logits = np.array([[[1000.0, 0.0], [0.0, 1000.0]]], dtype=np.float32)
    before = logits.copy()
    assert logit_scaled_confidence(logits, np.array([0, 0]))[0].tolist() == pytest.approx([103.6, -103.6], abs=0.05)
    assert (logits == before).all()


def test_a_diverged_model_and_a_wrong_target_are_named():
    logits = np.zeros((2, 3, 4))
    logits[1, 2, 0] = np.nan
    with pytest.raises(MetricError, match=r"\(1, 2, 0\)"):
        logit_scaled_confidence(logits, np.array([0, 1, 2]))
    with pytest.raises(MetricError, match="4 classes"):
        logit_scaled_confidence(np.zeros((2, 3, 4)), np.array([0, 1, 4]))
