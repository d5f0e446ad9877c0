"""A table has one text and one value for each of its columns, in every form that it takes."""

import csv

import pytest

from local_eval.report.columns import (
    AT_512,
    AT_512_WITH_ENDS,
    AT_CAP,
    INTERVAL,
    METHOD,
    OFFICIAL_PRIVATE,
    RETAIN,
    RETAIN_PERCENT,
    SCORE,
    SCORE_IF_VALID,
    SECONDS,
    Row,
    aligned,
    as_csv,
    as_fields,
    as_markdown,
    as_number,
    as_text,
)
from local_eval.report.result import Result

FIELDS = {
    "score": 0.0612345, "interval": [0.05, 0.0755], "retain_accuracy": 0.91234, "share_at_epsilon_cap": 0.125,
    "seconds_per_run": 1.5, "within_budget": None, "retain_accuracy_ratio": 0.5, "test_accuracy_ratio": 1.0,
    "projected": {"value": 0.04, "low": 0.02, "high": 0.06, "models": 512, "score": 0.02},
}  # fmt: skip
KNOWN = Row("one", Result(FIELDS), official_private="0.0980")
UNKNOWN = Row("another", Result(FIELDS | {"seconds_per_run": None, "projected": None, "score": None}))
TABLE = METHOD, SCORE, AT_512, SECONDS


def test_texts_have_the_digits_of_their_column_and_a_mark_where_nothing_is_known():
    columns = SCORE, INTERVAL, AT_512, AT_512_WITH_ENDS, RETAIN, RETAIN_PERCENT, AT_CAP, SECONDS, OFFICIAL_PRIVATE
    assert [column.text(KNOWN) for column in columns] == [
        "0.0612", "0.0500 to 0.0755", "0.0200", "0.0200 (0.0100 to 0.0300)", "0.912", "91.2", "12%", "1.50", "0.0980",
    ]  # fmt: skip
    assert [c.text(UNKNOWN) for c in (SCORE, AT_512, AT_512_WITH_ENDS, SECONDS, OFFICIAL_PRIVATE)] == [
        "nan", "-", "-", "-", "-",
    ]  # fmt: skip
    late = Row("late", Result(FIELDS | {"within_budget": False}))
    assert SCORE_IF_VALID.text(late) == "0.0612 (not valid: over the limit)" and SCORE_IF_VALID.text(KNOWN) == "0.0612"


def test_a_page_sorts_by_the_first_number_and_what_is_unknown_comes_last():
    assert [c.order(KNOWN) for c in (SCORE, INTERVAL, OFFICIAL_PRIVATE, METHOD)] == [0.0612345, 0.05, "0.0980", "one"]
    assert [c.order(UNKNOWN) for c in (AT_512, SECONDS, OFFICIAL_PRIVATE)] == [-1, -1, -1]


def test_all_forms_have_the_same_rows():
    rows = [KNOWN, UNKNOWN]
    assert as_text(TABLE, rows) == [
        "method    score  at N = 512  s / run",
        "one      0.0612      0.0200     1.50",
        "another     nan           -        -",
    ]
    assert as_markdown(TABLE, rows) == [
        "| method | score | at N = 512 | s / run |",
        "|---|---|---|---|",
        "| one | 0.0612 | 0.0200 | 1.50 |",
        "| another | nan | - | - |",
    ]
    known, unknown = csv.DictReader(as_csv(TABLE, rows).splitlines())
    assert known == {"method": "one", "score": "0.0612345", "at_512": "0.02", "seconds_per_run": "1.5"}
    assert unknown == {"method": "another", "score": "", "at_512": "", "seconds_per_run": ""}
    assert as_fields(TABLE, UNKNOWN) == {"method": "another", "score": None, "at_512": None, "seconds_per_run": None}


def test_a_short_line_reaches_over_the_other_columns_and_makes_none_wider():
    lines = aligned(
        (METHOD, SCORE, SECONDS), [["", "score", "s"], ["longer name", "failed: " + 40 * "x"], ["a", "1", "2"]]
    )
    assert lines == ["             score  s", "longer name  failed: " + 40 * "x", "a                1  2"]


def test_what_the_competition_gave_is_a_number_for_programs():
    assert as_number(OFFICIAL_PRIVATE).read(KNOWN) == pytest.approx(0.098)
    assert as_number(OFFICIAL_PRIVATE).read(UNKNOWN) is None


def test_a_table_fits_its_width_by_leaving_out_spare_columns_which_it_names_and_then_by_cutting_names():
    long = Row("/home/somebody/with/a/long/path/my_method.py", KNOWN.result)
    columns, rows, spare = (METHOD, SCORE, INTERVAL, AT_512, RETAIN, SECONDS), [KNOWN, long], (SECONDS, AT_512, RETAIN)
    whole = as_text(columns, rows)
    assert as_text(columns, rows, 200, spare) == whole == as_text(columns, rows, None, spare)
    before = None
    for width in range(len(whole[0]), 35, -1):
        head, *body = as_text(columns, rows, width, spare)
        assert max(map(len, [head, *body])) <= max(width, 39), "a name, a score and its interval take so much"
        left_out = " ".join(body[2:]).removeprefix("not shown, for want of width: ")
        shown = [c.title for c in columns if c.title in head]
        assert [c.title for c in columns if c.title not in shown] == (left_out.split(", ") if left_out else [])
        assert shown[:3] == ["method", "score", "90 % interval"] and (before is None or len(shown) <= before)
        assert body[1].startswith("/") and "hod.py" in body[1].partition("  ")[0]
        before = len(shown)
