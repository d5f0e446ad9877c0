"""The board's rows: the kit's own are whole and can be run, and what cannot be meant is told with its line."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from local_eval.cli.parser import BOARD_ROWS
from local_eval.methods.submission import Submission
from studies.board import COLUMNS, BoardError, Row, read_rows, same_run, save_rows
from tests.submissions.test_submissions import run

GOOD_ROW = Row("fanchuan[EPOCHS=9]", None, 0.08921, "private", "somebody", "B", "fanchuan", "tune", "")
OFFICIAL = {  # by final rank, as far as they are published as numbers
    1: 0.0984971060, 2: 0.0902000292, 3: 0.0884946037, 4: 0.0863052371, 5: 0.0785184178, 6: 0.07831,
}  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    return read_rows(BOARD_ROWS)


def test_there_are_enough_rows_and_every_variant_is_one_that_the_kit_can_run(rows):
    assert len({same_run(row.variant) for row in rows}) >= 40
    for row in rows:
        assert compile(Submission.find(row.variant).source(), row.variant, "exec")


def test_a_family_is_a_submission_with_all_its_variants(rows):
    assert all(row.family == Submission.find(row.variant).path.stem for row in rows)


def test_ranks_are_on_the_private_scores_that_were_ranked(rows):
    ranked = {row.rank: row for row in rows if row.rank}
    assert sorted(ranked) == list(range(1, 9)) == sorted(row.rank for row in rows if row.rank)
    assert {row.split for row in ranked.values()} == {"private"}
    assert {rank: ranked[rank].published for rank in OFFICIAL} == OFFICIAL
    scores = [ranked[rank].published for rank in range(1, 9)]
    assert scores == sorted(scores, reverse=True)


def test_what_is_inferred_or_open_says_what(rows):
    assert all(row.note for row in rows if row.confidence in "C?")


def test_rows_are_read_as_they_were_written(tmp_path, rows):
    save_rows(rows, tmp_path / "rows.csv")
    assert read_rows(tmp_path / "rows.csv") == rows
    assert Counter(row.part for row in rows).keys() == {"tune", "test"}


def refused(tmp_path, *rows):
    """What is said of a file with these rows."""
    save_rows(rows, tmp_path / "rows.csv")
    with pytest.raises(BoardError) as reported:
        read_rows(tmp_path / "rows.csv")
    return str(reported.value)


@pytest.mark.parametrize(
    "change, reported",
    [
        ({"rank": 9}, "line 2: rank is '9'"),
        ({"published": 7.0}, "line 2: published is '7.0'"),
        ({"published": float("nan")}, "line 2: published is 'nan'"),
        ({"published": "high"}, "line 2: published is 'high'"),
        ({"split": "secret"}, "line 2: split is 'secret'; it must be one of public, private, unknown"),
        ({"confidence": "D"}, "line 2: confidence is 'D'"),
        ({"part": ""}, "line 2: part is ''; it must be one of tune, test"),
        ({"source": " "}, "line 2: source is empty"),
        ({"family": ""}, "line 2: family is empty"),
        ({"variant": "nobody"}, "no submission 'nobody'"),
        ({"variant": "fanchuan[EPOCHZ=9]"}, "no constant EPOCHZ"),
        ({"variant": "fanchuan[EPOCHS='nine']"}, "an integer"),
    ],
)
def test_a_value_that_cannot_be_meant_is_told(change, reported, tmp_path):
    assert reported in refused(tmp_path, replace(GOOD_ROW, **change))


def test_a_row_twice_is_told_however_it_is_written(tmp_path):
    one, other = (
        replace(GOOD_ROW, variant=f"fanchuan[{s}]") for s in ("EPOCHS=9,FORGET_LR=0.1", "FORGET_LR=.1,EPOCHS=9")
    )
    assert "line 3: the same variant, split and source as" in refused(tmp_path, one, other)
    save_rows([one, replace(other, split="public")], tmp_path / "rows.csv")
    assert len(read_rows(tmp_path / "rows.csv")) == 2


def test_a_family_in_both_parts_is_told(tmp_path):
    assert "family fanchuan is in both parts" in refused(
        tmp_path, GOOD_ROW, replace(GOOD_ROW, split="public", part="test")
    )


@pytest.mark.parametrize(
    "text, reported",
    [
        ("variant,rank\nfanchuan,1\n", "the first line must be variant,rank,published"),
        ("", "it has nothing"),
        (",".join(COLUMNS) + "\n", "has no rows"),
        (",".join(COLUMNS) + "\nfanchuan,1\n", "line 2: it must have 9 values"),
        (",".join(COLUMNS) + "\nfanchuan[EPOCHS=9,LR=1],,,,,,,,,\n", "line 2: it must have 9 values"),
    ],
)
def test_a_file_of_another_form_is_told(text, reported, tmp_path):
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(BoardError, match=reported):
        read_rows(tmp_path / "rows.csv")


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(BoardError, match="no.csv cannot be read"):
        read_rows(tmp_path / "no.csv")


def one_for_each_choice_of_constants():
    """One variant for every set of constants that some row changes, so that each is run once."""
    found = {}
    for row in read_rows(BOARD_ROWS):
        submission = Submission.find(row.variant)
        found[submission.path, tuple(sorted(name for name, _ in submission.settings))] = row.variant
    return sorted(found.values())


@pytest.mark.parametrize("variant", one_for_each_choice_of_constants())
def test_variants_run_to_their_end_and_leave_finite_weights(variant, tiny):
    torch.manual_seed(0)
    net = tiny.make_net()
    run(variant, tiny, net)
    assert all(value.isfinite().all() for value in net.state_dict().values())
    assert not net.training
