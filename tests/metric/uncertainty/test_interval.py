"""An interval holds what another draw of the same method scores about as often as it says, and is not wastefully wide.

The full study is `python -m studies.intervals`, its tables are in studies/intervals.md. Here a seeded piece
of it: of six families of all kinds, each of 10 draws is held against the intervals of the others.
"""

import time

import numpy as np
import pytest

from local_eval.metric.fast_points import fast_points
from local_eval.metric.given import MetricError
from local_eval.metric.metric import forgetting_quality
from local_eval.metric.score import pool_ceiling
from local_eval.metric.uncertainty import interval
from local_eval.metric.uncertainty.interval import (
    IntervalError,
    around,
    ceiling_interval,
    interval_around,
    numbered,
    persons_error,
    score_interval,
)
from studies.intervals import CASES, held, unequal
from studies.projections import correlated, family

MODELS, EXAMPLES, DRAWS = 32, 50, 10
FAMILIES = [
    "perfect, wide",
    "starter: shift .6",
    "like digits: shifts, half as wide, 3 factors",
    "bad: shift 4",
    "one factor .15, shift .6",
    "unequal persons .6, shift .3",
]
LEAST = 0.82  # 60 draws of .9 with an sd of .15 over draws: .9 - 2 x .15 / sqrt(60) - .04 for families of few draws


@pytest.fixture(scope="module")
def drawn():
    """Values [DRAWS] and ends [DRAWS, 2] by family; values by quick points, which are as good for this."""
    found = {}
    for name in FAMILIES:
        case, values, ends = CASES[name], [], []
        person = numbered(case.persons(EXAMPLES) if case.persons else None, EXAMPLES)
        for k in range(DRAWS):
            pair = case.family(np.random.default_rng([23, k]), MODELS, EXAMPLES)
            one = interval_around(fast_points(*(side.T.copy() for side in pair)), *pair, person)
            values.append(one.value)
            ends.append((one.low, one.high))
        found[name] = np.array(values), np.array(ends)
    return found


def narrowed(values: np.ndarray, ends: np.ndarray, factor: float) -> np.ndarray:
    return values[:, None] + factor * (ends - values[:, None])


def test_intervals_hold_other_draws_about_as_often_as_they_say(drawn):
    assert LEAST <= np.mean([held(*one) for one in drawn.values()]) <= 0.99


def test_half_as_wide_they_would_not(drawn):
    assert np.mean([held(values, narrowed(values, ends, 0.5)) for values, ends in drawn.values()]) < LEAST


def test_intervals_are_not_much_wider_than_the_best_fixed_width(drawn):
    for name, (values, ends) in drawn.items():
        best = 2 * np.quantile(np.abs(values[:, None] - values)[np.triu_indices(DRAWS, 1)], 0.9)
        assert 0.5 < np.mean(ends[:, 1] - ends[:, 0]) / best < 2, name


def one_draw(case: str = "starter: shift .6", models: int = MODELS, examples: int = EXAMPLES, seed: int = 0):
    return CASES[case].family(np.random.default_rng(seed), models, examples)


def test_the_centre_is_the_official_score_and_a_higher_level_is_wider():
    pair = one_draw()
    half, most = score_interval(*pair, level=0.5), score_interval(*pair)
    assert half.value == most.value == forgetting_quality(*pair)
    assert 0 <= most.low < half.low < most.value < half.high < most.high <= 1
    assert most.level == 0.9


def test_a_score_of_zero_has_room_above():
    for pair in (one_draw("told apart: shift 9"), (np.zeros((MODELS, EXAMPLES)), one_draw()[1])):
        found = score_interval(*pair)
        assert (found.value, found.low) == (0, 0)
        assert 0 < found.high < 0.01


def test_the_same_confidences_give_the_same_interval_and_leave_the_global_generator_alone():
    pair = one_draw()
    np.random.seed(1)
    first, after = score_interval(*pair), np.random.random()
    np.random.seed(1)
    assert np.random.random() == after
    assert score_interval(*pair) == first


