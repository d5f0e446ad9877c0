"""Channels last is used where it is safe, and nowhere else."""

from dataclasses import replace
from functools import partial

import torch

from local_eval.isolation.device import memory_format
from local_eval.oracles.train_many import Bundle
from tests.tiny_task import TinyResNet

LAST, FIRST = torch.channels_last, torch.contiguous_format


def test_no_small_convolution_goes_channels_last_below_eight_channels_on_a_cpu():
    for width, expected in ((1, FIRST), (2, FIRST), (7, FIRST), (8, LAST), (12, LAST)):
        assert memory_format(TinyResNet(width, 3), "cpu") == expected, width


def test_a_gpu_is_not_concerned_and_channels_first_stays_first():
    assert memory_format(TinyResNet(2, 3), "cuda") == LAST
    assert memory_format(TinyResNet(8, 3), "cpu", channels_last=False) == FIRST


def test_bundles_heed_it(tiny):
    for width, expected in ((4, FIRST), (8, LAST)):
        task = replace(tiny, make_net=partial(TinyResNet, width, 3))
        assert Bundle(task, task.retain, [0, 1]).format == expected, width


def test_no_other_module_asks_for_channels_last_itself():
    from local_eval.methods.submission import ROOT

    askers = {f.name for f in (ROOT / "local_eval").rglob("*.py") if "torch.channels_last" in f.read_text()}
    assert askers == {"device.py"}
