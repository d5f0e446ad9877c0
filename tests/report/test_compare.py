"""The comparison is generated, states how to make it again, and leaves the rest of a file alone."""

import json
import shlex
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from local_eval.__main__ import main
from local_eval.cli.parser import make_parser
from local_eval.report import compare
from local_eval.report.compare import (
    Compared,
    as_json,
    as_text,
    best_in_words,
    markdown,
    pairs_in_words,
    rank_agreement,
    rank_and_official_score,
    table_of_several,
    write_between_markers,
)
from local_eval.store.files import OutputError
from tests.metric.test_score import score as made_up_score
from tests.report.conftest import COMPARED, options


@pytest.fixture(scope="module")
def score():
    return made_up_score(models=16)


def test_ranks_and_official_scores_are_read_from_the_docstrings():
    found = {name: rank_and_official_score(name) for name in ("fanchuan", "amnesiacs", "jiaxi_sun", "forget")}
    assert (found["fanchuan"], found["amnesiacs"]) == (("1", "0.0985"), ("6", "0.0783"))
    assert (found["jiaxi_sun"], found["forget"]) == (("7", "~0.078"), ("8", "~0.0775")), "read from a chart"
    for name in ("scrub", "random_mask", "fanchuan[EPOCHS=2]"):  # none, one that nobody confirmed, a variant
        assert rank_and_official_score(name) == ("-", "-")


