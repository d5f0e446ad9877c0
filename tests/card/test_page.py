"""The page answers every question in a sentence, also when a stage has found half of its figures or none."""

import pytest

from local_eval.card.drive import STAGES
from local_eval.card.page import page

FIGURES = {
    "versions": {
        "python": "3.12.1", "packages": {"torch": "2.11", "nvidia-ml-py": "missing"}, "nvidia-smi": "H200, 570.1",
        "CUDA in a fork": "works", "a tensor in a fork": "works", "cards": ["NVIDIA H200, mode DEFAULT"],
        "hardware": "NVIDIA H200", "torch": "2.11", "commit": "abc", "processors": 16, "check": "keeps the contract",
    },
    "exactness": {
        "logits: largest difference": 1e-5, "recorded beside plain: largest difference of logits": 1e-3,
        "float64 beside the CPU: largest difference of weights": 1e-3,
    },
    "speed": {
        "loader": {"loader_batches": 4000.0, "loader_plain_batches": 1000.0}, "TFLOP/s": 20.0, "GB/s": 900.0,
        "steps of one network per second": {"1 x 1 nets": 500.0, "4 x 8 nets": 2500.0}, "best layout": "4 x 8 nets",
        "the same in TF32": 6000.0, "minutes for 512 oracles": 38.2, "minutes for 512 oracles in TF32": 16.1,
        "profile": {"idle": 0.25, "kernels": [{"name": "conv|x", "share": 0.4, "times": 9}]},
    },
    "grading": {
        "submission": "fanchuan", "on the card": {"score": 0.041, "interval": [0.03, 0.05], "runs": 64},
        "on a CPU": {"score": 0.0398, "interval": [0.03, 0.05], "runs": 64},
    },
    "runs": {"runs per minute": {"1": 20.0, "8": 90.0}, "MPS": {"8": 120.0}},
    "pools": {
        "float32 against TF32": 0.181, "halves of float32": 0.183, "halves of TF32": 0.182,
        "float32 against the shipped ones": 0.18,
    },
    "checks": {
        "checks": {"fanchuan": "keeps the contract", "scrub": "it raised"}, "not checked for lack of time": ["forget"],
    },
    "sandbox": {"level": "full", "check in the sandbox": "keeps the contract"},
    "memory": {"networks trained of 4": 4, "layout before and after": ["2 x 2 nets", "1 x 2 nets"]},
}  # fmt: skip


def found(figures=FIGURES, state="done"):
    common = {"state": state, "seconds": 42.0, "reason": "why", "printed": ["last line"]}
    return [
        {"stage": s.number, "name": s.name, "asks": s.asks, "found": figures.get(s.name, {}), **common} for s in STAGES
    ]


def test_every_answer_is_on_the_page():
    said = page(found())
    for words in (
        "NVIDIA H200, mode DEFAULT; torch 2.11, Python 3.12.1, commit abc, 16 processors",
        "not installed: nvidia-ml-py", "differ by at most 1.0e-05", "take 38.2 minutes, in TF32 16.1",
        "1.0e-03 (**too much**: 1e-09 would be rounding)",
        "idle 25%", "0.0398 with 64, which lies in the interval", "8 processes make 90.0 runs a minute, one makes 20.0",
        "under MPS 8 processes make 120.0", "scores 0.181, halves of float32 0.183", "1 of 2 do; **not scrub**",
        "no time for forget", "level full: keeps the contract", "4 of 4 networks", "| 4 x 8 nets | 2,500 |",
        "| `conv/x` | 40.0% | 9 |", "9 of 9 stages were done", "| 8, MPS | 120.0 |",
    ):  # fmt: skip
        assert words in said, words
    assert len(said.splitlines()) < 60 and "last line" not in said


def test_a_score_outside_of_the_interval_stands_out():
    figures = FIGURES | {"grading": FIGURES["grading"] | {"on a CPU": {"score": 0.2, "runs": 512}}}
    assert "**which lies outside**; the numbers of runs differ" in page(found(figures))


@pytest.mark.parametrize("state", ["done", "stopped", "failed", "died", "skipped"])
def test_a_page_is_made_of_whatever_was_found(state):
    """Each figure is left out once, and all that come after a stage's first."""
    for name, figures in FIGURES.items():
        for key in figures:
            less = {k: v for k, v in figures.items() if k != key}
            assert page(found(FIGURES | {name: less}, state)).count("| 42 |") == 9
        assert page(found(FIGURES | {name: dict(list(figures.items())[:1])}, state))
    said = page(found({}, state))
    assert "No card was found" in said and (state == "done" or f"**{state}**: why" in said)
