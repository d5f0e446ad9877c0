"""The embedded ranking task and its layers: pixels, counts, persons, and the factor on the gradients."""

import copy
import hashlib
from dataclasses import astuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18

from local_eval.oracles.stacked import stack
from local_eval.tasks.competition_small import FACTORS, FORGET_PERSONS, TRAIN_COUNTS, WIDTH
from local_eval.tasks.digits import NarrowResNet, Words, sampled
from local_eval.tasks.scaled_layers import Factors, ScaledResNet, one_position

PIXELS = "55a2f3e445818cea"


def net_with(factor: float) -> nn.Module:
    torch.manual_seed(3)
    return ScaledResNet(8, 10, everywhere(factor))


def everywhere(factor: float) -> Factors:
    return Factors(factor, factor, factor, factor)


def gradients(net: nn.Module) -> dict[str, torch.Tensor]:
    """By name, of a fixed loss in train mode."""
    generator = torch.Generator().manual_seed(5)
    images = 255 * torch.rand(16, 3, 16, 16, generator=generator)
    net.train().zero_grad()
    F.cross_entropy(net(images), torch.arange(16) % 10).backward()
    return {name: parameter.grad.clone() for name, parameter in net.named_parameters()}


def test_pixels_are_the_same_on_every_machine(small):
    sha = hashlib.sha256()
    for split in small.splits.values():
        sha.update(split.images.numpy().tobytes() + split.labels.numpy().tobytes())
    assert sha.hexdigest()[:16] == PIXELS


def test_words_are_pinned():
    assert Words(43).between(-3, 9, (6,)).tolist() == [5, -3, -3, 7, 4, -1]


def test_a_picture_read_at_its_own_pixels_is_itself():
    picture = np.arange(256).reshape(1, 1, 16, 16)
    middle = 512 * (2 * np.arange(16) - 15)
    across, down = np.broadcast_arrays(middle[None, None, :], middle[None, :, None])
    assert (sampled(picture, across, down, outside=0) == picture).all()


