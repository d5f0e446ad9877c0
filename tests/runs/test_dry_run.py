"""Nothing is remarked that rests on a dry run too small for what the submission asks of its loaders."""

from dataclasses import replace

import pytest
from torch import nn

from local_eval.isolation.child import Failure
from local_eval.methods.submission import Submission
from local_eval.runs import check as module
from local_eval.runs.check import CheckPlan, Seen, dry_run, enough
from local_eval.tasks.loading import load_task
from tests.conftest import TINY

BODY = """
import itertools, random, torch
from torch.utils.data import *
from torch.nn import functional as F

def step(net, opt, batch):
    opt.zero_grad()
    F.cross_entropy(net(batch["image"]), batch["age_group"]).backward()
    opt.step()

def unlearning(net, retain_loader, forget_loader, val_loader):
    net.train()
    opt = torch.optim.SGD(net.parameters(), lr=1e-4)
    data, forget = retain_loader.dataset, forget_loader.dataset
"""
# The tiny task has 96 retain examples, the dry run begins with 8 of them
GROWS = {
    "batches larger than the dry run": "for b in DataLoader(data, 24, shuffle=True, drop_last=True): step(net, opt, b)",
    "a mean over batches": "l = DataLoader(data, 24, shuffle=True, drop_last=True)\n"
    "for b in l: step(net, opt, b)\nassert 1 / len(l)",
    "a part": "part, _ = random_split(data, [0.5, 0.5])\n"
    "for b in DataLoader(part, 16, shuffle=True, drop_last=True): step(net, opt, b)",
    "a sampler": "s = BatchSampler(RandomSampler(data), 24, True)\n"
    "for b in DataLoader(data, batch_sampler=s): step(net, opt, b)",
    "steps counted by hand": "for _ in range(len(data) // 24): step(net, opt, next(iter(retain_loader)))",
    "indices": "for b in DataLoader(Subset(data, random.sample(range(90), 30)), 15): step(net, opt, b)",
}
AS_THESE = {  # grow for the reasons of these above
    "OneCycle": "l = DataLoader(data, 24, shuffle=True, drop_last=True)\n"
    "s = torch.optim.lr_scheduler.OneCycleLR(opt, 1e-3, steps_per_epoch=len(l), epochs=1)\n"
    "for b in l: step(net, opt, b); s.step()",
    "the first batch": "step(net, opt, next(iter(DataLoader(data, 24, shuffle=True, drop_last=True))))",
}
ENOUGH = {
    "usual": "for b in DataLoader(data, 4, shuffle=True): step(net, opt, b)",
    "a slice": "for b in itertools.islice(DataLoader(data, 2, shuffle=True), 200): step(net, opt, b)",
    "two side by side": "for a, b in zip(DataLoader(data, 3, shuffle=True), forget_loader): step(net, opt, a)",
}


def small_net():
    return nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(3, 3))


@pytest.fixture
def dry(submission, monkeypatch, tiny):
    """dry(lines): a dry run that begins with 8 examples a loader."""
    monkeypatch.setattr(module, "TWO_BATCHES", 8)
    monkeypatch.setattr(module, "in_worker", lambda _: replace(tiny.apart(), make_net=small_net))

    def run(lines):
        body = "".join(f"    {line}\n" for line in lines.split("\n"))
        return dry_run(CheckPlan(Submission.find(submission(BODY + body)), TINY, "cpu"), 0)

    return run


@pytest.mark.parametrize("table", [GROWS, pytest.param(AS_THESE, marks=pytest.mark.slow)], ids=["grows", "as these"])
def test_a_dry_run_that_is_too_small_grows_until_it_is_not(dry, table):
    for kind, lines in table.items():
        found = dry(lines)
        assert not isinstance(found, Failure), f"{kind}: {found}"
        assert len(found) == 1 and "two batches were too few" in found[0], f"{kind}: {found}"


def test_one_that_is_large_enough_stays(dry):
    for kind, lines in ENOUGH.items():
        found = dry(lines)
        assert len(found) == 1 and found[0].startswith("dry run on two batches: "), f"{kind}: {found}"


def test_a_loader_that_stays_empty_is_the_reason_that_is_told(dry):
    loader = "l = DataLoader(forget, 64, shuffle=True, drop_last=True)\n"
    about = (
        "a DataLoader over the forget set (16 examples, and the task has no more) with batch_size=64, drop_last=True"
    )
    found = dry(f"{loader}for b in l: step(net, opt, b)")
    assert found[0] == f"{about} gives no batch"
    assert found[1] == "the net was not changed at all, for want of batches"
    assert len(found) == 3  # nothing on seeds: that rests on the empty loader
    failed = dry(f"{loader}for b in l: step(net, opt, b)\n1 / len(l)")
    assert failed.reason == f"ZeroDivisionError: division by zero; {about} gives no batch"


def test_what_more_examples_do_not_change_is_remarked_as_before(dry):
    assert "the net was not changed at all" in dry("pass")
    assert any(
        "torch.manual_seed(0)" in text
        for text in dry("torch.manual_seed(0)\nstep(net, opt, next(iter(retain_loader)))")
    )
    assert dry("step(net, opt, next(iter(retain_loader)))\nraise ValueError('mine')").reason == "ValueError: mine"


def test_where_more_would_take_too_long_the_remark_says_what_it_rests_on(dry, monkeypatch):
    monkeypatch.setattr(module, "LONGER", 0.0)
    found = " ".join(dry(GROWS["batches larger than the dry run"]))
    assert "at most 8 examples a loader, of up to 96 in the task, which may be too few to tell" in found
    assert "two seeds" not in found and "not changed" not in found
    assert "at most 8 examples a loader" in dry(GROWS["indices"]).reason


def test_as_many_examples_are_asked_for_as_make_two_batches():
    loader = Seen("retain", 128, 256, 0, True, True)
    assert enough(128, [loader], failed=False) == 512
    assert enough(128, [replace(loader, examples=12)], failed=False) >= 5120  # a tenth of the data
    assert enough(128, [replace(loader, batch=None)], failed=False) == 1024
    assert enough(128, [replace(loader, batches=1)], failed=True) == 512
    assert enough(128, [], failed=True) == 1024
    assert not replace(loader, batches=1).empty and len(load_task(TINY).retain) == 96
