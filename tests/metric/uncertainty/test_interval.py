"""An interval lies around what another draw is expected to get, holds its own score, and widens with its level.

How often it holds other draws is a study's: tests/studies/test_figures.py and `python -m studies.intervals`.
"""

import numpy as np
import pytest

from local_eval.metric.given import MetricError
from local_eval.metric.metric import forgetting_quality
from local_eval.metric.uncertainty import interval
from local_eval.metric.uncertainty.interval import (
    IntervalError,
    around,
    persons_error,
    score_interval,
)
from studies.intervals import CASES, unequal
from studies.projections import correlated, family

MODELS, EXAMPLES = 32, 50


def one_draw(case: str = "starter: shift .6", models: int = MODELS, examples: int = EXAMPLES, seed: int = 0):
    return CASES[case].family(np.random.default_rng(seed), models, examples)


def test_the_value_is_the_official_score_and_a_higher_level_is_wider():
    pair = one_draw()
    half, most = score_interval(*pair, level=0.5), score_interval(*pair)
    assert half.value == most.value == forgetting_quality(*pair)
    assert half.expected == most.expected
    assert 0 <= most.low < half.low <= most.value <= half.high < most.high <= 1
    assert half.low < half.expected < half.high
    assert most.level == 0.9


def test_the_centre_follows_a_lucky_draw_half_way_and_less_with_more_oracles():
    """One example of a method that is far off elsewhere is lucky with these oracles; those of another draw say so."""
    unlearned, retrained = family(4.0)(np.random.default_rng(3), MODELS, EXAMPLES)
    others = [family(4.0)(np.random.default_rng(seed), MODELS, EXAMPLES)[1] for seed in (4, 5, 6)]
    unlearned[:, 0] = retrained[::-1, 0] + 1e-3 * np.arange(MODELS)  # as if it were drawn with these very oracles
    alone = score_interval(unlearned, retrained)
    more = score_interval(unlearned, np.concatenate([retrained, *others]))
    assert more.value == alone.value
    assert alone.low <= more.expected < alone.expected < alone.value <= alone.high


def test_all_oracles_are_met_in_evenly_spaced_groups_of_n():
    """The twin: the official rule on each group."""
    unlearned, pool = one_draw()[0], one_draw(models=4 * MODELS + 7, seed=1)[1]
    for count, starts in ((MODELS, [0]), (MODELS + 1, [0, 1]), (len(pool), [0, 26, 52, 77, 103])):
        values = [forgetting_quality(unlearned, pool[k : k + MODELS]) for k in starts]
        found = interval.against_all(values[0], unlearned, pool[:count])
        assert found == pytest.approx(np.mean(values), rel=0.01), count


def test_a_score_outside_of_where_others_lie_is_taken_in(monkeypatch):
    monkeypatch.setattr(interval, "against_all", lambda *_: 0.0)
    found = score_interval(*one_draw(), level=0.05)
    assert found.low <= found.expected < found.high == found.value


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


def test_what_has_no_interval_is_refused_with_the_reason():
    for models, change, message in (
        (7, {}, "7 models a side are too few"),
        (MODELS, {"level": 1.0}, "level 1 is no share"),
        (MODELS, {"persons": np.arange(7)}, "one label for each of 50"),
    ):
        with pytest.raises(IntervalError, match=message):
            score_interval(*one_draw(models=models), **change)


def test_what_cannot_be_scored_is_refused_by_the_metric():
    unlearned, retrained = one_draw()
    with pytest.raises(MetricError, match="differ"):
        score_interval(unlearned, retrained[:20])
    unlearned[2, 3] = np.nan
    with pytest.raises(MetricError, match="model 2, example 3"):
        score_interval(unlearned, retrained)
    assert interval.LEVEL == 0.9