def test_class_counts_are_the_official_ones(small):
    labels = torch.cat([small.retain.labels, small.forget.labels])
    assert tuple(torch.bincount(labels).tolist()) == TRAIN_COUNTS
    assert len(small.validation) == len(small.test) == 3049
    assert -(-len(small.retain) // 64) == 374


def test_whole_persons_are_forgotten(small):
    leaving = small.forget.person_id.unique()
    assert len(leaving) == sum(FORGET_PERSONS.values())
    assert not torch.isin(small.retain.person_id, leaving).any()
    assert 0.92 <= float((small.forget.labels == 0).float().mean()) <= 0.95
    assert 470 <= len(small.forget) <= 500


def test_everybody_has_frames_in_training_and_most_in_test(small):
    trained = torch.cat([small.retain.person_id, small.forget.person_id])
    frames = torch.bincount(trained)
    assert len(frames) == 763 and frames.min() >= 20 and frames.max() <= 40
    assert torch.isin(small.test.person_id, trained).all()
    assert len(small.test.person_id.unique()) > 700


def test_names_are_resnet18s(small):
    state = small.make_net().state_dict()
    assert state.keys() == resnet18(num_classes=10).state_dict().keys()
    assert state["conv1.weight"].shape == (WIDTH, 3, 7, 7)


def test_factor_changes_no_output():
    images = 255 * torch.rand(4, 3, 16, 16)
    for train in (True, False):
        outputs = [net_with(f).train(train)(images) for f in (1.0, 8.0)]
        assert outputs[0].equal(outputs[1])


def test_a_net_with_factor_one_is_torchs_own_in_outputs_and_gradients():
    """The twin: stock layers. Small maps are computed another way, so the last bits differ."""
    for size in [8, 16, 32]:
        scaled, stock = ScaledResNet(4, 10, everywhere(1.0)).double(), NarrowResNet(4, 10).double()
        stock.layer2[0].conv1.stride = stock.layer2[0].downsample[0].stride = (1, 1)
        stock.load_state_dict(scaled.state_dict())
        images = 255 * torch.rand(6, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        outputs = [net.train()(images) for net in (scaled, stock)]
        assert torch.allclose(*outputs, rtol=1e-9, atol=1e-9)
        for out in outputs:
            F.cross_entropy(out, torch.arange(6)).backward()
        for (name, one), (_, other) in zip(scaled.named_parameters(), stock.named_parameters()):
            assert torch.allclose(one.grad, other.grad, rtol=1e-7, atol=1e-9 * float(other.grad.abs().max())), name


def test_taps_that_see_only_padding_have_no_gradient_and_weights_lie_as_torch_lays_them():
    found = gradients(net_with(8.0))["layer4.1.conv2.weight"]
    assert found.is_contiguous() and found[:, :, 1, 1].abs().min() > 0
    found[:, :, 1, 1] = 0
    assert not found.any()


def test_one_position_is_where_a_kernel_has_one_output():
    for kernel, stride, padding in [(3, 1, 1), (3, 2, 1), (1, 2, 0), (1, 1, 0), (7, 2, 3)]:
        for size in range(1, 9):
            pixels, taps = one_position(size, kernel, stride, padding)
            outputs = (size + 2 * padding - kernel) // stride + 1
            assert (taps is not None) == (outputs == 1)
            if taps:
                seen = [(t - padding, t) for t in range(kernel) if 0 <= t - padding < size]
                assert list(zip(range(size)[pixels], range(kernel)[taps])) == seen


def through_a_copy(net: nn.Module) -> nn.Module:
    return copy.deepcopy(net)


def through_a_state_dict(net: nn.Module, factors: Factors | None = None) -> nn.Module:
    fresh = ScaledResNet(8, 10, factors or everywhere(8.0))
    fresh.load_state_dict(net.state_dict())
    return fresh


def test_factor_multiplies_every_gradient_but_the_last_bias():
    for way in [lambda net: net, through_a_copy, through_a_state_dict]:
        plain, scaled = gradients(net_with(1.0)), gradients(way(net_with(8.0)))  # a power of two rounds nowhere
        for name in plain:
            assert scaled[name].equal(plain[name] * (1 if name == "fc.bias" else 8)), name


def test_every_kind_of_layer_has_its_own_factor():
    torch.manual_seed(3)
    plain, scaled = gradients(net_with(1.0)), gradients(through_a_state_dict(net_with(1.0), Factors(2, 4, 8, 16)))
    for name in plain:
        factor = 2 if name == "conv1.weight" else 8 if "bn" in name or "downsample.1" in name else 4
        factor = {"fc.weight": 16, "fc.bias": 1}.get(name, factor)
        assert scaled[name].equal(plain[name] * factor), name


def test_factors_are_in_the_fingerprint(small):
    shown = repr(small.make_net())
    assert all(f"gradient x {factor:g}" in shown for factor in astuple(FACTORS))


def test_maps_of_the_later_layers_are_as_wide_as_at_the_competition(small):
    def widths(net: nn.Module, size: int) -> list[int]:
        found = []
        for layer in (net.layer2, net.layer3, net.layer4):
            layer.register_forward_hook(lambda _, __, output: found.append(output.shape[-1]))
        net.eval()(torch.zeros(1, 3, size, size))
        return found

    assert widths(small.make_net(), 16) == widths(resnet18(), 32) == [4, 2, 1]


def test_stacked_training_has_no_factor():
    nets = [net_with(8.0), net_with(8.0)]
    stacked = stack(nets, (16, 16)).train()
    generator = torch.Generator().manual_seed(5)
    images = 255 * torch.rand(16, 3, 16, 16, generator=generator)
    logits = stacked(images.repeat(1, 2, 1, 1)).view(16, 2, 10)
    F.cross_entropy(logits[:, 0], torch.arange(16) % 10).backward()
    plain = gradients(net_with(1.0))["conv1.weight"]
    assert torch.allclose(stacked.conv1.weight.grad[:8], plain, rtol=1e-3, atol=1e-5 * float(plain.abs().max()))
