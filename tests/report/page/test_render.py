"""The page is one file that needs nothing else, says the same twice, and does not believe any name."""

from dataclasses import replace

import html5lib
import numpy as np
import pytest
from PIL import Image

from local_eval.report.page.facts import gather
from local_eval.report.page.render import gauge, write_page
from local_eval.report.page.words import percent
from tests.report.page.looking import Page
from tests.report.page.simulated import measure_rows, results

NASTY = "<script>alert(1)</script>"
FIGURES = 11
NEAR = 80  # letters: within one sentence


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Results of a method and a task with hostile names, runs that failed, and others beside it."""
    found = results(tmp_path_factory.mktemp("score"), name=NASTY, task_name=f"{NASTY}$x_1$", shift=0.6)
    others = tuple(found.score | {"submission": f"{NASTY}{k} $\\bad", "score": 0.01 * k} for k in range(30))
    failures = {24: f"ValueError: {NASTY}", 25: "hangs"}
    return replace(found, others=others, failures=failures, measures=measure_rows())


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    write_page(made, folder)
    return folder


@pytest.fixture(scope="module")
def seen(folder):
    return Page(folder / "report.html")


def test_the_same_results_give_the_same_bytes(made, folder, tmp_path):
    write_page(made, tmp_path)
    names = sorted(p.relative_to(folder) for p in folder.rglob("*.*"))
    assert len(names) == FIGURES + 2
    for name in names:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


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
    s = made.score
    for number in (s["score"], *s["interval"], s["ceiling"]):
        assert f"{number:.4f}" in seen.text
    assert f"{s['quality_over_ceiling']:.0%}".replace("%", " %") in seen.text
    assert "What holds it back" in seen.text and "Shifted: still too sure" in seen.text


def test_failures_further_attacks_and_provenance_are_told(seen, made):
    assert "Run 25: hangs" in seen.text and "likelihood ratio 0.62 0.50" in seen.text
    for text in (made.command, "commit 0", "none, simulated", "2026-01-01T00:00:00+00:00"):
        assert text in seen.text
    assert "The figure shows 16 of them, the table all." in seen.text


def test_without_further_attacks_and_images_the_page_has_no_empty_places(made, tmp_path):
    page = Page(write_page(replace(made, measures=(), failures={}, others=()), tmp_path, images=False))
    assert "Further attacks" not in page.text and "Runs that failed" not in page.text
    assert not [1 for tag, _ in page.elements if tag == "img"]
    assert "Nothing else was graded here" in page.text and "Where it stands" not in page.text
    assert len([1 for tag, _ in page.elements if tag == "svg"]) == FIGURES - 1, "one mark alone is no figure"


def test_all_examples_are_in_the_csv(folder, made):
    rows = np.genfromtxt(folder / "figures" / "examples.csv", delimiter=",", names=True)
    assert rows["image_id"].astype(int).tolist() == made.task.forget.image_id.tolist()
    assert rows["epsilon"] == pytest.approx(made.score["epsilons"], rel=1e-5)


def test_the_scale_has_an_interval_for_what_was_found_and_one_for_what_is_projected(made, tmp_path):
    ceiling = made.score["ceiling"]
    projected = {"value": 0.5 * ceiling, "low": 0.4 * ceiling, "high": 0.8 * ceiling, "score": 0.5 * ceiling}
    facts = gather(replace(made, score=made.score | {"projected": projected}))
    later, now = gauge(facts)
    assert "512" in later["title"] and "24 graded" in now["title"]
    for row, shares in ((later, facts.projected_shares), (now, facts.shares)):
        assert [row[k] for k in ("mark", "low", "high")] == pytest.approx([100 * s for s in shares], abs=0.01)
        assert all(percent(s) in row["said"] for s in shares) and row["ceiling"] == 100
    assert len(gauge(gather(made))) == 1


def test_a_scale_that_is_exceeded_ends_with_the_longest_and_its_ceiling_lies_within(made):
    facts = gather(replace(made, score=made.score | {"interval": [0.0, 4 * made.score["ceiling"]]}))
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


def test_what_a_task_says_of_its_data_stands_below_its_images_and_is_escaped(made, tmp_path):
    task = replace(made.task, notes=(f"labels are {NASTY}",))
    page = Page(write_page(replace(made, task=task), tmp_path))
    assert f"Labels are {NASTY}." in page.text and "<script" not in page.source
