"""The page is one file that needs nothing else, says the same twice, and does not believe any name."""

from dataclasses import replace

import html5lib
import numpy as np
import pytest
from PIL import Image

from local_eval.report.page.figures import as_png
from local_eval.report.page.render import every_block, gauge, page
from local_eval.report.page.tables import as_csv, of_standing, standing_block
from local_eval.report.page.words import percent
from tests.report.conftest import NASTY
from tests.report.page.looking import Page

FIGURES = 11
NEAR = 80  # letters: within one sentence


def test_the_same_results_give_the_same_bytes(facts, sections, folder):
    names = sorted(p.relative_to(folder) for p in folder.rglob("*.*"))
    assert len(names) == FIGURES + 2
    assert page(facts, sections) == (folder / "report.html").read_text()
    assert as_csv(facts) == (folder / "figures" / "examples.csv").read_text()
    for block in every_block(sections)[::5]:
        assert as_png(block.figure) == (folder / "figures" / f"{block.key}.png").read_bytes(), block.key


def test_nothing_on_the_page_points_outside(seen):
    assert [a for a in seen.addresses() if not a.startswith(("#", "data:image/png;base64,"))] == []
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in seen.elements}
    assert not [a for _, attributes in seen.elements for a in attributes if a.startswith("on")]
    policy = next(a["content"] for _, a in seen.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_an_address_outside_would_be_found(tmp_path):
    path = tmp_path / "x.html"
    path.write_text('<img src="http://x/y.png"><p style="background: url(//z)"><style>@import "q.css"</style>')
    assert len(Page(path).addresses()) == 3


def test_names_from_strangers_are_text(seen):
    assert NASTY in seen.text and f"{NASTY}$x_1$" in seen.text
    assert f"ValueError: {NASTY}" in seen.text
    assert "<script" not in seen.source
    assert "alert" not in "".join(a.get("style", "") for _, a in seen.elements)


def test_ids_are_unique_and_every_reference_finds_its_own(seen):
    assert len(seen.ids) == len(set(seen.ids)) > 100
    inside = {a[1:] for a in seen.addresses() if a.startswith("#")}
    assert inside and inside <= set(seen.ids)


def test_the_page_is_valid_html(seen):
    parser = html5lib.HTMLParser(strict=False)
    parser.parse(seen.source)
    assert parser.errors == []


def test_every_figure_has_alt_text_a_sentence_on_what_is_good_and_a_table(seen, folder):
    drawn = [a for tag, a in seen.elements if tag == "svg"]
    assert len(drawn) == FIGURES == seen.text.count("Good:") == seen.text.count("Numbers")
    assert all(len(a["aria-label"]) > 40 for a in drawn)
    assert all(a.get("alt") for tag, a in seen.elements if tag == "img")
    assert len([1 for tag, _ in seen.elements if tag == "details"]) == FIGURES
    for path in (folder / "figures").glob("*.png"):
        assert Image.open(path).size[0] >= 700 and Image.open(path).getextrema()[0][0] < 200, f"{path} is blank"


def test_the_headline_has_score_interval_ceiling_and_share(seen, made):
    s = made.result
    for number in (s["score"], *s["interval"], s["ceiling"]):
        assert f"{number:.4f}" in seen.text
    assert f"{s['quality_over_ceiling']:.0%}".replace("%", " %") in seen.text
    assert "What holds it back" in seen.text and "Shifted: still too sure" in seen.text


def test_failures_further_attacks_and_provenance_are_said(seen, made):
    assert "Run 25: hangs" in seen.text and "likelihood ratio 0.62 0.50" in seen.text
    for text in (made.command, "commit 0", "none, simulated", "2026-01-01T00:00:00+00:00"):
        assert text in seen.text
    assert "put in where these are on your machine: mine.py" in seen.text
    assert "The figure shows 16 of them, the table all." in seen.text


def test_without_further_attacks_and_images_the_page_has_no_empty_places(made, facts, sections, tmp_path):
    facts = replace(facts, source=replace(made, measures=(), failures={}, others=()))
    assert standing_block(facts) is None, "one mark alone is no figure"
    others = [section for section in sections if section.title != "Where it stands"]
    (tmp_path / "x.html").write_text(page(facts, others, images=False))
    bare = Page(tmp_path / "x.html")
    assert "Further attacks" not in bare.text and "Runs that failed" not in bare.text
    assert not [1 for tag, _ in bare.elements if tag == "img"]
    assert "Nothing else was graded here" in bare.text and "Where it stands" not in bare.text
    assert len([1 for tag, _ in bare.elements if tag == "svg"]) == FIGURES - 1


def test_all_examples_are_in_the_csv(folder, made):
    rows = np.genfromtxt(folder / "figures" / "examples.csv", delimiter=",", names=True)
    assert rows["image_id"].astype(int).tolist() == made.task.forget.image_id.tolist()
    assert rows["epsilon"] == pytest.approx(made.result["epsilons"], rel=1e-5)


def test_the_scale_has_an_interval_for_what_was_found_and_one_for_what_is_projected(facts):
    made = facts.source
    ceiling = made.result["ceiling"]
    projected = {"value": 0.5 * ceiling, "low": 0.4 * ceiling, "high": 0.8 * ceiling, "score": 0.5 * ceiling}
    plain, facts = facts, replace(facts, result=facts.result.changed(projected=projected))
    later, now = gauge(facts)
    assert "512" in later["title"] and "24 graded" in now["title"]
    for row, shares in ((later, facts.projected_shares), (now, facts.shares)):
        assert [row[k] for k in ("mark", "low", "high")] == pytest.approx([100 * s for s in shares], abs=0.01)
        assert all(percent(s) in row["said"] for s in shares) and row["ceiling"] == 100
    assert len(gauge(plain)) == 1


def test_a_scale_that_is_exceeded_ends_with_the_longest_and_its_ceiling_lies_within(facts):
    facts = replace(facts, result=facts.result.changed(interval=[0.0, 4 * facts.result["ceiling"]]))
    (row,) = gauge(facts)
    assert row["high"] == 100 and row["ceiling"] == pytest.approx(25 * facts.utility, abs=0.01)


def test_words_that_a_newcomer_does_not_know_are_explained_where_they_first_stand(seen):
    text = seen.text
    for word, explained in (
        ("N = 24", "24 unlearned models against 24 retrained"),
        ("ceiling is", "The ceiling is what retrained models get"),
        ("epsilon", "Epsilon: 0 where no attack"),
        ("spreads", "a spread is the standard deviation"),
    ):
        assert text.lower().index(explained.lower()) <= text.lower().index(word.lower()) + NEAR, word
    assert "oracles" not in text[: text.lower().index("oracles” are the retrained models")].lower()


def test_what_a_task_says_of_its_data_stands_below_its_images_and_is_escaped(seen):
    assert f"Labels are {NASTY}." in seen.text and "<script" not in seen.source


def test_the_table_of_where_it_stands_has_all_methods_and_marks_this_one(facts):
    found = of_standing(facts)
    assert found.head == ("method", "score", f"{facts.level} interval", "at N = 512", "retain %", "test %", "s / run")
    scores = [float(row[1]) for row in found.rows]
    assert len(found.rows) == 31 and scores == sorted(scores, reverse=True)
    (own,) = [row for row in found.rows if row[0] == f"{NASTY} (this page)"]
    s = facts.result
    interval = "{:.4f} to {:.4f}".format(*s["interval"])
    shares = (f"{100 * s['retain_accuracy']:.1f}", f"{100 * s['test_accuracy']:.1f}")
    assert own[1:] == (f"{s['score']:.4f}", interval, "-", *shares, f"{s['seconds_per_run']:.2f}")
