"""torch.compile in a run compiles nothing, gives what the plain net gives, and is told."""

import sys

import torch

from local_eval.methods.contract import check_result, load_telling
from local_eval.methods.loaders import make_loaders
from local_eval.methods.misread import REMARK
from local_eval.methods.submission import Submission

BODY = """
import torch
from torch import nn

@torch.compile(mode="max-autotune")
def doubled(x):
    return x * 2

@torch.compile
def halved(x):
    return x / 2

def unlearning(net, retain_loader, forget_loader, val_loader):
    images = next(iter(forget_loader))["image"]
    net.eval()
    plain = net(images)
    net.compile()
    fast = torch.compile(net, dynamic=False).eval()
    for found in (net(images), fast(images), fast._orig_mod(images), halved(doubled(plain))):
        assert torch.equal(found, plain)
    assert list(fast.state_dict()) == ["_orig_mod." + name for name in net.state_dict()]
    assert fast.fc is net.fc and not fast.training and fast.train().training and net.training
    opt = torch.optim.SGD(fast.parameters(), lr=1e-3)
    fast(images).sum().backward()
    opt.step()
    net.eval()
    return fast
"""


def test_what_is_compiled_runs_as_plain_code_and_is_told(submission, tiny):
    compiles, loaded = torch.compile, "torch._inductor.compile_fx" in sys.modules
    unlearning = load_telling(Submission.find(submission(BODY)))
    net = tiny.make_net()
    original = {name: value.clone() for name, value in net.state_dict().items()}
    check_result(net, unlearning(net, *make_loaders(tiny)), original)
    assert not torch.equal(net.fc.bias, original["fc.bias"])
    assert unlearning.reported == [REMARK]
    assert torch.compile is compiles
    assert loaded or "torch._inductor.compile_fx" not in sys.modules


def test_nothing_is_told_of_a_run_without_it(submission, tiny):
    unlearning = load_telling(Submission.find(submission()))
    unlearning(tiny.make_net(), *make_loaders(tiny))
    assert unlearning.reported == []
