"""A score.json says where it comes from, comes back as it was written, and is not believed if edited or damaged."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from local_eval.metric.uncertainty.projection import Projection
from local_eval.report.result import Result, at_official_n, read_score, save_score
from local_eval.store.records import RecordError
from local_eval.store.sealed import seal_fits
from tests.metric.test_score import score as made_up_score


@pytest.fixture(scope="module")
def score():
    return replace(made_up_score(models=16, ra=0.8, ta=0.6), projected=Projection(0.1, 0.05, 0.2, 512))


def test_a_score_says_when_with_what_and_beside_which_models_it_was_made(scored):
    score = read_score(scored / "score.json")
    assert score["submission"] == "mine[SCALE=0.5]" and score["settings"] == {"SCALE": "0.5"}
    assert set(score["kit"]) == {"version", "commit"} and score["when"].startswith("20")
    for key in ("torch", "numpy", "device", "hardware", "seed"):
        assert score[key] not in ("", None)
    for models in ("original", "oracles"):
        assert 0 < score[models]["retain_accuracy"] <= 1 and 0 < score[models]["test_accuracy"] <= 1
    ratio = score["retain_accuracy"] / score["oracles"]["retain_accuracy"]
    assert score["retain_accuracy_ratio"] == pytest.approx(ratio)
    assert bool(score["projected"]) != bool(score["not_projected"]), "a projection to 512, or why there is none"


def test_what_is_written_is_read_and_written_again_to_the_byte(scored, tmp_path):
    result = Result.read(scored / "score.json")
    again = result.save(tmp_path)
    assert again.read_bytes() == (scored / "score.json").read_bytes()
    assert (tmp_path / "epsilons.npy").read_bytes() == (scored / "epsilons.npy").read_bytes()
    assert Result.from_json(result.to_json()) == result == read_score(again)
    other = result.changed(score=0.5)
    assert (other["score"], other["task"], result["score"] == 0.5) == (0.5, "tiny", False)
    assert Result.from_json(other.to_json())["score"] == 0.5, "with a checksum of its own"


def test_every_changed_digit_of_a_score_is_noticed(scored, tmp_path):
    text = (scored / "score.json").read_text()
    places = [k for k, letter in enumerate(text) if letter.isdigit() and text[k - 1] not in "[,"]
    for place in places[:: max(len(places) // 60, 1)]:
        other = "1" if text[place] != "1" else "2"
        changed = text[:place] + other + text[place + 1 :]
        if json.loads(changed) == json.loads(text):  # the seventeenth digit of a number need not change it
            continue
        (tmp_path / "score.json").write_text(changed)
        with pytest.raises(RecordError, match="score.json"):
            read_score(tmp_path / "score.json")


def test_a_cut_score_and_none_are_refused(scored, tmp_path):
    for cut in (0, 1, 100, -2):
        (tmp_path / "score.json").write_text((scored / "score.json").read_text()[:cut])
        with pytest.raises(RecordError, match="grade it again"):
            read_score(tmp_path / "score.json")
    with pytest.raises(RecordError, match="give the path of a score.json"):
        read_score(tmp_path / "none.json")


def test_layout_does_not_count_only_content(scored, tmp_path):
    (tmp_path / "score.json").write_text(json.dumps(json.loads((scored / "score.json").read_text())))
    assert read_score(tmp_path / "score.json") == read_score(scored / "score.json")


def test_a_score_whose_checksum_is_misspelt_is_not_taken_for_one_of_an_earlier_version(scored, tmp_path):
    text = (scored / "score.json").read_text()
    (tmp_path / "score.json").write_text(text.replace('"sha256"', '"sha257"'))
    with pytest.raises(RecordError, match="lost its checksum"):
        read_score(tmp_path / "score.json")
    (tmp_path / "score.json").write_text('{"score": 0.5}')
    assert read_score(tmp_path / "score.json") == {"score": 0.5}, "there was a version without"


def test_epsilons_are_sealed_and_still_a_plain_npy(scored):
    content = (scored / "epsilons.npy").read_bytes()
    assert seal_fits(content) and not seal_fits(content[:-1]) and not seal_fits(b"x" + content)
    epsilons = np.load(scored / "epsilons.npy")
    assert epsilons.dtype == np.float64 and epsilons.tolist() == read_score(scored / "score.json")["epsilons"]


def test_the_score_at_512_is_the_projected_quality_times_both_accuracy_ratios(score):
    result = Result.of(score, "mine", "digits", {})
    utility = score.retain_accuracy_ratio * score.test_accuracy_ratio
    assert 0 < utility != 1 and result.utility == utility
    assert (
        result.at_official_n
        == at_official_n(score.projected, utility)
        == (utility * 0.1, utility * 0.05, utility * 0.2)
    )
    assert result["projected"] == {"value": 0.1, "low": 0.05, "high": 0.2, "models": 512, "score": utility * 0.1}
    assert Result.of(replace(score, projected=None), "mine", "digits", {}).at_official_n is None


def test_what_is_not_known_is_null_in_the_file(score, tmp_path):
    nan = float("nan")
    unknown = replace(score, score=nan, interval=(nan, nan), seconds_per_run=nan, retain_accuracy=nan)
    found = read_score(save_score(unknown, tmp_path, "mine", "digits", {"seed": None}))
    assert found["score"] is found["seconds_per_run"] is found["retain_accuracy"] is found["seed"] is None
    assert found["interval"] == [None, None]
    assert "NaN" not in (tmp_path / "score.json").read_text()


def test_quality_is_shown_as_a_share_of_the_ceiling_also_of_files_that_do_not_say_it():
    assert Result({"forgetting_quality": 0.05, "ceiling": 0.2}).quality_over_ceiling == 0.25
    assert math.isnan(Result({"forgetting_quality": 0.05, "ceiling": 0.0}).quality_over_ceiling)
