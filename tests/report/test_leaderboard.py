"""Ranks are by score, tiers by a paired test against one anchor, and a page carries whatever a method is called."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from local_eval.metric.score import compute_score
from local_eval.metric.uncertainty.paired import Comparison
from local_eval.metric.uncertainty.projection import Projection
from local_eval.report import leaderboard
from local_eval.report.leaderboard import Entry, LeftOut, as_csv, as_json, as_text, ends_at_512, make_leaderboard
from local_eval.report.page.figures import plain
from local_eval.report.page.leaderboard import page
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
    "official_rank,official_private,p_beside_best_of_tier,quality_of_ceiling"
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


def test_what_a_submission_of_the_kit_got_in_the_competition_stands_beside_it_and_a_namesake_gets_nothing(board):
    for official, expected in ((True, (1.0, 0.0985)), (False, (None, None))):
        one = Entry("fanchuan", board.rows[0].result, np.zeros((1, 1)), official)
        found = make_leaderboard([one], [], np.zeros((1, 1)), np.zeros(1), FACTS)
        (row,) = json.loads(as_json(found))["rows"]
        assert (row["official_rank"], row["official_private"]) == expected


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


def test_a_page_is_the_same_each_time(board, drawn):
    assert page(board) == drawn


def test_cells_of_the_page_are_sorted_by_the_value_that_they_show(board, drawn):
    row = board.rows[[row.name for row in board.rows].index("good")]
    (cells,) = [part for part in drawn.split("<tr")[2:] if 'data-v="good"' in part]
    found = re.findall(r'<t[dh][^>]* ?data-v="([^"]*)"(?: title="([^"]*)")?>(.*?)</t[dh]>', cells)
    assert [value for value, _, _ in found[:5]] == [
        str(row.rank), "1", "good", str(row.result["score"]), str(row.result["interval"][0])
    ]  # fmt: skip
    low, high = ends_at_512(row)
    assert found[6][1] == f"90 % interval {low:.4f} to {high:.4f}"
    assert found[6][2] == f"{row.result['projected']['score']:.4f}"
    assert (low, high) == pytest.approx([row.result.utility * 0.04, row.result.utility * 0.06])
    assert found[-1] == ("-1", "", "-")
    assert len(found) == drawn.count('<th scope="col"') == 11


def test_without_any_cost_there_is_no_figure_and_without_a_projection_a_dash(board):
    rows = [replace(row, result=row.result.changed(seconds_per_run=None, projected=None)) for row in board.rows]
    text = page(leaderboard.Leaderboard(rows, [], FACTS))
    assert "<svg" not in text and text.count('<td data-v="-1">-</td>') == 3 * len(rows)


def test_names_in_the_figure_are_short_and_printable():
    assert plain("a\u202eb") == "a?b"
    assert len(plain("x" * 60, 24)) == 24 and plain("x" * 60).endswith("x\N{HORIZONTAL ELLIPSIS}")
