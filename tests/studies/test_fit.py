"""The fit rises, weighs families alike, is judged on families that it has not seen, and says so on the board's end."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from local_eval.metric.uncertainty.projection import Projection
from local_eval.report.prediction import read_fit
from studies.board import (
    BoardError,
    Graded,
    Point,
    check_ending,
    curve_of,
    fit_of,
    left_out_errors,
    points_of,
    save_fit,
    weighted_quantile,
)
from studies.board import plot_chart as draw
from tests.metric.test_score import score
from tests.studies.test_rows import GOOD_ROW

SCORE = replace(score(models=16), retain_accuracy_ratio=1.0, test_accuracy_ratio=1.0)


def graded(epochs, measured, published, **columns):
    row = replace(GOOD_ROW, variant=f"fanchuan[EPOCHS={epochs}]", published=published, **columns)
    return Graded(row, replace(SCORE, projected=Projection(measured, measured / 2, 2 * measured, 512)))


def points(families=4, each=3, law=lambda x, _: 2 * x):
    measured = np.geomspace(0.001, 0.05, families * each)
    families = [f"f{k % families}" for k in range(len(measured))]
    return [Point(f"v{k}", f, x, law(x, f), 1) for k, (x, f) in enumerate(zip(measured, families))]


def board(count=12):
    measured = np.geomspace(0.001, 0.05, count)
    return [graded(k + 1, x, 1.5 * x, family=f"f{k % 4}") for k, x in enumerate(measured)]


def test_a_variant_of_several_rows_is_one_point_of_its_private_scores():
    rows = [
        graded(9, 0.02, 0.08),
        graded(9, 0.02, 0.02),
        graded(9, 0.02, 0.9, split="public"),
        graded(8, 0.03, 0.05, split="public"),
        replace(graded(7, 0.03, 0.05), score=None),
    ]
    one, other = points_of(rows)
    assert (one.measured, one.published, one.rows) == pytest.approx((0.02, 0.04, 3))
    assert (other.measured, other.published, other.rows) == pytest.approx((0.03, 0.05, 1))


def test_the_curve_of_points_that_rise_goes_through_them():
    found = points()
    assert np.allclose(curve_of(found), [(p.measured, p.published) for p in found])


def test_a_family_of_many_variants_weighs_no_more_than_one_of_few():
    one, many = Point("a", "one", 0.01, 0.02, 1), [Point(f"b{k}", "many", 0.01, 0.08, 1) for k in range(9)]
    assert curve_of([one, *many])[0][1] == pytest.approx(0.04)


def test_errors_are_of_families_that_the_curve_has_not_seen():
    errors = left_out_errors(points(law=lambda x, family: 6 * x if family == "f1" else 2 * x))
    strange = np.arange(12) % 4 == 1
    assert np.allclose(errors[strange][1:-1], np.log(3))
    found = left_out_errors(points())
    assert np.isnan(found).nonzero()[0].tolist() == [0, 11], "beyond the others' ends nothing is predicted"
    assert np.nanmax(np.abs(found)) < 0.01


def test_weighted_quantiles_with_equal_weights_are_the_plain_ones_in_the_middle():
    assert weighted_quantile(np.array([3.0, 1.0, 2.0]), np.ones(3), 0.5) == 2.0
    assert weighted_quantile(np.array([3.0, 1.0, 2.0]), np.array([8.0, 1.0, 1.0]), 0.5) > 2.5


def test_a_fit_is_read_as_it_was_written_and_few_variants_give_none(tmp_path):
    fit = fit_of(board(), "small", "abc", 24)
    save_fit(fit, tmp_path / "fit.json")
    assert read_fit(tmp_path / "fit.json") == fit
    assert (fit.rows, fit.variants, fit.families) == (12, 12, 4)
    assert fit.factors[0] <= 1 <= fit.factors[1] and 1 <= fit.median_factor < 2
    for curve in fit.without.values():
        assert set(curve) < set(fit.curve), "where points rise, leaving some out leaves the others"
    adam = replace(graded(1, 1e-4, 0.06), row=replace(GOOD_ROW, variant="baseline_finetune[ADAM=True]"))
    assert fit_of([*board(), adam], "small", "abc", 24) == fit, "held back by the task alone"
    assert fit_of(board(7), "small", "abc", 24) is None


def test_rows_that_may_be_of_another_method_and_scores_at_small_n_are_not_in_the_fit():
    fit = fit_of(board(), "small", "abc", 24)
    unsure = graded(50, 0.01, 0.9, confidence="?", family="f1")
    plain = replace(graded(51, 0.01, 0.9, family="f2"), score=replace(SCORE, projected=None, score=0.1))
    assert fit_of([*board(), unsure, plain], "small", "abc", 24) == fit
    none = [replace(one, score=replace(one.score, projected=None, score=0.1)) for one in board()]
    assert fit_of(none, "small", "abc", 16) is None
    nothing = replace(graded(52, 0.0, 0.0001, family="f3"), score=replace(SCORE, projected=None, score=0.0))
    assert fit_of([*board(), nothing], "small", "abc", 24).curve[0] == pytest.approx((1e-4, 1e-4))


def test_a_figure_of_an_ending_that_cannot_be_drawn_is_refused_before_the_work():
    with pytest.raises(BoardError, match=r"board\.doc"):
        check_ending(Path("board.doc"))


def test_the_chart_shows_every_family_and_is_the_same_twice(tmp_path):
    rows = board()
    for name in ("one.svg", "two.svg"):
        draw(rows, fit_of(rows, "small", "abc", 24), "small", tmp_path / name)
    text = (tmp_path / "one.svg").read_text()
    assert all(f">f{k}<" in text for k in range(4)) and "80 % interval" in text
    assert text == (tmp_path / "two.svg").read_text()