@pytest.mark.usefixtures("without_a_pool")
def test_one_command_grades_and_writes_the_table(on_disk, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- table tiny -->\nold\n<!-- end table tiny -->\nafter\n")
    saved = tmp_path / "results" / "tiny.json"
    files = ["--write", str(readme), "--save", str(saved)]
    assert main(["compare", *COMPARED, *options(on_disk), *files]) == 0
    said, text = capsys.readouterr().out, readme.read_text()
    assert text.startswith("before\n<!-- table tiny -->\n| method | rank |")
    assert text.endswith("<!-- end table tiny -->\nafter\n")
    assert "old" not in text
    assert "| `seif_achour` | 3 |" in text
    assert "N = 16" in text
    assert "|" not in said and "\n2 methods on tiny, N = 16, seed 0\n\nmethod" in said
    assert said.splitlines()[-1].count("baseline_finetune") == said.splitlines()[-1].count("seif_achour") == 1
    assert main(["compare", *COMPARED, *options(on_disk), "--markdown"]) == 0
    assert "\n| method | rank |" in capsys.readouterr().out
    content = json.loads(saved.read_text())
    assert set(content["methods"]) == {"baseline_finetune", "seif_achour"}
    assert content["runs"] == 16


def test_the_line_below_the_table_makes_it_again_with_seed_names_and_what_was_changed_in_the_task(score):
    scores = {"scrub": score, "fanchuan[EPOCHS=2]": score}
    spec = "digits[epochs=3]"
    text = markdown(Compared(scores, "digits", spec, "abc", 16, 5, "cpu", ("fanchuan[EPOCHS=2]", "scrub", "gone")))
    line = text.rpartition("; `")[2].removesuffix("`.")
    assert line.startswith("python -m local_eval compare ")
    again = make_parser().parse_args(shlex.split(line)[3:])
    assert again.names == ["fanchuan[EPOCHS=2]", "scrub", "gone"] and again.seed == 5 and again.runs == 16
    assert "--task digits --epochs 3" in line
    everything = markdown(Compared(scores, "digits", "digits", "abc", 16, 0, "cpu"))
    assert "`python -m local_eval compare --task digits --runs 16`." in everything


def test_the_table_has_the_best_first_and_the_file_the_order_of_grading(score):
    scores = {"fanchuan": replace(score, score=0.02), "scrub": replace(score, score=0.06)}
    compared = Compared(scores, "digits", "digits", "abc", 16, 0, "cpu")
    rows = [line.split(" | ") for line in markdown(compared).splitlines()[2:4]]
    assert [(row[0], row[1], row[2], row[-1]) for row in rows] == [
        ("| `scrub`", "-", "0.0600", "- |"), ("| `fanchuan`", "1", "0.0200", "0.0985 |")
    ]  # fmt: skip
    found = json.loads(as_json(compared))
    assert list(found["methods"]) == ["fanchuan", "scrub"]
    first = found["methods"]["fanchuan"]
    assert (first["official_rank"], first["official_private"]) == ("1", "0.0985")
    assert first["score"] == 0.02 and first["interval"] == list(score.interval) and first["projected"] is None
    assert first["quality_over_ceiling"] == score.quality_over_ceiling
    assert found["ceiling"] == score.ceiling and found["rank_correlation"] is None and found["ranked_methods"] == 1


def test_what_was_read_from_a_chart_has_a_mark_that_the_table_explains_and_is_a_number_for_programs(score):
    scores = {"fanchuan": score, "forget": score}
    compared = Compared(scores, "digits", "digits", "abc", 16, 0, "cpu")
    text = markdown(compared)
    assert "| ~0.0775 |" in text and "read from a chart: no number was published" in text
    methods = json.loads(as_json(compared))["methods"]
    assert [methods[name]["official_private"] for name in scores] == ["0.0985", "0.0775"]
    assert [methods[name]["official_from_chart"] for name in scores] == [False, True]
    assert "chart" not in markdown(Compared({"fanchuan": score}, "digits", "digits", "abc", 16, 0, "cpu"))


def test_our_order_is_compared_with_the_official_ranks():
    for order, expected in (
        (["fanchuan", "kookmin", "scrub", "seif_achour", "oleszko"], 1.0),
        (["oleszko", "seif_achour", "kookmin", "fanchuan"], -1.0),
        (["kookmin", "fanchuan", "seif_achour"], 0.5),
    ):
        scores = {name: SimpleNamespace(score=1.0 - 0.1 * place) for place, name in enumerate(order)}
        ranked = len(set(order) - {"scrub"})
        assert rank_agreement(scores) == (pytest.approx(expected), ranked)


def test_every_two_methods_are_held_against_each_other_with_their_own_utilities(monkeypatch):
    asked = []

    def comparison_of(first, second, oracles, persons, utilities):
        asked.append((first.tolist(), second.tolist(), utilities))
        return SimpleNamespace(in_words=lambda one, other: f"{one}, {other}")

    monkeypatch.setattr(compare, "comparison_of", comparison_of)
    scores = {name: SimpleNamespace(utility=k) for k, name in enumerate("abc")}
    runs = {name: np.full(1, k) for k, name in enumerate("abc")}
    assert pairs_in_words(scores, runs, np.zeros(1), np.zeros(1)) == ["a, b", "a, c", "b, c"]
    assert asked == [([0], [1], (0, 1)), ([0], [2], (0, 2)), ([1], [2], (1, 2))]


def test_each_method_is_held_against_the_best_from_the_best_down(monkeypatch):
    monkeypatch.setattr(
        compare,
        "comparison_of",
        lambda first, second, *_: SimpleNamespace(in_words=lambda one, other: f"{one} {first[0]}, {other} {second[0]}"),
    )
    scores = {name: SimpleNamespace(utility=1, score=value) for name, value in (("a", 0.1), ("b", 0.3), ("c", 0.2))}
    runs = {name: [k] for k, name in enumerate("abc")}
    c, a, luck = best_in_words(scores, runs, np.zeros(1), np.zeros(1))
    assert (c, a) == ("c 2, b 1", "a 0, b 1") and luck.startswith("Each of these 2 tests") and "score of 3" in luck
    del scores["c"]
    assert best_in_words(scores, runs, np.zeros(1), np.zeros(1)) == ["a 0, b 1"]


def test_the_text_has_the_best_first_fits_any_width_and_counts_one_and_many(score):
    one = Compared({"fanchuan": replace(score, score=0.02)}, "digits", "digits", "abc", 16, 0, "cpu")
    two = replace(one, scores=one.scores | {"scrub": replace(score, score=0.06)}, names=("fanchuan", "scrub"))
    for width in (60, 80, 120, None):
        lines = as_text(two, width).splitlines()
        assert lines[0] == "2 methods on digits, N = 16, seed 0" and "|" not in "".join(lines)
        assert [line.split()[0] for line in lines[2:5]] == ["method", "scrub", "fanchuan"]
        assert lines[-1] == "made again by: python -m local_eval compare fanchuan scrub --task digits --runs 16"
        assert width is None or max(map(len, lines[:-1])) <= width
    assert as_text(one).startswith("1 method on digits")


def test_what_failed_has_a_line_in_the_table_of_several_where_it_was_given(score):
    late = replace(score, within_budget=False, seconds_per_run=float("nan"))
    names, failed = ["first", "gone", "late"], {"gone": "no\n such   thing, " + "x" * 200}
    head, first, gone, last = table_of_several(names, {"late": late, "first": score}, failed).splitlines()
    assert head.split() == ["N", "score", "90", "%", "interval", "of", "ceiling", "RA", "TA", "s", "/", "run"]
    assert first.startswith("first  16  ") and first.endswith("  2.00") and f"{score.score:.4f}" in first
    assert gone.startswith("gone   failed: no such thing, xxx") and gone.endswith("xxx ...") and len(gone) < 150
    assert "(not valid: over the limit)" in last and last.endswith("  -")
    assert len(head) == len(first) == len(last)


def test_a_file_without_markers_is_refused(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("nothing")
    with pytest.raises(OutputError, match="<!-- table digits -->"):
        write_between_markers(path, "table digits", "text")
