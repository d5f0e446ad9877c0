"""The verdict says what the numbers say, and no two numbers contradict each other."""

from dataclasses import replace

from local_eval.report.page import words


def test_the_verdict_follows_the_projection_and_names_all_that_its_interval_leaves_open(cases):
    alone = cases["perfect"]
    for ends, said in (
        ((0.01, 0.02, 0.04), "Hardly forgets"),
        ((0.04, 0.06, 0.1), "Hardly forgets, or a little"),
        ((0.1, 0.15, 0.3), "Forgets little or partly"),
        ((0.3, 0.35, 0.4), "Forgets partly"),
        ((0.3, 0.46, 0.7), "Forgets partly or well"),
        ((0.5, 0.9, 1.4), "Forgets well, or like retraining"),
        ((0.85, 1.0, 1.6), "Forgets like retraining"),
        ((0.04, 0.1, 0.3), "32 models are too few to tell how well it forgets"),
        ((0.3, 0.9, 1.4), "32 models are too few to tell how well it forgets"),
        ((0.9, 1.6, 2.0), "Too good to be true"),
    ):
        facts = projected_to(alone, *ends)
        assert words.headline(facts) == said, ends
        assert "512" in words.explained(facts)
    said = " ".join(words.sureness(projected_to(alone, 0.02, 0.04, 0.3)))
    assert "from \u201chardly forgets\u201d to \u201cforgets partly\u201d" in said


def test_where_nothing_is_known_of_512_models_few_say_how_far_it_goes_at_most(cases):
    alone = cases["perfect"].result
    for share, said in (
        (0.01, "Hardly forgets"),
        (0.1, "Forgets little at best"),
        (0.3, "Forgets partly at best"),
        (1.0, "This grading cannot tell how well it forgets"),
        (1.7, "Too good to be true"),
    ):
        value = share * alone["ceiling"]
        ends = [0.0, 1.1 * value * alone.utility]
        facts = replace(cases["perfect"], result=alone.changed(forgetting_quality=value, interval=ends))
        assert words.headline(facts) == said
        assert "not known (not asked for)" in words.explained(facts) and "not known" in " ".join(words.sureness(facts))
    few = replace(cases["perfect"], ours=cases["perfect"].ours[:16])
    assert words.headline(few) == "16 models are too few to tell how well it forgets"


def test_lost_accuracy_is_part_of_the_verdict(cases):
    assert words.headline(cases["damaged"]).endswith("cannot tell how well it forgets, but it costs accuracy")
    assert words.headline(projected_to(cases["damaged"], 0.3, 0.35, 0.4)) == "Forgets partly, and costs accuracy"
    assert words.cost_in_short(cases["damaged"])[0].startswith("\u2212")


def test_a_loss_of_accuracy_is_the_difference_of_the_two_accuracies_as_they_are_shown(cases):
    for ours, theirs, loss in ((0.92584, 0.93337, "\u22120.7"), (0.90249, 0.90151, "\u22120.2"), (0.9, 0.9, "nothing")):
        both = {"retain_accuracy": theirs, "test_accuracy": 0.9}
        result = cases["perfect"].result.changed(retain_accuracy=ours, test_accuracy=0.9, oracles=both)
        facts = replace(cases["perfect"], result=result)
        assert words.cost_in_short(facts)[0] == (loss if ours < theirs else "nothing")
        said = " ".join(words.cost(facts))
        assert words.percent(ours, 1) in said and words.percent(theirs, 1) in said


def projected_to(facts, low, value, high):
    """The facts with a projection of these shares of the ceiling."""
    ceiling = facts.result["ceiling"]
    found = {"value": value * ceiling, "low": low * ceiling, "high": high * ceiling, "models": 512}
    return replace(facts, result=facts.result.changed(projected=found | {"score": found["value"] * facts.utility}))


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


def test_percentages_are_short_and_do_not_break():
    for share, text in (
        (0.223, "22_%"), (0.034, "3.4_%"), (0.0001, "below 0.1_%"), (0, "0_%"), (float("nan"), "unknown")
    ):  # fmt: skip
        assert words.percent(share) == text.replace("_", "\u00a0")


def test_a_score_without_a_ceiling_still_gets_a_page_of_words(cases):
    result = cases["perfect"].result.changed(ceiling=0.0, projected=None)
    facts = replace(cases["perfect"], result=result)
    assert words.held_back(facts) == []
    assert words.headline(facts) == "This grading cannot tell how well it forgets" and "unknown" in words.explained(
        facts
    )


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
