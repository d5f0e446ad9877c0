"""What a grading leaves behind says where it comes from, and an edited or damaged score is not believed."""

import json

import numpy as np
import pytest

from local_eval.__main__ import main
from local_eval.report.table import read_score
from local_eval.store.records import RecordError
from local_eval.store.sealed import seal_fits
from tests.conftest import TINY, work_here


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a small grading has left its score."""
    from tests.conftest import GOOD

    out = tmp_path_factory.mktemp("score")
    (out / "mine.py").write_text("SCALE = 1.0\n" + GOOD.replace("0.01", "0.01 * SCALE"))
    name = f"{out / 'mine.py'}[SCALE=0.5]"
    with pytest.MonkeyPatch.context() as patch:
        work_here(patch)
        assert main(["grade", name, "--task", TINY, "--runs", "24", "--out", str(out), "--device", "cpu"]) == 0
    return next(out.glob("tiny-*/mine-*/score.json")).parent


def test_a_score_says_when_with_what_and_beside_which_models_it_was_made(folder):
    score = read_score(folder / "score.json")
    assert score["submission"] == "mine[SCALE=0.5]" and score["settings"] == {"SCALE": "0.5"}
    assert set(score["kit"]) == {"version", "commit"} and score["when"].startswith("20")
    for key in ("torch", "numpy", "device", "hardware", "seed"):
        assert score[key] not in ("", None)
    for models in ("original", "oracles"):
        assert 0 < score[models]["retain_accuracy"] <= 1 and 0 < score[models]["test_accuracy"] <= 1
    ratio = score["retain_accuracy"] / score["oracles"]["retain_accuracy"]
    assert score["retain_accuracy_ratio"] == pytest.approx(ratio)


def test_a_score_below_512_carries_a_projection_or_the_reason_for_none(folder):
    score = read_score(folder / "score.json")
    assert bool(score["projected"]) != bool(score["not_projected"])
    if score["projected"]:
        assert score["projected"]["low"] <= score["projected"]["value"] <= score["projected"]["high"]
        assert score["projected"]["models"] == 512


def test_every_changed_digit_of_a_score_is_noticed(folder, tmp_path):
    text = (folder / "score.json").read_text()
    places = [k for k, letter in enumerate(text) if letter.isdigit() and text[k - 1] not in "[,"]
    for place in places[:: max(len(places) // 60, 1)]:
        other = "1" if text[place] != "1" else "2"
        changed = text[:place] + other + text[place + 1 :]
        if json.loads(changed) == json.loads(text):  # the seventeenth digit of a number need not change it
            continue
        (tmp_path / "score.json").write_text(changed)
        with pytest.raises(RecordError, match="score.json"):
            read_score(tmp_path / "score.json")


@pytest.mark.parametrize("cut", [0, 1, 100, -2])
def test_a_cut_score_is_told(folder, tmp_path, cut):
    (tmp_path / "score.json").write_text((folder / "score.json").read_text()[:cut])
    with pytest.raises(RecordError, match="score again"):
        read_score(tmp_path / "score.json")


def test_layout_does_not_count_only_content(folder, tmp_path):
    (tmp_path / "score.json").write_text(json.dumps(json.loads((folder / "score.json").read_text())))
    assert read_score(tmp_path / "score.json") == read_score(folder / "score.json")


def test_epsilons_are_sealed_and_still_a_plain_npy(folder):
    content = (folder / "epsilons.npy").read_bytes()
    assert seal_fits(content) and not seal_fits(content[:-1]) and not seal_fits(b"x" + content)
    assert np.load(folder / "epsilons.npy").tolist() == read_score(folder / "score.json")["epsilons"]


def test_a_score_whose_checksum_is_misspelt_is_not_taken_for_one_of_an_earlier_version(folder, tmp_path):
    text = (folder / "score.json").read_text()
    (tmp_path / "score.json").write_text(text.replace('"sha256"', '"sha257"'))
    with pytest.raises(RecordError, match="lost its checksum"):
        read_score(tmp_path / "score.json")
    (tmp_path / "score.json").write_text('{"score": 0.5}')
    assert read_score(tmp_path / "score.json") == {"score": 0.5}, "there was a version without"
