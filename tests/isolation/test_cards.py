"""A device that would not do is refused in one sentence, and cards are known without starting CUDA in this process."""

import os
import sys
from types import SimpleNamespace

import pytest
import torch

from local_eval.isolation import cards
from local_eval.isolation.cards import CHECK_BY_NVML, VISIBLE, Card, cards_of, usable_device
from local_eval.isolation.child import Failure
from local_eval.store.errors import InputError


@pytest.fixture(autouse=True)
def forgotten():
    """What is known of this machine's cards is looked up anew."""
    yield
    cards._nvml.cache_clear()
    cards_of.cache_clear()


@pytest.fixture
def seen(monkeypatch):
    """seen(outcome): what the process that looks at the cards finds."""

    def make(outcome):
        worker = SimpleNamespace(submit=lambda *_: None, outcome=lambda *_: outcome)
        worker.__enter__ = lambda self: self
        kind = type(
            "Workers", (), {"__init__": lambda *_: None, "__enter__": lambda _: worker, "__exit__": lambda *_: None}
        )
        monkeypatch.setattr(cards, "Workers", kind)
        cards_of.cache_clear()

    return make


def test_devices_that_would_not_do_are_refused_by_name_and_with_the_reason():
    """`hpu` is a module that torch does not have, `meta` takes everything and computes nothing."""
    assert usable_device("cpu") == "cpu"
    for name, reason in (
        ("mps", "Metal"), ("meta", "computes nothing"), ("hpu", "not been tried"), ("xpu:1", "not been tried"),
        ("nonsense", "not been tried"), ("cuda:77", ""),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"--device {name} cannot be used .*{reason}.*--device cpu"):
            usable_device(name)


def test_this_process_never_starts_cuda_to_know_what_there_is(seen, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: os.environ.get(CHECK_BY_NVML) == "1")
    monkeypatch.setattr(torch, "zeros", lambda *_, **named: pytest.fail(f"a tensor is made here: {named}"))
    monkeypatch.delenv(CHECK_BY_NVML, raising=False)
    seen(([Card(0, "H200")], []))
    assert usable_device(None) == "cuda" and cards.card_name("cuda") == "H200"
    assert CHECK_BY_NVML not in os.environ


def test_cards_that_are_unlike_the_first_are_named_and_not_used(seen, capsys):
    seen(([Card(0, "T4"), Card(1, "T4"), Card(2, "GT 710")], ["cuda:3: CUDA error: no kernel image"]))
    assert [card.number for card in cards_of("cuda")] == [0, 1]
    told = capsys.readouterr().err
    assert "cuda:2, GT 710, is unlike T4" in told and "cuda:3: CUDA error: no kernel image" in told


def test_a_card_that_cannot_be_used_is_refused_with_the_reason(seen):
    busy = "cuda:0: CUDA error: CUDA-capable device(s) is/are busy or unavailable"
    for outcome, reason in (
        (([], []), "torch sees no such card"),
        (([], [busy]), "another process may hold it"),
        (Failure("still running after its limit of 300 s; it was stopped"), "its limit of 300 s"),
    ):
        seen(outcome)
        with pytest.raises(InputError, match=f"--device cuda cannot be used here .*{reason}.*--device cpu"):
            usable_device("cuda")


def test_the_compute_mode_of_a_card_that_does_not_take_us_is_named(monkeypatch):
    def refuse(*_, device):
        raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nmore")

    monkeypatch.setattr(torch, "zeros", refuse)
    monkeypatch.setattr(Card, "mode", "PROHIBITED")
    reason = "cuda:1: CUDA error: CUDA-capable device(s) is/are busy or unavailable, in compute mode PROHIBITED"
    assert cards._look("cuda:1", 0) == ([], [reason])


def test_a_worker_sees_its_card_alone_also_where_the_user_shows_a_few(monkeypatch):
    monkeypatch.delenv(VISIBLE, raising=False)
    assert Card(1, "T4").environment == {VISIBLE: "1"}
    monkeypatch.setenv(VISIBLE, "2, GPU-5a")
    assert [Card(k, "T4").environment[VISIBLE] for k in (0, 1)] == ["2", "GPU-5a"]


def test_memory_and_mode_are_asked_of_nvml_and_unknown_without_it(monkeypatch):
    asked = []
    made = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: asked.append(uuid) or uuid,
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(free=5),
        "nvmlDeviceGetComputeMode": lambda handle: 3,
    }
    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(**made))
    card = Card(0, "T4", "12-34")
    assert card.free() == 5 and card.mode == "EXCLUSIVE_PROCESS" and card.takes_one and asked == ["GPU-12-34"]
    cards._nvml.cache_clear()
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    assert card.free() is None and card.mode == "" and not card.takes_one
