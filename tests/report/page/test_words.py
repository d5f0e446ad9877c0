"""The verdict says what the numbers say, and names the fault that is there."""

from dataclasses import replace

import pytest

from local_eval.report.page import words
from local_eval.report.page.facts import gather
from tests.report.page.simulated import CASES, results


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Facts by name of a simulated case."""

    def facts(case, **more):
        return gather(results(tmp_path_factory.mktemp(case), 32, 18, **(CASES.get(case, {}) | more)))

    return {case: facts(case) for case in ("perfect", "shifted", "too_wide", "too_narrow", "identical")} | {
        "stray": facts("stray", stray=0.09),
        "damaged": facts("damaged", right=0.6),
        "below": facts("below", shift=-1.2),
    }


@pytest.mark.parametrize(
    "case, title",
    [
        ("shifted", "Shifted: still too sure"),
        ("below", "Shifted: not sure enough"),
        ("too_wide", "Too wide"),
        ("too_narrow", "Too narrow"),
        ("stray", "Stray runs"),
        ("damaged", "Lost accuracy"),
    ],
)
def test_the_fault_that_is_there_is_named_first(told, case, title):
    first = words.held_back(told[case])[0]
    assert first.title == title and first.share > 0.5
    assert "instead of" in first.text


def test_nothing_holds_back_what_is_perfect_and_no_repair_is_told_of_what_never_varies(told):
    assert words.held_back(told["perfect"]) == [] == words.held_back(told["identical"])
    assert "about the ceiling" in words.nothing_holds(told["perfect"])
    assert "identical" in words.nothing_holds(told["identical"])


def test_the_verdict_follows_the_projection_where_there_is_one(told):
    assert words.headline(told["perfect"]) == "Forgets like retraining"
    alone = told["shifted"]
    assert words.headline(alone) == "Forgets partly"
    assert "not asked for." in " ".join(words.sureness(alone))
    ceiling = alone.score["ceiling"]
    projected = {"value": 0.04 * ceiling, "low": 0.02 * ceiling, "high": 0.3 * ceiling}
    facts = replace(alone, score=alone.score | {"projected": projected})
    assert words.headline(facts) == "Hardly forgets" and "512" in words.explained(facts)
    assert "from \u201chardly forgets\u201d to \u201cforgets partly\u201d" in " ".join(words.sureness(facts))


def test_lost_accuracy_is_part_of_the_verdict(told):
    assert words.headline(told["damaged"]).endswith("and costs accuracy")
    assert words.cost_in_short(told["damaged"])[0].startswith("\u2212")


def test_an_interval_across_levels_is_told_as_such(told):
    score = told["perfect"].score | {"projected": None, "interval": [0.01, 0.2]}
    said = " ".join(words.sureness(replace(told["perfect"], score=score)))
    assert "from \u201cforgets little\u201d to \u201cforgets like retraining\u201d" in said


@pytest.mark.parametrize(
    "share, text", [(0.223, "22_%"), (0.034, "3.4_%"), (0.0001, "below 0.1_%"), (0, "0_%"), (float("nan"), "unknown")]
)
def test_percentages_are_short_and_do_not_break(share, text):
    assert words.percent(share) == text.replace("_", "\u00a0")


def test_a_score_without_a_ceiling_still_gets_a_page_of_words(told):
    facts = replace(told["perfect"], score=told["perfect"].score | {"ceiling": 0.0, "projected": None})
    assert words.headline(facts) == "Cannot tell" and "unknown" in words.explained(facts)
    assert words.held_back(facts) == []


def test_points_and_signs_read_as_people_write_them():
    assert [words.in_points(p) for p in (1, 1 / 64, 0)] == ["1 point", "1/64 of a point", "no point"]
    assert [words.signed(x) for x in (0.3, -0.3, -0.001)] == ["+0.30", "\u22120.30", "0.00"]
