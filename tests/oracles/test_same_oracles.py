"""Oracles are the same to the bit with any number of workers, whichever were missing, whatever the network draws."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from local_eval.grader import Grader
from local_eval.oracles import oracles, train_many
from local_eval.oracles.oracles import OraclePlan, one_job
from local_eval.oracles.train_many import Layout, Trainer, remark_on_training
from local_eval.tasks.loading import load_task
from tests.conftest import TINY
from tests.oracles.kinds_of_networks import REFUSED, STACKED, Small, TinyViT, variant

VIT = f"""
from dataclasses import replace
from local_eval.tasks.loading import load_task
from kinds import TinyViT

def task():
    tiny = load_task({TINY!r})
    return replace(tiny, name="vit", make_net=TinyViT, recipe=replace(tiny.recipe, epochs=2, lr=1e-3))
"""


def logits(records):
    return np.stack([record.evaluation.forget_logits for record in records])


@pytest.mark.parametrize("start", ["forked", pytest.param("spawned", marks=[pytest.mark.spawned, pytest.mark.slow])])
def test_a_vit_with_dropout_is_the_same_in_this_process_and_with_two_workers_resumed(tmp_path, monkeypatch, start):
    """The network comes from a file beside the task, which a spawned worker has to find for itself."""
    (tmp_path / "kinds.py").write_bytes((Path(__file__).parent / "kinds_of_networks.py").read_bytes())
    (tmp_path / "task.py").write_text(VIT)
    one, two = (Grader(str(tmp_path / "task.py"), tmp_path / name, workers=2) for name in ("one", "two"))
    with monkeypatch.context() as patch:
        patch.setattr("local_eval.isolation.share_gpu.run_jobs", here)
        expected = one.finish_oracles(8)
    shutil.copytree(one.folder / "oracles", two.folder / "oracles")
    for index in (1, 4, 6):
        (two.folder / "oracles" / f"000{index}.npz").unlink()
    assert np.array_equal(logits(two.finish_oracles(8)), logits(expected))
    assert len(np.unique(logits(expected)[:, 0, 0])) == 8


def here(function, plan, jobs, *_, **__):
    """Stands in for `run_jobs`, without processes."""
    return ((job, function(plan, job)) for job in jobs)


def drawn_by_numpy(self):
    for value in self.parameters():
        value.data.copy_(torch.from_numpy(np.random.randn(*value.shape)))


def drawn_by_random(self):
    self.head.bias.data.copy_(torch.tensor([random.random() for _ in range(3)]))


def random_depth(self, x):
    x = nn.functional.relu(self.conv(x))
    if self.training and (np.random.rand() < 0.5 or random.random() < 0.2):
        return self.head(x.mean((2, 3)))
    return self.head(self.other(self.bn(x)).mean((2, 3)))


DRAWING = {
    "ViT": TinyViT,
    "dropout": REFUSED["F.dropout"][0],
    "initial weights from numpy": variant("Numpy", drawn_by_numpy),
    "initial weights from random": variant("Random", drawn_by_random),
    "random depth": variant("Depth", forward=random_depth),
    "noise in eval mode": variant("Noisy", forward=lambda self, x: Small.forward(self, x + torch.randn_like(x))),
    "plain": STACKED["plain"],
}


def test_an_oracle_and_an_original_depend_on_their_seed_alone(tiny, monkeypatch):
    """Trained in jobs of two in another order, after other draws; each network draws in its own way."""
    for name, make, forget_too in [*((name, make, False) for name, make in DRAWING.items()), ("ViT", TinyViT, True)]:
        task = replace(tiny, make_net=make)
        monkeypatch.setattr(oracles, "trainer_of", lambda *_, job=(task, forget_too): trainer(*job))
        plan = OraclePlan("", "", "cpu", 2, forget_too)
        first = one_job(plan, 0) | one_job(plan, 1)
        torch.rand(3), np.random.rand(), random.random()
        again = one_job(plan, 1) | one_job(plan, 0)
        assert np.array_equal(*(logits([found[k] for k in range(4)]) for found in (first, again))), name
        assert len(np.unique(logits(first.values())[:, 0, 0])) == 4, name


def trainer(task, forget_too):
    return Trainer(task, task.retain + task.forget if forget_too else task.retain)


def test_training_leaves_all_generators_alone(tiny):
    task = replace(tiny, make_net=TinyViT)
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    expected = float(torch.rand(())), np.random.randn(), random.random()
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    one_net = next(Trainer(task, task.retain, Layout(2)).train([1, 2]))
    assert not one_net.training
    assert (float(torch.rand(())), np.random.randn(), random.random()) == expected


def test_a_person_is_told_once_that_oracles_are_trained_one_by_one_and_why(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("local_eval.isolation.share_gpu.run_jobs", here)
    grader = Grader(TINY, tmp_path, runs=4)
    grader.opened.__dict__["task"] = replace(load_task(TINY), make_net=TinyViT)
    monkeypatch.setattr(oracles, "trainer_of", lambda *_: trainer(grader.task, False))
    grader.finish_oracles()
    grader.finish_oracles()
    said = [line for line in capsys.readouterr().err.splitlines() if "one by one" in line]
    assert len(said) == 1
    assert "times as slow on a CPU" in said[0] and "cannot be stacked" in said[0]


def test_nothing_is_told_of_networks_that_are_stacked(tiny, monkeypatch):
    assert [remark_on_training(tiny, device) for device in ("cpu", "cuda")] == ["", ""]
    monkeypatch.setattr(train_many, "SMALL", 0)  # as if the network were a large one
    large = replace(tiny, make_net=TinyViT)
    assert "about 1.7 times" in remark_on_training(large, "cpu")
