"""The stages, on the pretended card: they find what they are to find, and say so where they cannot."""

import json

import pytest

from local_eval.card import stages
from local_eval.card.drive import STAGES
from local_eval.card.noise import SIZES, task
from local_eval.card.stages import Found, busy, main
from tests.conftest import TINY
from tests.pretended_card.using import Pretended


@pytest.fixture
def stage(tmp_path):
    """stage(name, device) -> (exit code, what it wrote, the two cards), in a fork of this process, in small."""

    def do(name, device="cuda"):
        place, cards = tmp_path / "x.json", Pretended(tmp_path, cards=2)
        code = cards.alone(lambda: main(name, str(place), "600", device, TINY))
        return code, json.loads(place.read_text()), cards

    return do


def test_exactness_is_exact_on_a_card_that_computes_as_the_cpu_does(stage):
    code, about, _ = stage("exactness")
    assert code == 0 and about["whole"], about
    assert about["found"]["logits: largest difference"] == 0
    assert about["found"]["recorded beside plain: largest difference of logits"] < 1e-4
    assert about["found"]["recorded beside plain: steps"] == 7
    assert about["found"]["float64 beside the CPU: largest difference of weights"] < 1e-12


def test_full_memory_is_forced_while_a_graph_is_recorded_and_survived(stage):
    code, about, cards = stage("memory", "cuda:1")
    assert code == 0 and about["found"]["networks trained of 4"] == 4, about
    assert about["found"]["recordings"] > 1
    assert len(cards.contexts_of(1)) == 1 and not cards.contexts_of(0), "another card was used than was asked for"
    assert about["found"]["layout before and after"][0] != about["found"]["layout before and after"][1]


def test_without_a_card_the_first_stage_says_so_and_keeps_what_it_knows(tmp_path):
    place = tmp_path / "x.json"
    assert main("versions", str(place), "60", "cuda", TINY) == 1
    about = json.loads(place.read_text())
    assert "cannot be used here" in about["found"]["there is no card"] and about["failed"]
    assert about["found"]["packages"]["pebble"] != "missing" and "a tensor in a fork" in about["found"]


def test_a_figure_is_on_the_disk_as_soon_as_it_is_found(tmp_path):
    found = Found(tmp_path / "x.json", 10.0)
    found.put("a", 1)
    assert json.loads((tmp_path / "x.json").read_text()) == {"found": {"a": 1}}
    assert 8 < found.left(0.9) <= 9


def test_the_card_is_busy_while_any_kernel_is_at_work():
    spans = [("a", 0.0, 100.0), ("b", 50.0, 150.0), ("b", 60.0, 70.0), ("a", 200.0, 250.0)]
    found = busy(spans, 400e-6)
    assert found["idle"] == pytest.approx(0.5)
    assert [(k["name"], k["times"]) for k in found["kernels"]] == [("a", 2), ("b", 2)]
    assert "no kernels" in busy([], 1.0)["idle"]


def test_the_noise_has_the_competitions_size():
    made = task()
    assert {name: len(split) for name, split in made.splits.items()} == SIZES
    assert sum(SIZES.values()) == 30_000 and made.retain.images.shape[1:] == (3, 32, 32)


@pytest.mark.slow
def test_the_script_ends_with_every_stage_told(tmp_path, monkeypatch):
    """As a user starts it, on a card that is pretended in every process, in small."""
    said = Pretended(tmp_path).command("bench", "--card", tmp_path / "found", "--rehearse", TINY, timeout=3600)
    page = (tmp_path / "found" / "card.md").read_text()
    for one in STAGES:
        about = json.loads((tmp_path / "found" / f"{one.file}.json").read_text())
        assert about["state"] == "done", (one.name, about)
        assert one.asks in page and one.name in stages.STAGES
    assert said.code == 0 and f"{len(STAGES)} of {len(STAGES)} stages were done" in page
