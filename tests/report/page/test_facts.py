"""The page's numbers are those of the score: bins add up, accuracies are counted, what was not kept is not made up."""

from dataclasses import replace

import numpy as np
import pytest

from local_eval.metric.metric import forgetting_points
from local_eval.report.page.facts import (
    accuracies,
    bins_of,
    counted,
    last_edge,
    measures_in,
    spread_out,
    standing,
)
from local_eval.report.page.figures import expected_points
from local_eval.report.result import Result
from local_eval.store.records import SPLITS


def test_what_the_bins_bring_adds_up_to_the_forgetting_quality(facts):
    assert facts.bins.brought.sum() == pytest.approx(facts.result["forgetting_quality"])
    assert facts.bins.count.sum() == len(facts.epsilons) == 30
    assert facts.bins.chance.sum() == pytest.approx(1) and facts.bins.chance_runs == 24


def test_there_are_as_many_bins_as_the_rule_has():
    for models, bins in ((16, 6), (32, 8), (64, 10), (512, 14)):
        edges = np.arange(0, last_edge(models) + 0.25, 0.5)
        assert len(edges) == bins + 1
        assert forgetting_points([edges[-1] - 0.01], models) > 0 == forgetting_points([edges[-1]], models)


def test_an_epsilon_on_an_edge_is_in_the_upper_bin_and_the_cap_has_one_of_its_own():
    edges = np.arange(0, 3.25, 0.5)
    assert counted(np.array([0, 0.49, 0.5, 2.99, 3.0, 49, 50]), edges).tolist() == [2, 1, 0, 0, 0, 1, 2, 1]


def test_a_pool_that_cannot_be_halved_gives_no_outline():
    bins = bins_of(np.array([1.0, 50.0]), np.zeros((3, 2)), 24)
    assert bins.chance is None and bins.count[-1] == 1


def test_shift_and_spread_are_read_as_they_were_made(facts):
    assert np.median(facts.shift) == pytest.approx(0.6, abs=0.1)
    assert np.median(np.exp(facts.log_ratio)) == pytest.approx(0.7, abs=0.1)


def test_shares_of_the_ceiling_are_those_of_forgetting_quality_and_its_projection(facts):
    s = facts.result
    assert facts.shares[0] == s["quality_over_ceiling"] == s["forgetting_quality"] / s["ceiling"]
    assert facts.shares[1] == pytest.approx(s["interval"][0] / facts.utility / s["ceiling"])
    assert facts.projected_shares is None
    projected = {"value": 0.01, "low": 0.005, "high": 0.02}
    facts = replace(facts, result=s.changed(projected=projected))
    assert facts.projected_shares[0] == pytest.approx(0.01 / s["ceiling"])


def test_accuracies_are_counted_and_what_was_not_kept_is_unknown(made):
    a = accuracies(made)
    forget, labels = SPLITS.index("forget"), made.task.forget.labels.numpy()
    right = np.mean([r.evaluation.forget_logits.argmax(1) == labels for r in made.unlearned.values()])
    assert a.mean[2, forget] == pytest.approx(right)
    assert a.mean[1, 0] == pytest.approx(made.result["oracles"]["retain_accuracy"])
    assert a.missing() == [] and a.size.sum() == 400 + 30 + 80 + 80
    bare = [replace(r, evaluation=replace(r.evaluation, controls=None)) for r in made.pool]
    without = accuracies(replace(made, pool=bare))
    assert without.missing() == ["retrained"]
    assert np.isnan(without.by_class[1, SPLITS.index("test")]).all()
    assert without.by_class[1, forget] == pytest.approx(a.by_class[1, forget]), "these come from the logits"


def test_contours_agree_where_the_tables_meet_and_fall_with_n():
    at = np.array([0.0, 1.0]), np.array([0.0, 0.0])
    by_n = [expected_points(*at, n) for n in (16, 32, 63, 64, 512)]
    assert all(0.15 < points[0] < 0.23 for points in by_n), "perfect is about 0.18 at every N"
    assert [points[1] for points in by_n] == sorted((points[1] for points in by_n), reverse=True)
    assert by_n[2] == pytest.approx(by_n[3], rel=0.02)


def test_what_is_shown_is_evenly_spaced_and_the_standing_is_by_score():
    assert spread_out(3, 10).tolist() == [0, 1, 2]
    assert spread_out(1000, 4).tolist() == [0, 250, 500, 750]
    rows = [{"score": s, "submission": n} for s, n in ((0.1, "a"), (0.3, "b"), (0.1, "c"))]
    assert [r["submission"] for r in standing(rows[2], rows[:2])] == ["b", "a", "c"]


def test_further_measures_and_the_level_of_the_interval_come_from_the_score(facts):
    measure = {
        "name": "KLoM",
        "value": 2.4,
        "perfect": 1.6,
        "low": 1.3,
        "high": 2.0,
        "words": "far off",
        "meaning": "x",
    }
    (row,) = measures_in({"beyond": [measure]})
    assert (row.name, row.value, row.perfect, row.meaning) == ("KLoM", "2.400", "1.600 (1.300 to 2.000)", "Far off. X.")
    assert measures_in({}) == ()
    assert facts.level == f"{100 * facts.result['interval_level']:.0f}\u00a0%"
    older = {key: value for key, value in facts.result.items() if key != "interval_level"}
    assert replace(facts, result=Result(older)).level == "95\u00a0%", "earlier versions did not say"
