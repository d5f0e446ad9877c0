"""Ranks are by score, tiers by a paired test against one anchor, and a page carries whatever a method is called."""

import csv
import html
import json
import re
from dataclasses import replace
from urllib.parse import unquote

import numpy as np
import pytest
from matplotlib.text import Text

from local_eval.metric.score import compute_score
from local_eval.metric.uncertainty.paired import Comparison
from local_eval.metric.uncertainty.projection import Projection
from local_eval.report import leaderboard
from local_eval.report.leaderboard import Entry, LeftOut, as_csv, as_json, as_text, ends_at_512, make_leaderboard
from local_eval.report.page.figures import plain
from local_eval.report.page.leaderboard import DRAWN, page, picture, ranked, reach
from local_eval.report.result import Result
from local_eval.store.records import Record
from tests.metric.test_score import LABELS, PERSONS, records

MODELS = 16  # below 24 nothing is projected, which takes a second
FEW = 24  # examples
FACTS = {"task": "digits", "fingerprint": "abc", "runs": MODELS, "seed": 0, "ceiling": 0.18, "device": "cpu x"}
FACTS |= {"ceiling_interval": [0.16, 0.2], "hardware": "2 cores", "torch": "2", "commit": "c", "command": "python"}
EVIL = "<script>alert(1)</script>"
FIELDS = (
    "rank,tier,method,score,low,high,of_ceiling,at_512,at_512_low,at_512_high,ra_ratio,ta_ratio,seconds_per_run,"
    "official_rank,official_private,p_beside_best_of_tier,quality_of_ceiling,official_from_chart"
)
SHIFTS = {EVIL: 0.0, "good": 0.3, "middle $x$": 1.2, "bad": 3.0}


def some(seed: int, shift: float = 0.0) -> list[Record]:
    """Models that are looked at on the first examples alone: tests of pairs take time for each example."""
    whole = records(MODELS, seed, shift=shift)
    return [replace(r, evaluation=replace(r.evaluation, forget_logits=r.evaluation.forget_logits[:FEW])) for r in whole]


def confidences(models: list[Record]) -> np.ndarray:
    return np.stack([one.evaluation.forget_logits[:, 0] for one in models]).astype(float)


def entry(name: str, shift: float, seed: int) -> Entry:
    runs = some(seed, shift)
    score = compute_score(dict(enumerate(runs)), some(2), LABELS[:FEW], PERSONS[:FEW])
    if name == "good":
        score = replace(score, projected=Projection(0.05, 0.04, 0.06, 512))
    return Entry(name, Result.of(score, name, "digits", {}), confidences(runs))


@pytest.fixture(scope="module")
def board():
    entries = [entry(name, shift, 10 + k) for k, (name, shift) in enumerate(SHIFTS.items())]
    left_out = [LeftOut("other", "3 of 16 runs are on disk")]
    return make_leaderboard(entries[::-1], left_out, confidences(some(2)), PERSONS[:FEW], FACTS)


@pytest.fixture(scope="module")
def drawn(board):
    return page(board)


def test_ranks_are_by_score_and_tiers_by_what_can_be_told(board):
    scores = [row.result["score"] for row in board.rows]
    assert scores == sorted(scores, reverse=True)
    assert [row.rank for row in board.rows] == [1, 2, 3, 4]
    tiers = {row.name: row.tier for row in board.rows}
    assert tiers[EVIL] == tiers["good"] == 1 < tiers["middle $x$"] < tiers["bad"]
    assert [row.beside is None for row in board.rows] == [True, False, True, True], "anchors have no test"


def test_small_differences_do_not_chain(monkeypatch):
    """Each is 1 below the one before and cannot be told from it; from the anchor, what is 2 below can."""

    def beside(one, anchor, *_):
        differs = anchor.result["score"] - one.result["score"] > 1.5
        return Comparison(
            "worse" if differs else "cannot tell", 0.01 if differs else 0.5, 0.9, -1, 0.1, (0, 1), 16, None
        )

    monkeypatch.setattr(leaderboard, "_beside", beside)
    entries = [Entry(str(k), Result({"score": float(k)}), np.zeros((1, 1))) for k in range(6)]
    found = make_leaderboard(entries, [], np.zeros((1, 1)), np.zeros(1), FACTS)
    assert [(row.name, row.tier) for row in found.rows] == [("5", 1), ("4", 1), ("3", 2), ("2", 2), ("1", 3), ("0", 3)]


