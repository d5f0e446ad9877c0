"""The original model is kept whole or made again, and what an earlier version left is read once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from local_eval.grader import Grader
from local_eval.oracles import train_many
from local_eval.oracles.original import finish_original, original_record, trained_original
from local_eval.oracles.train import train
from local_eval.store.sealed import load_state
from local_eval.store.workspace import Workspace
from local_eval.tasks.digits import ORACLES
from local_eval.tasks.evaluate import accuracy, predict
from tests.conftest import TINY


def test_an_original_of_an_earlier_version_is_read_once_and_rewritten(tmp_path, tiny):
    state = tiny.make_net().state_dict()
    torch.save({"fingerprint": tiny.fingerprint(), "state": state}, tmp_path / "original.pt")
    path = finish_original(tiny, tiny.fingerprint(), tmp_path / "original.npz", "cpu")
    assert all(load_state(path)[name].equal(value) for name, value in state.items())


def test_one_of_another_task_or_a_damaged_one_is_not(tmp_path, tiny):
    state = tiny.make_net().state_dict()
    for content in ({"fingerprint": "another", "state": state}, {"fingerprint": tiny.fingerprint(), "state": {}}):
        torch.save(content, tmp_path / "original.pt")
        path = finish_original(tiny, tiny.fingerprint(), tmp_path / "original.npz", "cpu")
        assert any(not load_state(path)[name].equal(value) for name, value in state.items())
        path.unlink()


def test_of_100_flipped_bits_in_an_original_none_changes_a_weight_silently(tmp_path, tiny, capsys):
    fingerprint, path = tiny.fingerprint(), tmp_path / "original.npz"
    task = replace(tiny, original=tiny.make_net().state_dict())
    content = finish_original(task, fingerprint, path, "cpu").read_bytes()
    for place in np.random.default_rng(1).choice(8 * len(content), 100, replace=False):
        spoilt = bytearray(content)
        spoilt[place // 8] ^= 1 << (place % 8)
        path.write_bytes(spoilt)
        assert finish_original(task, fingerprint, path, "cpu").read_bytes() == content
    assert capsys.readouterr().err.count("making it again") == 100


def test_the_fast_way_trains_an_original_as_good_as_the_plain_loop_does(tiny):
    fast, plain = tiny.make_net(), train(tiny, tiny.retain + tiny.forget, 0)
    fast.load_state_dict(trained_original(tiny, "cpu"))
    one, other = (accuracy(predict(net.eval(), tiny.retain), tiny.retain.labels) for net in (fast, plain))
    assert abs(one - other) < 0.15


def test_how_good_it_is_is_measured_once(original_out, tiny, monkeypatch):
    grader = Grader(TINY, original_out)
    path = grader.folder / "original.npz"
    first = original_record(tiny, grader.fingerprint, path, "cpu", Workspace(grader.folder))
    monkeypatch.setattr("local_eval.oracles.original.evaluate", None)
    assert original_record(
        tiny, grader.fingerprint, path, "cpu", Workspace(grader.folder)
    ).evaluation.test_accuracy == (first.evaluation.test_accuracy)


@pytest.mark.usefixtures("without_a_pool")
def test_the_plan_of_oracles_is_made_once_not_once_an_oracle(tmp_path, monkeypatch):
    asked, real = [], train_many.networks_per_job
    monkeypatch.setattr("local_eval.grader.networks_per_job", lambda *a: asked.append(1) or real(*a))
    grader = Grader(TINY, tmp_path, runs=4, workers=2)
    grader.finish_oracles()
    assert len(grader.cached_oracles()) >= 4
    assert len(asked) == 1


def test_the_oracles_that_come_with_digits_are_used_unasked(tmp_path, monkeypatch):
    def refuse(function, argument, jobs, *more, **named):
        assert jobs == [], "nothing is to be trained"
        yield from ()

    monkeypatch.setattr("local_eval.isolation.share_gpu.run_jobs", refuse)
    grader = Grader("digits", tmp_path, runs=64)
    assert len(grader.finish_oracles()) == 64
    assert len(grader.cached_oracles()) == 512


@pytest.mark.usefixtures("without_a_pool")
def test_oracles_that_do_not_fit_are_told_and_left(tmp_path, tiny, capsys, monkeypatch):
    grader = Grader(TINY, tmp_path, runs=4)
    grader.opened.__dict__["task"] = replace(tiny, oracles=ORACLES)
    assert len(grader.finish_oracles()) == 4
    assert "are not used" in capsys.readouterr().err
    grader.cached_oracles()
    assert "are not used" not in capsys.readouterr().err, "told once a command, and the file read once"
