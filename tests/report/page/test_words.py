"""The verdict says what the numbers say, and no two numbers contradict each other."""

from dataclasses import replace

from local_eval.report.page import words


def test_the_verdict_follows_the_projection_where_there_is_one(cases):
    assert words.headline(cases["perfect"]) == "Forgets like retraining"
    alone = cases["shifted"]
    assert words.headline(alone) == "Forgets partly"
    assert "not asked for." in " ".join(words.sureness(alone))
    ceiling = alone.result["ceiling"]
    projected = {"value": 0.04 * ceiling, "low": 0.02 * ceiling, "high": 0.3 * ceiling}
    facts = replace(alone, result=alone.result.changed(projected=projected))
    assert words.headline(facts) == "Hardly forgets" and "512" in words.explained(facts)
    assert "from \u201chardly forgets\u201d to \u201cforgets partly\u201d" in " ".join(words.sureness(facts))


def test_lost_accuracy_is_part_of_the_verdict(cases):
    assert words.headline(cases["damaged"]).endswith("and costs accuracy")
    assert words.cost_in_short(cases["damaged"])[0].startswith("\u2212")


def test_a_loss_of_accuracy_is_the_difference_of_the_two_accuracies_as_they_are_shown(cases):
    for ours, theirs, loss in ((0.92584, 0.93337, "\u22120.7"), (0.90249, 0.90151, "\u22120.2"), (0.9, 0.9, "nothing")):
        both = {"retain_accuracy": theirs, "test_accuracy": 0.9}
        result = cases["perfect"].result.changed(retain_accuracy=ours, test_accuracy=0.9, oracles=both)
        facts = replace(cases["perfect"], result=result)
        assert words.cost_in_short(facts)[0] == (loss if ours < theirs else "nothing")
        said = " ".join(words.cost(facts))
        assert words.percent(ours, 1) in said and words.percent(theirs, 1) in said


def with_projection(facts, share, **more):
    ceiling = facts.result["ceiling"]
    found = {"value": share * ceiling, "low": share * ceiling / 2, "high": share * ceiling, "score": share * ceiling}
    return replace(facts, result=facts.result.changed(projected=found, **more))


def test_few_models_are_said_to_flatter_only_where_the_projection_is_clearly_lower(cases):
    here = cases["shifted"].shares[0]
    assert "flatters" in words.explained(with_projection(cases["shifted"], 0.3 * here))
    assert "flatters" not in words.explained(with_projection(cases["shifted"], 0.95 * here))
    assert "flatters" not in words.explained(cases["shifted"])


def test_the_place_is_said_at_this_n_and_at_the_official_one_where_all_are_projected(cases):
    facts = with_projection(cases["shifted"], 0.05)
    others = tuple(
        facts.result.changed(submission=n, score=0.0, projected={"score": p}) for n, p in (("a", 1), ("b", 2))
    )
    facts = replace(facts, source=replace(facts.source, others=others))
    assert words.place(facts) == "Place 1 of 3 graded here at N = 32; by what is projected to N = 512, place 3."
    plain = replace(facts, result=facts.result.changed(projected=None))
    assert words.place(plain) == "Place 1 of 3 graded here at N = 32."


def test_an_interval_across_levels_is_said_to_be_one(cases):
    result = cases["perfect"].result.changed(projected=None, interval=[0.01, 0.2])
    said = " ".join(words.sureness(replace(cases["perfect"], result=result)))
    assert "from \u201cforgets little\u201d to \u201cforgets like retraining\u201d" in said


def test_percentages_are_short_and_do_not_break():
    for share, text in (
        (0.223, "22_%"), (0.034, "3.4_%"), (0.0001, "below 0.1_%"), (0, "0_%"), (float("nan"), "unknown")
    ):  # fmt: skip
        assert words.percent(share) == text.replace("_", "\u00a0")


def test_a_score_without_a_ceiling_still_gets_a_page_of_words(cases):
    result = cases["perfect"].result.changed(ceiling=0.0, projected=None)
    facts = replace(cases["perfect"], result=result)
    assert words.held_back(facts) == []
    assert words.headline(facts) == "Cannot tell" and "unknown" in words.explained(facts)


def test_points_and_signs_read_as_people_write_them():
    assert [words.in_points(p) for p in (1, 1 / 64, 0)] == ["1 point", "1/64 of a point", "no point"]
    assert [words.signed(x) for x in (0.3, -0.3, -0.001)] == ["+0.30", "\u22120.30", "0.00"]


def test_the_one_thing_that_is_wrong_is_named_first(cases):
    for case, title in (
        ("shifted", "Shifted: still too sure"),
        ("below", "Shifted: not sure enough"),
        ("too_wide", "Too wide"),
        ("too_narrow", "Too narrow"),
        ("outliers", "Outlier runs"),
        ("damaged", "Lost accuracy"),
    ):
        first = words.held_back(cases[case])[0]
        assert first.title == title and first.share > 0.5, case
        assert "instead of" in first.text


def test_nothing_holds_back_what_is_perfect_and_no_repair_is_offered_for_what_never_varies(cases):
    assert words.held_back(cases["perfect"]) == [] == words.held_back(cases["identical"])
    assert "about the ceiling" in words.nothing_holds(cases["perfect"])
    assert "identical" in words.nothing_holds(cases["identical"])
