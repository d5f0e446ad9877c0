"""A task's own way to train is called once a network, seeded, with the competition's batches; its code is followed."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from local_eval.grader import Grader
from local_eval.isolation.device import drawn_so_far
from local_eval.methods.loaders import make_loader
from local_eval.methods.other_projects import KEYS
from local_eval.oracles.oracles import FIRST_ORACLE_SEED
from local_eval.oracles.train import loader_of
from local_eval.oracles.train_many import Trainer, networks_per_job
from local_eval.store.sealed import load_state
from local_eval.tasks.evaluate import evaluate
from local_eval.tasks.loading import ready
from local_eval.tasks.names import TaskError
from tests.conftest import TINY

LR = 0.01


def train(net, loader, seed):
    optimizer = torch.optim.SGD(net.parameters(), lr=LR + 0.001 * random.random())
    for batch in loader:
        noise = torch.from_numpy(np.random.randn(len(batch["image"]), 1, 1, 1)).float() + torch.randn(1)
        loss = torch.nn.functional.cross_entropy(net(batch["image"] + noise), batch["age_group"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def returns_it(net, loader, seed):
    train(net, loader, seed)
    return net


def fails(net, loader, seed):
    raise KeyError("labels")


@pytest.fixture
def mine(tiny, tmp_path):
    return lambda function: ready(replace(tiny, train=function), tmp_path / "cells.py", tmp_path / "cells.py")


def states(task, seeds):
    return [net.state_dict() for net in Trainer(task, task.retain).train(seeds)]


def test_a_network_depends_on_its_seed_alone_whatever_was_drawn_and_trained_before(mine):
    task = mine(train)
    assert networks_per_job(task, "cpu") == networks_per_job(task, "cuda") == 1
    together = states(task, [1, 2, 3])
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    before = drawn_so_far()
    alone = [states(task, [seed])[0] for seed in (3, 1)]
    assert drawn_so_far() == before, "nobody else's draws are touched"
    for one, other in ((alone[0], together[2]), (alone[1], together[0])):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(together[0]["fc.weight"], together[1]["fc.weight"])
    returned = states(mine(returns_it), [1])[0]
    assert torch.equal(returned["fc.weight"], together[0]["fc.weight"])


def test_its_batches_are_those_that_submissions_get(tiny):
    """Of the same keys, types and values, one by one, whole and wrapped anew."""
    examples = replace(tiny.retain, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    ours, theirs = loader_of(examples, 40, seed=3), make_loader(examples, 40)
    assert [len(batch["image"]) for batch in ours] == [40, 40, 16]
    for k in (0, 95, -1):
        one, other = ours.dataset[k], theirs.dataset[k]
        assert torch.equal(one.pop("image"), other.pop("image")) and one == other
    for loader in (ours, DataLoader(ours.dataset, batch_size=40, shuffle=True)):
        batch, expected = next(iter(loader)), next(iter(theirs))
        assert set(batch) == set(KEYS) and {k: v.dtype for k, v in batch.items()} == {
            k: v.dtype for k, v in expected.items()
        }
        row = {int(number): k for k, number in enumerate(examples.image_id)}
        index = torch.tensor([row[int(number)] for number in batch["image_id"]])
        assert torch.equal(batch["image"], examples.pixels(index))
        assert torch.equal(batch["age_group"], examples.labels[index])
    orders = [[batch["image_id"].tolist() for batch in loader_of(examples, 40, seed)] for seed in (3, 3, 4)]
    assert orders[0] == orders[1] != orders[2]
    batch["image"].zero_()
    assert examples.images.any(), "what a batch holds is fresh"


def other_structure(net, loader, seed):
    return torch.nn.Linear(2, 2)


def gives_numbers(net, loader, seed):
    return {"accuracy": 1.0}


def test_what_goes_wrong_in_it_is_told_with_its_line(mine):
    cases = [(fails, r"Task.train failed \(.*test_own_training.py, line \d+\): KeyError: 'labels'")]
    cases += [(other_structure, "another structure"), (gives_numbers, "returned a dict; let it return the trained")]
    for function, message in cases:
        with pytest.raises(TaskError, match=message):
            states(mine(function), [1])


def test_what_cannot_be_called_or_would_be_ignored_is_refused_when_the_task_loads(mine, tiny, tmp_path):
    for function, message in (
        (lambda net, loader: None, r"called as train\(net, loader, seed\), but too many positional arguments"),
        ("train", "no function"),
    ):
        with pytest.raises(TaskError, match=message):
            mine(function)
    recipe = replace(tiny.recipe, optimizer="sgd", flip=True)
    with pytest.raises(TaskError, match="trains in the recipe's place; leave flip, optimizer out"):
        ready(replace(tiny, train=train, recipe=recipe), tmp_path / "cells.py", tmp_path / "cells.py")


def test_the_fingerprint_follows_its_code(mine, tiny):
    assert mine(train).fingerprint() == replace(tiny, train=train).fingerprint()
    assert len({tiny.fingerprint(), mine(train).fingerprint(), mine(fails).fingerprint()}) == 3


TASK = """
from dataclasses import replace
from local_eval.tasks.loading import load_task
from tests.oracles.test_own_training import train

def task():
    return replace(load_task({tiny!r}), train=train)
"""


@pytest.mark.usefixtures("without_a_pool")
def test_original_and_oracles_are_made_by_it(tmp_path, tiny):
    (tmp_path / "cells.py").write_text(TASK.format(tiny=TINY))
    grader = Grader(str(tmp_path / "cells.py"), tmp_path, runs=3)
    oracles = grader.finish_oracles()
    assert len(list((grader.folder / "oracles").glob("*.npz"))) == 3, "one a job, so none too many"
    (original,) = Trainer(grader.task, tiny.retain + tiny.forget).train([0])
    assert torch.equal(load_state(grader.original_file)["fc.weight"], original.state_dict()["fc.weight"])
    (second,) = Trainer(grader.task, tiny.retain).train([FIRST_ORACLE_SEED + 1])
    assert np.array_equal(evaluate(second, tiny).forget_logits, oracles[1].evaluation.forget_logits)
