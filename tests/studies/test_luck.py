"""The study of luck scores as a grading does, deals runs into groups that share none, and finds what is known."""

import numpy as np
import pytest

from local_eval.metric.metric import quality_of
from studies import luck
from studies.luck import BEST_OF, Side, dealt, luck_of, points, rows, score_of


def side(models: int, seed: int, shift: float = 0.0, accuracy: float = 0.9, examples: int = 12) -> Side:
    rng = np.random.default_rng(seed)
    return Side(shift + rng.normal(size=(models, examples)), accuracy + 0.01 * rng.normal(size=(models, 2)))


def test_a_group_is_scored_nearly_as_a_grading_scores_it():
    runs, oracles = side(32, 1, 0.5, examples=72), side(32, 2, accuracy=0.99, examples=72)
    (retain, test), (all_retain, all_test) = runs.accuracies.mean(axis=0), oracles.accuracies.mean(axis=0)
    slowly = quality_of(runs.confidences, oracles.confidences) * (retain / all_retain) * (test / all_test)
    assert score_of(runs, oracles) == pytest.approx(slowly, rel=0.08)
    assert slowly < 0.85 * quality_of(runs.confidences, oracles.confidences), "accuracies count"


def test_groups_share_no_run_and_none_is_left_out_but_the_rest():
    whole = Side(np.arange(50.0)[:, None], np.zeros((50, 2)))
    groups = list(dealt(whole, 16, np.random.default_rng(0)))
    found = np.concatenate([group.confidences for group in groups]).ravel()
    assert len(groups) == 3 and len(set(found)) == 48 and not np.array_equal(found, np.arange(48))


def test_the_best_of_eight_equal_ones_is_as_far_above_their_mean_as_normal_numbers_say(monkeypatch):
    monkeypatch.setattr(luck, "score_of", lambda runs, oracles: runs.confidences.mean() + oracles.confidences.mean())
    runs, oracles = side(16 * BEST_OF, 3), side(16 * BEST_OF, 4)
    found = luck_of(runs, oracles, 16, deals=200)
    one = 1 / np.sqrt(16 * 12)
    assert found.same_oracles == pytest.approx(one, rel=0.1)
    assert found.other_oracles == pytest.approx(np.sqrt(2) * one, rel=0.1)
    assert found.gain == pytest.approx(1.4236 * one, rel=0.1), "the expected maximum of eight standard normal numbers"
    assert luck_of(side(32, 3), oracles, 16, deals=2).gain is None


def test_the_table_has_a_row_where_there_are_two_groups_and_points_of_the_scale():
    sides = {"zero": side(32, 1, 2.0), "hundred": side(32, 2, 0.1), "few": side(16, 3)}
    found = rows(sides, side(64, 4), "zero", "hundred", deals=2)
    assert [cells[:3] for cells in found] == [["16", "zero", "32"], ["16", "hundred", "32"]]
    assert all(int(cells[7]) > 0 and cells[8] == "-" for cells in found)
    assert points(0.5, 2.0) == "25" and points(0.5, 0.0) == points(0.5, -1.0) == points(None, 1.0) == "-"
