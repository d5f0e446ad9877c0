"""The best of several is chosen, and all that is said beside it knows that."""

import numpy as np
import pytest

from local_eval.metric.uncertainty.best_of import (
    Candidate,
    beside_the_best,
    best_of,
    chance_among,
    chosen_by_halves,
    halves,
    hopeless,
    judged_by_the_others,
)
from local_eval.metric.uncertainty.paired import comparison_of
from studies.sweep import one_sweep

PERSONS = np.arange(24) // 3


def side(seed, shift=0.0, ratio=1.0, models=16):
    return 1.5 * (shift + ratio * np.random.default_rng(seed).standard_normal((models, 24)))


def candidates(**shifts):
    oracles = side(0)
    found = {name: Candidate.of(side(k + 1, shift), oracles, 1.0) for k, (name, shift) in enumerate(shifts.items())}
    return found, oracles


def test_the_chance_among_many_is_that_of_the_range_of_equal_ones():
    """Its slow twin: draw the equal ones."""
    draws = np.random.default_rng(0).standard_normal((200_000, 6))
    ahead = (draws.max(axis=1) - draws.min(axis=1)) / np.sqrt(2)
    for p, z in ((0.01, 2.5758), (0.001, 3.2905), (0.2, 1.2816)):
        assert chance_among(p, 6) == pytest.approx((ahead > z).mean(), rel=0.06)
    assert [chance_among(p, 2) for p in (0.0, 0.3, 1.0)] == [0.0, 0.3, 1.0]
    assert chance_among(0.0, 9) == 0.0 and chance_among(1.0, 9) == 1.0 and 0 < chance_among(1e-200, 9) < 1e-9


def test_a_test_against_the_best_is_that_of_two_with_the_chance_among_all():
    found, oracles = candidates(a=0.1, b=0.5, c=2.5)
    best = best_of(found)
    beside = beside_the_best(found, oracles, PERSONS)
    assert set(beside) == set(found) - {best}
    for name, pair in beside.items():
        two = comparison_of(found[name].confidences, found[best].confidences, oracles, PERSONS, ahead=False)
        assert pair.p == chance_among(two.p, 3) >= two.p
        assert pair.verdict == ("worse" if pair.p < 0.1 else "cannot tell")
    assert beside["c"].verdict == "worse"


def test_the_best_is_never_given_up_nor_what_has_half_of_its_score():
    found, oracles = candidates(a=0.1, b=3.0, c=3.5, d=0.3)
    assert set(hopeless(found, oracles, PERSONS)) == {"b", "c"}
    half = {"a": found["a"], "half": Candidate(found["b"].confidences, 0.51 * found["a"].points, 1.0)}
    assert hopeless(half, oracles, PERSONS) == {}
    assert hopeless({"b": found["b"]}, oracles, PERSONS) == {}
    zero = {name: Candidate(one.confidences, 0 * one.points, 1.0) for name, one in found.items()}
    assert hopeless(zero, oracles, PERSONS) == {}, "where none scores, none is better"


def test_lost_accuracy_makes_hopeless_too():
    found, oracles = candidates(a=0.1, b=0.1)
    found["b"] = Candidate(found["b"].confidences, found["b"].points, 0.02)
    assert set(hopeless(found, oracles, PERSONS)) == {"b"}


def test_of_points_that_are_as_good_none_is_given_up():
    for seed in range(6):
        oracles = side([seed, 0])
        same = {str(k): Candidate.of(side([seed, k + 1], 0.8), oracles, 1.0) for k in range(6)}
        assert hopeless(same, oracles, PERSONS) == {}, seed


def test_simulated_sweeps_rarely_lose_their_best_and_do_give_points_up():
    """More of them: python -m studies.sweep."""
    found = [one_sweep(number, 20, 4, draws=10) for number in range(3)]
    assert not any(one.lost for one in found)
    assert sum(one.given_up for one in found) > 0


def test_halves_keep_persons_together_and_are_as_large_as_they_can_be():
    for persons in (PERSONS, [5, 5, 5, 5, 1, 2, 3, 4], ["b", "a", "a", "b"], np.arange(9)):
        first = halves(np.array(persons))
        sides = [set(np.array(persons)[half].tolist()) for half in (first, ~first)]
        assert not sides[0] & sides[1] and all(sides)
        assert abs(int(first.sum()) - int((~first).sum())) <= 1
        assert np.array_equal(first, halves(np.array(persons))), "the same every time"
    assert halves(np.zeros(5)) is None


def test_each_half_judges_what_the_other_has_chosen():
    first = np.array([True, True, False])
    points = {"one": [1.0, 1.0, 0.0], "other": [0.0, 0.0, 1.0], "both": [0.5, 0.5, 0.5]}
    made = {name: Candidate(np.empty((0, 3)), np.array(values), 0.5) for name, values in points.items()}
    assert chosen_by_halves(made, first) == ("one", "other")
    assert judged_by_the_others([made["one"], made["other"]], first) == 0.0, "fitted to their own half, and no more"
    assert judged_by_the_others([made["both"], made["both"]], first) == pytest.approx(made["both"].score)
    by_hand = (1 / 3 * 0.5 * 0.0) + (2 / 3 * 0.5 * 0.5)
    assert judged_by_the_others([made["one"], made["both"]], first) == pytest.approx(by_hand)
