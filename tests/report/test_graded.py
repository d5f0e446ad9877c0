"""Everything that was graded under a folder, as rows; what is damaged has a row too."""

import functools
import json
import math

import pandas
import pytest

from local_eval.report.compare import graded
from local_eval.report.result import save_score
from local_eval.store.records import RecordError
from tests.metric.test_score import score as made_up_score


@functools.cache
def score():
    """Too few models to project from, which would take seconds."""
    return made_up_score(models=16)


ABOUT = {"seed": 3, "device": "cpu", "torch": "2.14.1", "when": "2026-01-01"}


@pytest.fixture
def out(tmp_path):
    save_score(score(), tmp_path / "tiny-ab" / "mine-0-seed3", "mine", "tiny", ABOUT)
    save_score(score(), tmp_path / "digits-cd" / "größe 1-seed3", "größe 1", "digits", ABOUT)
    return tmp_path


def test_rows_are_what_pandas_takes(out):
    frame = pandas.DataFrame(graded(out))
    assert list(frame.submission) == ["größe 1", "mine"]
    assert frame.score.dtype == float
    assert (frame.interval_low < frame.score).all() and (frame.score < frame.interval_high).all()
    assert set(frame.seed) == {3}
    assert frame.error.isna().all()
    assert list(pandas.DataFrame(graded(out, task="tiny")).submission) == ["mine"]
    assert graded(out, task="nothing") == []


def test_a_damaged_file_has_a_row_that_says_so_and_the_others_theirs(out):
    damaged = out / "tiny-ab" / "bad-0-seed0" / "score.json"
    damaged.parent.mkdir()
    for content, said in (
        (b"{", "no score that can be trusted"),
        (b"[1, 2]", "it holds no fields"),
        (b"\xff\xfe\x00", "no score that can be trusted"),
        (b'{"score": 0.5}', "is no score of this kit"),
        (b'{"score": "high", "interval": [0, 1]}', "its numbers are none"),
        (b'{"score": 1, "interval": 7}', "is no score of this kit"),
        (b'{"score": null, "interval": [0, 1]}', "its numbers are none"),
    ):
        damaged.write_bytes(content)
        rows = graded(str(out))
        assert len(rows) == 3
        (bad,) = [row for row in rows if row["error"]]
        assert said in bad["error"] and str(damaged) in bad["error"]
        assert math.isnan(bad["score"]) and bad["missing_runs"] is bad["notes"] is None
        assert {tuple(row) for row in rows} == {tuple(bad)}, "all rows have the same keys"
        tiny = graded(out, task="tiny")
        assert [row["error"] for row in tiny].count(bad["error"]) == 1 and len(tiny) == 2
        assert not [row for row in graded(out, task="digits") if row["error"]]


def test_an_old_file_says_what_it_can_and_what_was_made_elsewhere_names_its_file(out):
    old = {"score": 0.05, "interval": [0.04, 0.06], "forgetting_quality": 0.06, "ceiling": 0.12, "task": "old"}
    old |= {"unlearned": {"from": "mine.npz"}, "missing_runs": [3, 4], "notes": ["a", "b"], "submission": None}
    file = out / "old-ef" / "x" / "score.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(old))
    (row,) = graded(out, task="old")
    assert row["quality_over_ceiling"] == 0.5 and math.isnan(row["score_over_ceiling"])
    assert (row["interval_low"], row["interval_high"], row["missing_runs"], row["notes"]) == (0.04, 0.06, 2, "a; b")
    assert (row["unlearned"], row["retrained"], row["submission"], row["seed"]) == ("mine.npz", None, None, None)
    assert row["path"] == str(file) and row["error"] is None


def test_rows_are_by_task_and_the_best_is_first(tmp_path):
    for task, number in (("b", 0.1), ("a", 0.1), ("b", 0.3), ("b", None)):
        file = tmp_path / f"{task}{number}" / "score.json"
        file.parent.mkdir()
        fields = {"task": task, "score": number, "interval": [None, None], "forgetting_quality": 0.1, "ceiling": 0.2}
        file.write_text(json.dumps(fields))
    assert [(row["task"], row["score"]) for row in graded(tmp_path)][:3] == [("a", 0.1), ("b", 0.3), ("b", 0.1)]


def test_an_edited_score_is_reported(out):
    file = next(out.glob("tiny-ab/*/score.json"))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"score": 1.0}))
    assert ["checksum" in (row["error"] or "") for row in graded(out)].count(True) == 1


def test_no_folder_is_an_error_and_an_empty_one_is_not(tmp_path):
    assert graded(tmp_path) == []
    with pytest.raises(RecordError, match="no folder of results"):
        graded(tmp_path / "gone")