def test_models_that_share_their_noise_make_it_wider():
    alone, together = (
        score_interval(*correlated(share, 0.5, None)(np.random.default_rng(1), MODELS, EXAMPLES))
        for share in (0.0, 0.6)
    )
    assert together.high - together.low > 1.7 * (alone.high - alone.low)


def test_runs_and_oracles_have_standard_errors_of_their_own():
    found = score_interval(*one_draw())
    assert 0.5 * found.models < found.runs < 1.2 * found.models
    assert 0.5 * found.models < found.oracles < 1.2 * found.models
    outliers = one_draw()
    outliers[0][:3] += 12
    found = score_interval(*outliers)
    assert found.runs > 2 * found.oracles, "it is the runs that have outliers"


def test_persons_of_any_sizes_are_told_beside_the_interval():
    pair = family(lambda examples: 1.5 * (np.arange(examples) < examples // 2))(
        np.random.default_rng(0), MODELS, EXAMPLES
    )
    alone, halves = score_interval(*pair), score_interval(*pair, persons=np.arange(EXAMPLES) // (EXAMPLES // 2))
    assert halves.persons > 3 * alone.persons
    assert halves.wider[0] <= halves.low and halves.wider[1] >= halves.high
    assert score_interval(*pair, persons=["one"] * EXAMPLES).persons is None
    assert score_interval(*pair, persons=["one"] * EXAMPLES).wider is None
    assert score_interval(*pair, persons=unequal(EXAMPLES)).persons > 0


def test_the_error_of_persons_is_that_of_their_sums():
    points = np.random.default_rng(2).exponential(0.1, 400)
    assert persons_error(points, np.arange(400)) == pytest.approx(points.std() / 20, rel=0.01)
    assert persons_error(np.repeat(points, 3), np.repeat(np.arange(400), 3)) == pytest.approx(
        points.std() / 20, rel=0.01
    )
    assert persons_error(points, np.arange(400), own_luck=1.0) == 0.0


def test_ends_stay_within_zero_and_one():
    assert around(0.0001, 0.5, 0.001)[0] == 0.0
    assert around(0.9, 0.5, 0.001)[1] == 1.0


def test_the_ceilings_interval_holds_the_ceilings_of_other_pools():
    pools = np.random.default_rng(0).normal(0, 1.5, (7, 48, 24))
    values = np.array([pool_ceiling(pool, splits=3) for pool in pools])
    ends = np.array([ceiling_interval(v, pool, np.arange(24), 24, 3) for v, pool in zip(values, pools)])
    assert held(values, ends) >= 0.75
    best = 2 * np.quantile(np.abs(values[:, None] - values)[np.triu_indices(7, 1)], 0.9)
    assert np.mean(ends[:, 1] - ends[:, 0]) < 2 * best


def test_500_examples_at_64_models_take_less_than_three_seconds():
    pair = one_draw(models=64, examples=500)
    start = time.process_time()
    interval_around(np.zeros(500) + 0.1, *pair, np.arange(500))
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    "change, message",
    [
        ({"models": 7}, "7 models a side are too few"),
        ({"level": 1.0}, "level 1 is no share"),
        ({"persons": np.arange(7)}, "one label for each of 50"),
    ],
)
def test_what_has_no_interval_is_refused_with_the_reason(change, message):
    pair = one_draw(models=change.pop("models", MODELS))
    with pytest.raises(IntervalError, match=message):
        score_interval(*pair, **change)


def test_what_cannot_be_scored_is_refused_by_the_metric():
    unlearned, retrained = one_draw()
    with pytest.raises(MetricError, match="differ"):
        score_interval(unlearned[:20], retrained)
    unlearned[2, 3] = np.nan
    with pytest.raises(MetricError, match="model 2, example 3"):
        score_interval(unlearned, retrained)
    assert interval.LEVEL == 0.9
