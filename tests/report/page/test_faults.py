"""The fault that is there is named, and none where nothing is wrong or nothing can be told."""

from dataclasses import replace

import pytest

from local_eval.report.page import words as faults
from local_eval.report.page.facts import gather
from tests.report.page.simulated import CASES, results


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Facts by name of a simulated case."""

    def facts(case, **more):
        return gather(results(tmp_path_factory.mktemp(case), 32, 18, **(CASES.get(case, {}) | more)))

    return {case: facts(case) for case in ("perfect", "shifted", "too_wide", "too_narrow", "identical")} | {
        "outlier": facts("outlier", outlier=0.09),
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
        ("outlier", "Outlier runs"),
        ("damaged", "Lost accuracy"),
    ],
)
def test_the_fault_that_is_there_is_named_first(told, case, title):
    first = faults.held_back(told[case])[0]
    assert first.title == title and first.share > 0.5
    assert "instead of" in first.text


def test_nothing_holds_back_what_is_perfect_and_no_repair_is_told_of_what_never_varies(told):
    assert faults.held_back(told["perfect"]) == [] == faults.held_back(told["identical"])
    assert "about the ceiling" in faults.nothing_holds(told["perfect"])
    assert "identical" in faults.nothing_holds(told["identical"])


def test_a_score_without_a_ceiling_has_no_faults(told):
    facts = replace(told["perfect"], score=told["perfect"].score | {"ceiling": 0.0, "projected": None})
    assert faults.held_back(facts) == []
