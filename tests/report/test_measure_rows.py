"""The console shows the three further measures that matter, and says where the others are or why some are missing."""

from dataclasses import replace

import pytest

from local_eval.metric.measures import Measure
from local_eval.metric.score import Repeats
from local_eval.report.table import measure_rows, originals_line, repeats_line, table
from tests.metric.test_score import score


def measure(key):
    return Measure(key, f"name of {key}", 0.71, 0.5, -0.01, 0.53, "far off", "what it means")


@pytest.fixture(scope="module")
def plain():
    return score(models=16)


def test_three_of_them_are_printed_with_what_perfect_unlearning_gets(plain):
    keys = ("lira_accuracy", "klom", "test_control", "ks")
    said = table(replace(plain, measures=tuple(map(measure, keys))), "mine", "digits")
    for key in keys[:3]:
        assert f"name of {key}" in said
    assert "0.710  far off; perfect unlearning 0.500 (0.000 to 0.530)" in said
    assert "name of ks" not in said
    assert "4 further measures" in said and "docs/scores.md" in said


def test_missing_controls_are_told_with_what_to_do(plain):
    rows = measure_rows(replace(plain, measures=(measure("klom"),)))
    assert any("deleted, they are made again" in note for _, _, note in rows)
    assert measure_rows(plain) == []


@pytest.mark.parametrize(
    "oracles, told", [("disjoint", "oracles of its own."), ("shared", "up to half of the variance.")]
)
def test_seeds_are_told_in_a_line_beside_the_interval(plain, oracles, told):
    line = repeats_line(Repeats((3, 4), (0.04, 0.02), oracles), plain)
    assert line.startswith("seeds 3 to 4: 0.0400 0.0200; mean 0.0300, standard deviation 0.0141")
    assert told in line and f"{plain.interval[0]:.4f} to {plain.interval[1]:.4f}" in line


def test_both_kinds_of_originals_are_told_as_a_factor(plain):
    assert "2.0 times as much" in originals_line(replace(plain, score=0.02), replace(plain, score=0.04), 8)
    assert "times" not in originals_line(replace(plain, score=0.0), plain, 8)
