"""Fresh models have what the seen ones share, are outliers as often, and are no copies of them."""

import numpy as np
import pytest

from local_eval.metric.uncertainty.redraw import (
    Picks,
    Side,
    fit,
    leading_factors,
    pool_outliers,
    shared_within,
    shrink,
)
from local_eval.metric.uncertainty.sides import outlier_runs
from studies.projections import correlated, family

MODELS, EXAMPLES = 64, 80
ALONE = np.arange(EXAMPLES)


def drawn(side: Side, count: int = 6) -> np.ndarray:
    """Standardised confidences of fresh models, [count * MODELS, EXAMPLES]."""
    rng, persons = np.random.default_rng(0), int(side.person.max()) + 1
    return np.concatenate([side.draw(Picks.draw(rng, MODELS, EXAMPLES, persons)) for _ in range(count)])


def settled(values: np.ndarray, person: np.ndarray = ALONE) -> Side:
    side = Side(values, person)
    side.settle()
    return side


def mean_correlation(values: np.ndarray) -> float:
    found = np.corrcoef(values.T)
    return float(found[~np.eye(len(found), dtype=bool)].mean())


def test_planted_factors_are_found_with_their_strength_and_independent_examples_have_none():
    rng = np.random.default_rng(1)
    loadings = np.sqrt(0.15) * np.sign(rng.standard_normal((2, EXAMPLES)))
    values = rng.standard_normal((MODELS, 2)) @ loadings + np.sqrt(0.7) * rng.standard_normal((MODELS, EXAMPLES))
    scores, found, _ = leading_factors(values)
    assert scores.shape == (MODELS, 2)
    assert np.sum(found**2, axis=0).mean() == pytest.approx(0.3, abs=0.08)
    assert leading_factors(rng.standard_normal((MODELS, EXAMPLES)))[0].shape == (MODELS, 0)


def test_fresh_models_share_what_the_seen_ones_share():
    seen, _ = correlated(0.5, 0.0, None)(np.random.default_rng(2), MODELS, EXAMPLES)
    assert mean_correlation(drawn(settled(seen))) == pytest.approx(mean_correlation(seen), abs=0.12)
    alone, _ = family()(np.random.default_rng(2), MODELS, EXAMPLES)
    assert abs(mean_correlation(drawn(settled(alone)))) < 0.03
    assert drawn(settled(seen)).var() == pytest.approx(1, abs=0.15)


def test_a_weak_factor_that_all_examples_share_is_seen_along_the_direction_of_the_score():
    rng = np.random.default_rng(5)
    values = np.sqrt(0.03) * rng.standard_normal((MODELS, 1)) + np.sqrt(0.97) * rng.standard_normal((MODELS, EXAMPLES))
    plain, followed = Side(values, ALONE), Side(values, ALONE)
    followed.follow(np.ones(EXAMPLES))
    for side in (plain, followed):
        side.settle()
    seen = ((values - values.mean(axis=0)) / values.std(axis=0)).mean(axis=1).var()
    assert drawn(plain, 20).mean(axis=1).var() < 0.6 * seen
    assert drawn(followed, 20).mean(axis=1).var() == pytest.approx(seen, rel=0.35)


def test_what_examples_of_a_person_share_stays_within_the_person():
    person = ALONE // 2
    rng = np.random.default_rng(3)
    common = rng.standard_normal((MODELS, EXAMPLES // 2))[:, person]
    values = np.sqrt(0.6) * common + np.sqrt(0.4) * rng.standard_normal((MODELS, EXAMPLES))
    assert shared_within(values, person) == pytest.approx(0.6, abs=0.08)
    assert shared_within(values, ALONE) == 0.0
    fresh = np.corrcoef(drawn(settled(values, person)).T)
    assert fresh[ALONE[::2], ALONE[1::2]].mean() == pytest.approx(0.6, abs=0.15)
    assert abs(fresh[ALONE[:-2:2], ALONE[2::2]].mean()) < 0.05


def test_no_fresh_model_is_a_copy_and_no_two_confidences_are_tied():
    side = settled(family()(np.random.default_rng(4), MODELS, EXAMPLES)[0])
    fresh = drawn(side, 1)
    ties = [MODELS - len(np.unique(fresh[:, e])) for e in range(EXAMPLES)]
    assert np.mean(ties) < 1, "residuals are pooled over examples: 64 of 5120 seldom meet"


def test_outlier_runs_are_set_apart_and_come_back_about_as_often():
    values = np.random.default_rng(0).normal(0, 1, (MODELS, EXAMPLES))
    values[[3, 40, 50]] += 6
    side = settled(values)
    assert side.outliers.shape == (3, EXAMPLES) and abs(side.place.mean()) < 0.1
    assert outlier_runs(drawn(side, 30)).mean() == pytest.approx(3.5 / 65, abs=0.03)
    other = settled(values[:, ::-1] * 0 + np.random.default_rng(1).normal(0, 1, (MODELS, EXAMPLES)))
    pool_outliers([side, other])
    assert side.seen == other.seen == 1.5 and len(other.outliers) == 3


def test_noise_is_taken_out_of_shifts_and_real_differences_stay():
    rng = np.random.default_rng(6)
    noise = rng.normal(0, 0.2, 400)
    assert np.abs(shrink(noise, 0.04, 0.0001)).max() < 0.15
    assert np.corrcoef(shrink(noise + 2 * np.sign(noise), 0.04, 0.0001), np.sign(noise))[0, 1] > 0.98
    assert abs(shrink(noise + 0.3, 0.05, 0.25).mean()) < 1e-9, "a common shift that common noise explains"


def test_a_perfect_method_is_redrawn_as_one():
    (method,), _ = fit(
        [family()(np.random.default_rng(1), MODELS, EXAMPLES)[0]],
        family()(np.random.default_rng(2), MODELS, EXAMPLES)[1],
        ALONE,
    )
    assert np.abs(method.shift).mean() < 0.1 and np.abs(method.log_ratio).mean() < 0.06
