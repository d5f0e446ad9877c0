"""A prediction is read off the board's fit, on the fit's very task, and says how far it can be believed."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from local_eval.grader import Grader
from local_eval.metric.uncertainty.projection import Projection
from local_eval.report.prediction import (
    FIT,
    SCORES,
    Fit,
    FitError,
    as_json,
    covers,
    in_words,
    predict,
    rank_of,
    read_fit,
)
from tests.conftest import TINY
from tests.metric.test_score import score

CURVE = ((0.001, 0.005), (0.01, 0.05), (0.04, 0.1))
SCORE = replace(score(models=16), retain_accuracy_ratio=1.0, test_accuracy_ratio=0.5)
SAMPLE = Fit("small", "abc", 24, 12, 10, 5, CURVE, (0.8, 1.5), 1.25)
KNOWN = replace(SAMPLE, without={"known": CURVE[1:]}, own={"known": (3, 2)})


def at(measured, fingerprint="abc", fit=SAMPLE):
    """The prediction for a method that scores this at N = 512."""
    return predict(replace(SCORE, projected=Projection(2 * measured, 0, 1, 512)), fingerprint, fit)


def test_a_prediction_lies_on_the_curve_straight_between_its_points_on_log_scales():
    assert at(0.01).value == pytest.approx(0.05)
    assert at(0.02).value == pytest.approx((0.05 * 0.1) ** 0.5)


def test_the_interval_is_the_fits_factors_and_ranks_follow_from_its_ends():
    found = at(0.01)
    assert (found.low, found.high) == pytest.approx((0.04, 0.075))
    assert (found.rank, found.worst_rank) == (None, None) and 8 < found.best_rank <= 12
    assert "below 809 of 1,121" in in_words(found) and "within a factor of 1.25" in in_words(found)
    assert in_words(found, "0.0609").endswith("there it had 0.0609") and "there it had" not in in_words(found)


def test_beyond_the_board_the_end_of_the_curve_is_given_and_said_to_be_one():
    for measured, inside in ((0.0001, False), (0.001, True), (0.04, True), (0.05, False)):
        found = at(measured)
        assert found.inside == inside and ("BEYOND" in in_words(found)) != inside
        assert 0.999 * CURVE[0][1] <= found.value <= 1.001 * CURVE[-1][1]


def test_ends_of_the_board_are_on_it_whatever_the_rounding_and_wide_gaps_are_not():
    ends = ((0.0, 0.00005), (0.07, 0.08), (0.08, 0.09))
    assert [covers(ends, x) for x in (0.0, 1e-5, 1e-4, 0.07, 0.075, 0.08)] == [True] * 6
    assert [covers(ends, x) for x in (0.001, 0.0699, 0.0801)] == [False] * 3
    for x in np.random.default_rng(0).uniform(0.001, 0.1, 200):
        assert covers(tuple(np.exp(np.log([(x, x), (2 * x, x)]))), x) and covers(tuple(np.exp(np.log([(x, x)]))), x)


def test_a_method_on_the_board_is_predicted_from_the_others_alone():
    found = predict(replace(SCORE, projected=Projection(0.002, 0, 1, 512)), "abc", KNOWN, "known")
    assert found.value == pytest.approx(0.05) and not found.inside and found.own_left_out
    assert "from 9 published scores of 8 variants of other methods, " in in_words(found)
    assert "from 12 published scores of 10 variants, " in in_words(at(0.01, fit=KNOWN))


def test_scores_that_one_family_alone_has_are_beyond_the_range_for_all_others():
    assert at(0.001).inside and not at(0.001, fit=KNOWN).inside
    assert at(0.02, fit=KNOWN).inside and at(0.001, fit=KNOWN).value == at(0.001).value


def test_a_score_that_is_not_valid_gets_no_rank():
    over = replace(SCORE, projected=Projection(0.02, 0, 1, 512), within_budget=False)
    assert "over the time limit" in predict(over, "abc", SAMPLE)


def test_where_the_fit_does_not_hold_there_is_a_reason_and_no_number():
    for reason, found in (
        ("not on this exact task", at(0.01, fingerprint="abd")),
        ("too few published scores", at(0.01, fit=None)),
        ("without accuracies there is no score", predict(replace(SCORE, score=float("nan")), "abc", SAMPLE)),
    ):
        assert reason in found and reason in in_words(found) and as_json(found) == {"none": found}


def test_a_score_at_512_itself_needs_no_projection():
    official = replace(SCORE, runs=512, score=0.01, projected=None)
    assert predict(official, "abc", SAMPLE).value == at(0.01).value


def test_without_a_projection_to_512_there_is_no_prediction():
    assert "N = 512" in predict(replace(SCORE, projected=None), "abc", SAMPLE)


def test_ranks_are_those_of_the_leaderboard_and_fall_as_scores_do():
    assert [rank_of(s) for s in (0.2, 0.0985, 0.0885, 0.0646, 0.055)] == [1, 1, 3, 110, 809]
    ranks = [rank_of(SCORES[-1] + k * 0.0005) for k in range(100)]
    assert ranks == sorted(ranks, reverse=True)
    assert rank_of(0.0549) is None


def test_a_file_that_is_no_fit_is_refused_and_none_is_none(tmp_path):
    assert read_fit(tmp_path / "none.json") is None
    good = asdict(KNOWN)
    wrong = [{"curve": []}, {"curve": [[1]]}, {"curve": [[1, float("nan")]]}, {"factors": 3}, {"without": []}, {"a": 1}]
    for text in ("", "[]", "{}", "null", '"x"', *(json.dumps(good | change) for change in wrong)):
        (tmp_path / "fit.json").write_text(text)
        with pytest.raises(FitError, match=r"fit\.json.*--fit"):
            read_fit(tmp_path / "fit.json")


def test_a_damaged_fit_costs_the_prediction_and_not_the_score(tmp_path, monkeypatch):
    monkeypatch.setattr("local_eval.grader.read_fit", lambda: read_fit(tmp_path / "fit.json"))
    (tmp_path / "fit.json").write_text("null")
    assert "is no fit" in Grader(TINY).predicted(SCORE)


@pytest.mark.skipif(not FIT.exists(), reason="the kit has no fit")
def test_the_kits_own_fit_rises_and_is_of_the_small_competition_as_it_is():
    fit = read_fit()
    assert fit.fingerprint == Grader("competition_small").fingerprint
    measured, published = zip(*fit.curve)
    assert list(measured) == sorted(measured) and list(published) == sorted(published)
    assert fit.factors[0] < 1 < fit.factors[1] and fit.families >= 5
