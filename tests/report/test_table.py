"""The console shows a score, the further measures that matter, and where the others are or why some are missing."""

import re
from dataclasses import replace

import pytest

from local_eval.metric.measures import Measure
from local_eval.metric.score import Repeats
from local_eval.metric.uncertainty.projection import Projection
from local_eval.report.table import measure_rows, originals_line, repeats_line, table
from tests.metric.test_score import score


def measure(key):
    return Measure(key, f"name of {key}", 0.71, 0.5, -0.01, 0.53, "far off", "what it means")


@pytest.fixture(scope="module")
def plain():
    return score(models=16, ra=0.8)


def line(text, start):
    return next(line for line in text.splitlines() if line.strip().startswith(start))


def test_the_score_stands_below_what_it_is_the_product_of(plain):
    said = table(replace(plain, projected=Projection(0.1, 0.05, 0.2, 512)), "mine", "digits")
    assert said.startswith("mine on digits, N = 16\n")
    assert line(said, "forgetting quality").split()[2] == f"{plain.forgetting_quality:.4f}"
    assert line(said, "x retain").split()[4:] == [
        f"{plain.retain_accuracy_ratio:.4f}",
        "RA",
        "0.8000,",
        "oracles",
        "0.9000",
    ]
    assert line(said, "= score").split()[2] == f"{plain.score:.4f}"
    assert "{:.4f} to {:.4f}".format(*plain.interval) in line(said, "= score")
    ends = [f"{plain.utility * value:.4f}" for value in (0.1, 0.05, 0.2)]
    assert line(said, "score at N = 512").split()[5] == ends[0] and f"{ends[1]} to {ends[2]}" in said


def test_what_is_not_known_is_said_to_be(plain):
    nan = float("nan")
    unknown = {"score": nan, "retain_accuracy_ratio": nan, "test_accuracy_ratio": nan, "seconds_per_run": nan}
    said = table(replace(plain, **unknown, projected=Projection(0.1, 0.05, 0.2, 512)), "mine", "digits")
    assert line(said, "= score").split()[2] == "unknown" and "without accuracies there is none" in said
    assert line(said, "seconds per run").split()[3] == "unknown"
    assert line(said, "quality at N = 512").split()[5] == "0.1000"
    assert "0.0500 to 0.2000" in line(said, "quality at N = 512")


def test_three_of_them_are_printed_with_what_perfect_unlearning_gets(plain):
    keys = ("lira_accuracy", "klom", "test_control", "ks")
    said = table(replace(plain, measures=tuple(map(measure, keys))), "mine", "digits")
    for key in keys[:3]:
        assert f"name of {key}" in said
    assert "0.710  far off; perfect unlearning 0.500 (0.000 to 0.530)" in said
    assert "name of ks" not in said
    assert re.search(r"all further measures +4 ", said) and "docs/scores.md" in said


def test_missing_controls_are_reported_with_what_to_do(plain):
    rows = measure_rows(replace(plain, measures=(measure("klom"),)))
    assert any("deleted, they are made again" in note for _, _, note in rows)
    assert measure_rows(plain) == []


def test_seeds_are_reported_in_a_line_beside_the_interval(plain):
    for oracles, said in (("disjoint", "oracles of its own."), ("shared", "up to half of the variance.")):
        line = repeats_line(Repeats((3, 4), (0.04, 0.02), oracles), plain)
        assert line.startswith("seeds 3 to 4: 0.0400 0.0200; mean 0.0300, standard deviation 0.0141")
        assert said in line and f"{plain.interval[0]:.4f} to {plain.interval[1]:.4f}" in line


def test_both_kinds_of_originals_are_compared_by_a_factor(plain):
    assert "2.0 times as much" in originals_line(replace(plain, score=0.02), replace(plain, score=0.04), 8)
    assert "times" not in originals_line(replace(plain, score=0.0), plain, 8)


def test_the_table_is_no_wider_than_the_terminal_and_loses_no_word(plain):
    found = replace(plain, projected=Projection(0.1, 0.05, 0.2, 512), measures=(measure("ulira"), measure("klom")))
    whole = table(found, "mine", "digits")
    for width in (60, 80, 120):
        lines = table(found, "mine", "digits", width).splitlines()
        assert max(map(len, lines)) <= width
        assert " ".join(lines).split() == whole.split()
