"""What a run has read travels with its weights, however much it is, and following it never breaks a run."""

import torch

from local_eval.methods.handover import pack, unpack
from local_eval.methods.identity import MOST, Trace

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(3)}


def test_more_files_than_can_be_followed_are_told_in_a_sentence_and_the_weights_arrive():
    trace = Trace()
    trace.files = {f"/data/{'long' * 40}/{k}.png" for k in range(MOST + 1)}
    state, reported = unpack(pack(STATE, STATE, trace.as_json()), STATE)
    assert reported["files"] == []
    assert any(f"{MOST + 1} files" in text for text in reported["untold"])
    assert all(state[name].equal(value) for name, value in STATE.items())


def test_as_many_files_as_can_be_followed_travel():
    trace = Trace()
    trace.files = {f"/data/{'long' * 40}/{k}.png" for k in range(MOST)}
    assert len(unpack(pack(STATE, STATE, trace.as_json()), STATE)[1]["files"]) == MOST


def test_what_cannot_be_followed_is_told_and_raises_nothing_in_the_submission():
    trace = Trace()
    for path in ("a\0b", "/x/__pycache__/odd.pyc"):
        trace._hear("open", (path, "r", 0))
    assert any("cannot be followed (ValueError)" in text for text in trace.as_json()["untold"])
