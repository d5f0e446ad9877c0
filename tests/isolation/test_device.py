"""A device that would not do is refused in one sentence; channels last is used where it is safe, and nowhere else."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from local_eval.isolation.device import memory_format, usable_device
from local_eval.oracles.train_many import Bundle
from local_eval.store.errors import InputError
from tests.tiny_task import TinyResNet

LAST, FIRST = torch.channels_last, torch.contiguous_format


def test_devices_that_would_not_do_are_refused_by_name_and_with_the_reason():
    """`hpu` is a module that torch does not have, `meta` takes everything and computes nothing."""
    assert usable_device("cpu") == "cpu"
    for name, reason in (
        ("mps", "Metal"), ("meta", "computes nothing"), ("hpu", "not been tried"), ("xpu:1", "not been tried"),
        ("nonsense", "not been tried"), ("cuda:77", ""),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"--device {name} cannot be used .*{reason}.*--device cpu"):
            usable_device(name)


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
