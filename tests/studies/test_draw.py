"""The parts: a family is never divided, what was looked at is never drawn, and the committed parts are those drawn."""

from collections import Counter
from dataclasses import replace

from local_eval.cli.parser import BOARD_ROWS
from studies.board import TEST, TUNE, draw, read_rows
from tests.studies.test_rows import GOOD_ROW

MADE_UP = [replace(GOOD_ROW, family=f"family {k}", part="") for k in range(12) for _ in range(1 + k % 3)]


def parts(rows):
    return {row.family: row.part for row in rows}


def test_the_committed_parts_are_those_that_the_command_draws():
    rows = read_rows(BOARD_ROWS)
    assert draw([replace(row, part="") for row in rows]) == rows


def test_families_that_were_used_for_tuning_are_in_tune_and_the_other_winners_in_test():
    found = parts(read_rows(BOARD_ROWS))
    assert {family for family, part in found.items() if part == "tune"} == set(TUNE)
    assert {family for family, part in found.items() if part == "test"} == set(TEST)


def test_other_families_are_drawn_whole_by_a_seed_into_halves():
    drawn = [parts(draw(MADE_UP, seed)) for seed in range(5)]
    assert parts(draw(MADE_UP, 0)) == drawn[0]
    assert any(other != drawn[0] for other in drawn)
    for seed in range(5):
        rows = draw(MADE_UP, seed)
        assert len({(row.family, row.part) for row in rows}) == 12, "no family is divided"
        sizes = Counter(row.part for row in rows)
        assert abs(sizes["tune"] - sizes["test"]) <= 3


def test_a_part_that_was_drawn_stays_when_rows_are_added():
    before = draw(MADE_UP)
    added = replace(GOOD_ROW, family="new", part="")
    again = draw([*before, added])
    assert again[:-1] == before
    assert again[-1].part in ("tune", "test")
