"""What is said of a sweep: both numbers of the best, which others are as good, and what was left out and why."""

import json
from dataclasses import replace

import pytest

from local_eval.metric.uncertainty.paired import Comparison
from local_eval.metric.uncertainty.projection import Projection
from local_eval.report.columns import Row
from local_eval.report.result import Result
from local_eval.report.swept import Again, Stopped, Swept, as_csv, as_json, as_png, as_text
from tests.metric.test_score import score as made_up_score

NAMES = [f"mine[NOISE={value}]" for value in ("0.1", "0.2", "0.4")]


@pytest.fixture(scope="module")
def score():
    """Too few models to project from, which would take seconds."""
    return made_up_score(models=16)


def beside(verdict, p):
    return Comparison(verdict, p, 0.9, -0.01, 0.01, (0.0, 0.1), 16, None)


@pytest.fixture(scope="module")
def swept(score):
    tests = (None, beside("cannot tell", 0.4), beside("worse", 0.0004))
    values = [replace(score, score=s, interval=(s / 2, 2 * s)) for s in (0.05, 0.04, 0.01)]
    rows = [Row(name, Result.of(one, name, "tiny", {}), beside=two) for name, one, two in zip(NAMES, values, tests)]
    settings = {name: {"NOISE": name[11:-1]} for name in NAMES} | {"mine[NOISE=9]": {"NOISE": "9"}}
    return Swept("mine", settings, rows, {"task": "tiny", "runs": 16, "seed": 0})


def test_the_table_has_the_constants_the_score_and_the_test_against_the_best(swept):
    lines = as_text(swept).splitlines()
    assert lines[0] == "sweep of mine on tiny: 4 points, N = 16, seed 0"
    assert lines[2].split()[:2] == ["NOISE", "score"]
    assert [line.split()[:2] for line in lines[3:6]] == [["0.1", "0.0500"], ["0.2", "0.0400"], ["0.4", "0.0100"]]
    ends = ("best", "cannot tell, p = 0.400", "worse, p < 0.001")
    assert all(line.endswith(end) for line, end in zip(lines[3:6], ends))
    assert "1 of 2 other points cannot be told from the best" in lines[8]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(swept, score, width):
    again = Again(score, 1000, (16, 31), (NAMES[1], NAMES[0]), 0.02, 2)
    said = as_text(replace(swept, again=again, failed={"mine[NOISE=9]": "gone " * 50}), width)
    assert max(map(len, said.splitlines())) <= width
    assert "beside the best" in said and "judged by the rest" in " ".join(said.split())


def test_without_a_last_grading_it_says_not_to_report_the_number(swept):
    said = as_text(replace(swept, not_again="runs failed"))
    assert "The best of 4 points is mine[NOISE=0.1]: 0.0500." in said
    assert "which flatters it on average; do not report it." in said and "No last grading: runs failed" in said


def test_both_numbers_are_shown_and_what_other_persons_say(swept, score):
    fresh = replace(score, score=0.03, interval=(0.02, 0.04), warnings=("beware",))
    again = Again(fresh, 1000, (16, 31), (NAMES[0], NAMES[0]), 0.03)
    said = as_text(replace(swept, again=again))
    assert (
        "as it was chosen      0.0500" in said
        and "graded again          0.0300  90 % interval 0.0200 to 0.0400" in said
    )
    assert "either half of the persons alone would have chosen the same" in said and "note: beware" in said
    assert "Report the last number, not the first." in said and "Before this" not in said
    assert "luckier" not in said
    lucky = replace(again, score=replace(fresh, score=0.06))
    assert "Here the fresh runs were the luckier ones" in as_text(replace(swept, again=lucky))
    split = as_text(replace(swept, again=replace(again, by_halves=(NAMES[1], NAMES[0]), judged=0.02, earlier=2)))
    assert "0.0200  half of the persons would have chosen NOISE=0.2, the others NOISE=0.1; each judged" in split
    assert "Before this, 2 other winners were graded again" in split
    alone = as_text(replace(swept, again=replace(again, by_halves=None, judged=None, earlier=1)))
    assert "by other persons" not in alone and "Report the second number" in alone and "another winner was" in alone


def test_another_point_that_512_models_would_put_first_is_named(swept, score):
    def projected(row, value):
        at = replace(score, projected=Projection(value, value / 2, 2 * value, 512), score=row.result["score"])
        return replace(row, result=Result.of(at, row.name, "tiny", {}))

    rows = [projected(row, value) for row, value in zip(swept.rows, (0.01, 0.02, 0.001))]
    assert "At N = 512 NOISE=0.2 is expected to be first: " in as_text(replace(swept, rows=rows))
    rows = [projected(row, value) for row, value in zip(swept.rows, (0.02, 0.01, 0.001))]
    assert "expected to be first" not in as_text(replace(swept, rows=rows))


def test_files_for_programs_hold_every_point_once(swept, score):
    again = Again(score, 1000, (16, 31), None, None)
    stopped = (Stopped("mine[NOISE=9]", 16, 0.001, 0.06, 0.0001),)
    whole = replace(swept, again=again, stopped=stopped, failed={"mine[NOISE=7]": "gone"})
    content = json.loads(as_json(whole))
    assert [point["NOISE"] for point in content["points"]] == ["0.1", "0.2", "0.4"]
    assert content["given_up"][0]["settings"] == {"NOISE": "9"} and content["not_graded"] == {"mine[NOISE=7]": "gone"}
    assert content["graded_again"]["point"] == NAMES[0]
    assert as_csv(whole).splitlines()[0].startswith("point,NOISE,runs,score,low,high")
    assert len(as_csv(whole).splitlines()) == 4
    assert as_png(whole).startswith(b"\x89PNG") and as_png(whole) == as_png(whole)
