"""Channels last is used where it is safe, and nowhere else."""

from functools import partial

import pytest
import torch

from local_eval.isolation.device import memory_format
from local_eval.oracles.train_many import Bundle
from local_eval.tasks.digits import NarrowResNet
from local_eval.tasks.loading import load_task
from tests.conftest import TINY

LAST, FIRST = torch.channels_last, torch.contiguous_format


@pytest.mark.parametrize("width, expected", [(1, FIRST), (2, FIRST), (4, FIRST), (7, FIRST), (8, LAST), (12, LAST)])
def test_no_small_convolution_goes_channels_last_below_eight_channels_on_a_cpu(width, expected):
    assert memory_format(NarrowResNet(width, 3), "cpu") == expected


def test_a_gpu_is_not_concerned_and_channels_first_stays_first():
    assert memory_format(NarrowResNet(2, 3), "cuda") == LAST
    assert memory_format(NarrowResNet(8, 3), "cpu", channels_last=False) == FIRST


@pytest.mark.parametrize("width, expected", [(4, FIRST), (8, LAST)])
def test_bundles_heed_it(width, expected):
    from dataclasses import replace

    task = replace(load_task(TINY), make_net=partial(NarrowResNet, width, 3))
    assert Bundle(task, task.retain, [0, 1]).format == expected


def test_no_other_module_asks_for_channels_last_itself():
    from local_eval.methods.submission import ROOT

    askers = {f.name for f in (ROOT / "local_eval").rglob("*.py") if "torch.channels_last" in f.read_text()}
    assert askers == {"device.py"}