def test_the_text_says_what_to_make_of_it(board):
    text = as_text(board)
    assert re.search(r"^ +1 +1 +<script>", text, re.MULTILINE)
    assert re.search(r"At N = 16 a method must score below 0\.\d{4} to be told from the best, 0\.\d{4}", text)
    assert "left out: other: 3 of 16 runs are on disk" in text
    low, high = board.needed
    assert low < board.rows[0].result["score"] < high


def test_csv_and_json_hold_every_row_and_json_what_was_left_out(board):
    rows = list(csv.DictReader(as_csv(board).splitlines()))
    content = json.loads(as_json(board))
    assert [row["method"] for row in rows] == [row["method"] for row in content["rows"]] == [r.name for r in board.rows]
    assert ",".join(rows[0]) == FIELDS and list(content["rows"][0]) == list(rows[0])
    assert rows[0]["at_512"] == "" and content["rows"][0]["at_512"] is None
    assert content["left_out"] == [{"name": "other", "reason": "3 of 16 runs are on disk"}]
    assert content["runs"] == 16 and content["told_from_best"] == list(board.needed)


def of_one(board, name: str, official: bool = True, **more) -> leaderboard.Leaderboard:
    one = Entry(name, board.rows[0].result, np.zeros((1, 1)), official, **more)
    return make_leaderboard([one], [], np.zeros((1, 1)), np.zeros(1), FACTS)


def test_what_a_submission_of_the_kit_got_in_the_competition_stands_beside_it_and_a_namesake_gets_nothing(board):
    cases = (
        ("fanchuan", True, (1.0, 0.0985, False), "0.0985"),
        ("fanchuan", False, (None, None, False), "-"),
        ("forget", True, (8.0, 0.0775, True), "~0.0775"),
        ("jiaxi_sun", True, (7.0, 0.078, True), "~0.078"),
    )
    for name, official, expected, shown in cases:
        found = of_one(board, name, official)
        (row,) = json.loads(as_json(found))["rows"]
        assert (row["official_rank"], row["official_private"], row["official_from_chart"]) == expected, name
        last = re.findall(r'<td data-v="([^"]*)">(.*?)</td>', page(found))[-1]
        assert last == (str(expected[1] or -1), shown), name
        for text in (as_text(found), page(found)):
            assert ("read from a chart: no number was published" in text) == expected[2], name


def test_the_heading_names_another_original_and_only_that(board):
    assert "--original" not in leaderboard.heading(board)
    other = replace(board, facts=FACTS | {"original": "mine.pth"})
    assert ", runs from --original mine.pth: 4 methods, " in leaderboard.heading(other)


def test_a_board_of_one_says_nothing_of_differences(board):
    alone = leaderboard.Leaderboard(board.rows[:1], [], FACTS)
    assert alone.needed is None
    assert "to be told from" not in as_text(alone)


def test_the_page_escapes_names_needs_no_network_and_is_readable_without_scripts(drawn):
    text = drawn
    assert EVIL not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert text.count("<script") == text.count("</script>") == 1
    addresses = re.findall(r'(?:href|src)="(?!#)([^"]*)"|url\((?!#)([^)]*)\)|@import', text)
    assert addresses == []
    assert text.index("<tbody>") < text.index("&lt;script&gt;alert") < text.index("</tbody>"), "rows are in the HTML"
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text
    assert "<svg viewBox" in text and 'role="img"' in text and "var(--ink)" in text
    assert "middle $x$" in text and len(text) < 300_000


def test_every_id_of_the_page_is_there_once(drawn):
    ids = re.findall(r'\bid="([^"]+)"', drawn)
    assert len(ids) == len(set(ids))


def test_a_page_and_a_picture_are_the_same_each_time(board, drawn):
    assert page(board) == drawn
    assert picture(board) == picture(board)


def test_cells_of_the_page_are_sorted_by_the_value_that_they_show(board, drawn):
    row = board.rows[[row.name for row in board.rows].index("good")]
    (cells,) = [part for part in drawn.split("<tr")[2:] if 'data-v="good"' in part]
    found = re.findall(r'<t[dh][^>]* ?data-v="([^"]*)">(.*?)</t[dh]>', cells)
    assert [value for value, _ in found[:5]] == [
        str(row.rank), "1", "good", str(row.result["score"]), str(row.result["interval"][0])
    ]  # fmt: skip
    low, high = ends_at_512(row)
    assert found[6][1] == f"{row.result['projected']['score']:.4f}<small>{low:.4f} to {high:.4f}</small>"
    assert (low, high) == pytest.approx([row.result.utility * 0.04, row.result.utility * 0.06])
    assert found[-1] == ("-1", "-")
    assert len(found) == drawn.count('<th scope="col"') == 11


