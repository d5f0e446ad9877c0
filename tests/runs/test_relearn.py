"""Models are trained further as published; a finished curve is kept, one of other models or settings is not taken."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from local_eval.metric.metric import confidences_of
from local_eval.oracles.original import save_original
from local_eval.oracles.train import epoch_orders
from local_eval.runs import relearn
from local_eval.runs.checkpoints import save_checkpoint
from local_eval.runs.relearn import ORACLE, UNLEARNED, Relearning, RelearnPlan, curves, relearned
from local_eval.store.errors import WorkError
from local_eval.store.records import record_path
from local_eval.tasks.evaluate import initial_net
from tests.conftest import TINY

HOW = Relearning(epochs=2)


def plain(net, task, rate, epochs, seed):
    """The plain loop: forget accuracy, mean confidence and test accuracy before and after every epoch."""
    optimizer, found, steps, taken = torch.optim.Adam(net.parameters()), [], epochs * 2, 0

    def look():
        net.eval()
        with torch.no_grad():
            logits, others = (net(split.images.float()) for split in (task.forget, task.test))
        confidence = confidences_of(logits.numpy()[None], task.forget.labels.numpy()).mean()
        right = [
            (one.argmax(1) == split.labels).float().mean().item()
            for one, split in ((logits, task.forget), (others, task.test))
        ]
        found.append((right[0], confidence, right[1]))

    look()
    torch.manual_seed(seed)
    for order in epoch_orders(len(task.retain), epochs, seed):
        net.train()
        for batch in (order[:64], order[64:]):
            cosine = (1 + np.cos(np.pi * taken / steps)) / 2
            optimizer.param_groups[0]["lr"] = rate * (0.1 + 0.9 * cosine)
            optimizer.zero_grad()
            F.cross_entropy(net(task.retain.images[batch].float()), task.retain.labels[batch]).backward()
            optimizer.step()
            taken += 1
        look()
    return np.array(found)


def test_it_trains_as_the_plain_loop_and_the_same_every_time(tiny):
    ours = relearned(initial_net(tiny, 1), tiny, HOW, seed=5)
    assert ours == pytest.approx(plain(initial_net(tiny, 1), tiny, 0.1 * tiny.recipe.lr, 2, 5), abs=1e-5)
    assert np.array_equal(ours, relearned(initial_net(tiny, 1), tiny, HOW, seed=5))
    assert not np.array_equal(ours, relearned(initial_net(tiny, 1), tiny, HOW, seed=6))


def test_what_is_relearned_is_not_measured(tiny):
    alone, held = Relearning().examples(tiny)
    assert (len(alone), len(held)) == (len(tiny.retain), 16)
    both, held = Relearning(tenth=True).examples(tiny)
    assert both.image_id[len(tiny.retain) :].tolist() == tiny.forget.image_id[[0, 10]].tolist()
    assert not set(both.image_id.tolist()) & set(held.image_id.tolist()) and len(held) == 14


@pytest.fixture
def plan(tiny, tmp_path):
    """Two unlearned models and two oracles, all of them untrained networks."""
    for k in range(2):
        save_checkpoint(initial_net(tiny, k).state_dict(), tmp_path / "runs", k)
        save_original(record_path(tmp_path / "oracles", k), initial_net(tiny, 10 + k).state_dict(), "tiny")
    return RelearnPlan(TINY, "tiny", "cpu", 2, tmp_path / "runs", tmp_path / "oracles", HOW)


def test_finished_curves_are_kept_and_others_are_made(plan, tiny, tmp_path, without_a_pool, monkeypatch):
    folders = {UNLEARNED: tmp_path / "a", ORACLE: tmp_path / "b"}
    made, really = [], relearn.one_curve
    monkeypatch.setattr(relearn, "one_curve", lambda plan, job: made.append(job) or really(plan, job))
    first = curves(plan, folders, 1)
    assert np.array_equal(first.oracles[1], relearned(initial_net(tiny, 11), tiny, HOW, seed=1))
    assert np.array_equal(first.unlearned[1], relearned(initial_net(tiny, 1), tiny, HOW, seed=1))
    again = curves(plan, folders, 1)
    assert made == [0, 1, 2, 3] and np.array_equal(again.unlearned, first.unlearned)
    made.clear()
    (file,) = (tmp_path / "b").glob("0001-*")
    for damage in ("", "[]", file.read_text()[:-20], file.read_text().replace('"curve": [[', '"curve": [[NaN, ')):
        file.write_text(damage)
        assert np.array_equal(curves(plan, folders, 1).oracles, first.oracles)
    save_checkpoint(initial_net(tiny, 7).state_dict(), tmp_path / "runs", 0)
    assert not np.array_equal(curves(plan, folders, 1).unlearned[0], first.unlearned[0])
    curves(replace(plan, fingerprint="other"), folders, 1)
    assert made == [3, 3, 3, 3, 0, 0, 1, 2, 3]


def test_one_model_that_fails_is_named_and_the_others_curves_are_kept(plan, tiny, tmp_path, without_a_pool):
    broken = {
        name: value * float("inf") if value.is_floating_point() else value
        for name, value in tiny.make_net().state_dict().items()
    }
    save_original(record_path(tmp_path / "oracles", 1), broken, "tiny")
    with pytest.raises(WorkError, match="1 of 4 models could not be relearned; oracle 1: its outputs became NaN"):
        curves(plan, {UNLEARNED: tmp_path / "a", ORACLE: tmp_path / "b"}, 1)
    assert sorted(path.name for folder in "ab" for path in (tmp_path / folder).glob("0*")) == [
        "0000-relearn-2.json", "0000-relearn-2.json", "0001-relearn-2.json",
    ]  # fmt: skip