def test_without_cost_and_projection_there_are_dashes_and_the_picture_has_no_mark_for_what_is_not_there(board, drawn):
    rows = [replace(row, result=row.result.changed(seconds_per_run=None, projected=None)) for row in board.rows]
    text = page(leaderboard.Leaderboard(rows, [], FACTS))
    assert "projected to N = 512" in drawn and "projected to N = 512" not in text
    assert "<svg" in text and text.count('<td data-v="-1">-</td>') == 3 * len(rows)


def test_all_that_helps_to_read_a_column_is_in_the_text_and_nothing_shows_on_hovering_alone(drawn):
    assert ' title="' not in drawn
    for column in leaderboard.SHOWN:
        assert column.hint and html.escape(column.hint, quote=False) in drawn.replace("&#39;", "'"), column.key
    assert drawn.index("</table>") < drawn.index("What the columns mean") < drawn.index("<svg")


def test_names_link_to_reports_that_lie_in_the_pages_folder_or_below_and_to_no_others(board, tmp_path):
    odd = tmp_path / "out" / "digits-1" / 'a "b" #1?&<i>'
    odd.mkdir(parents=True)
    (odd / "report.html").write_text("")
    found = of_one(board, "mine", official=False, report=odd / "report.html")
    below = "digits-1/a%20%22b%22%20%231%3F%26%3Ci%3E/report.html"
    for beside, expected in (("", "out/" + below), ("out", below), ("out/digits-1", below[9:]), ("other", None)):
        links = re.findall(r'<a href="([^"]*)">mine</a>', page(found, tmp_path / beside))
        assert links == ([expected] if expected else []), beside
        assert all((tmp_path / beside / unquote(link)).is_file() for link in links)
    assert "<a " not in page(found) and str(tmp_path) not in page(found, tmp_path / "other")


def many(board, count: int, **fields) -> leaderboard.Leaderboard:
    """Methods of long names that differ at their ends only."""
    row = replace(board.rows[0], tier=2, result=board.rows[0].result.changed(**fields))
    rows = [replace(row, rank=k, name=f"{'a_long_name' * 4}[EPOCHS={k}]") for k in range(2, count + 1)]
    return leaderboard.Leaderboard([board.rows[0], *rows], [], FACTS)


@pytest.mark.parametrize("count", [1, 2, 17, 80])
def test_in_the_picture_no_two_texts_overlap_and_none_is_cut_off(board, count):
    figure = ranked(many(board, count), heading=True)
    (axes,), canvas, renderer = figure.axes, figure.bbox, figure.canvas.get_renderer()
    low, high = axes.get_xlim()
    beyond = [t.label1 for t in axes.xaxis.get_major_ticks() if not low <= t.get_loc() <= high]  # never drawn
    texts = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible() and t not in beyond]
    boxes = [t.get_window_extent(renderer) for t in texts]
    for k, box in enumerate(boxes):
        assert canvas.x0 <= box.x0 and box.x1 <= canvas.x1 + 1 and canvas.y0 <= box.y0 and box.y1 <= canvas.y1 + 1
        for other, another in zip(texts[:k], boxes[:k]):
            assert not box.overlaps(another), (texts[k].get_text(), other.get_text())
    names = [t.get_text() for t in axes.get_yticklabels()]
    assert len(set(names)) == len(names) == min(count, DRAWN)
    assert all(f"EPOCHS={k}]" in name for k, name in enumerate(names[1:], start=2))


def test_the_axis_ends_where_the_data_do():
    def reach_of(*intervals):
        results = [Result({"score": sum(i) / 2, "interval": i, "projected": None, "forgetting_quality": 0.1})
                   for i in intervals]  # fmt: skip
        return reach([leaderboard.Row("x", result) for result in results])

    for intervals, (low, high) in (
        ([(0.001, 0.002), (0.05, 0.06)], (0.0, 0.06)),  # from 0 on, as that costs little
        ([(0.05, 0.06), (0.055, 0.07)], (0.05, 0.07)),
        ([(0.0, 0.0)], (0.0, 0.0)),  # all are 0
    ):
        found = reach_of(*intervals)
        assert found[0] < low and high < found[1]
        assert found[1] - found[0] <= max(1.07 * (high - low), 2.01e-4)


def test_names_in_figures_are_short_and_printable():
    assert plain("a\u202eb") == "a?b"
    assert len(plain("x" * 60, 24)) == 24 and plain("x" * 60).endswith("x\N{HORIZONTAL ELLIPSIS}")
