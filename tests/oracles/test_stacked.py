"""Stacked networks do what the networks do, with fewer weights, and give them back."""

import copy
import itertools
import re

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from local_eval.isolation.device import drawn_so_far
from local_eval.oracles import stacked as stacked_module
from local_eval.oracles.proof import CannotStack
from local_eval.oracles.stacked import SinglePosition, assembled, live_taps, stack, unstack
from local_eval.tasks.digits import NarrowResNet
from tests.oracles.kinds_of_networks import REFUSED, Small, variant


def nets(number=3, make=lambda: NarrowResNet(2, num_classes=5)):
    """Networks whose statistics and affine parameters are not the initial ones."""
    found = []
    for seed in range(number):
        torch.manual_seed(seed)
        net = make().double()
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                for tensor in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                    tensor.uniform_(0.5, 1.5)
        found.append(net)
    return found


def images(number, size=32):
    return torch.randn(6, number, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("size", [32, 28, 16, 64])
def test_outputs_and_gradients_equal_the_single_networks(size):
    """The twin is the networks themselves, one after the other; 64 pixels leave no dead taps in most layers."""
    ours, x = nets(2), images(2, size)
    stacked = stack(ours, (size, size))
    for training in (True, False):
        found = stacked.train(training)(x.flatten(1, 2)).view(6, 2, 5)
        stacked.zero_grad()
        found.pow(2).sum().backward()
        for number, net in enumerate(ours):
            net.zero_grad()
            expected = net.train(training)(x[:, number])
            expected.pow(2).sum().backward()
            assert torch.allclose(found[:, number], expected, rtol=1e-10)
            gradient = net.layer2[0].conv1.weight.grad
            theirs = stacked.layer2[0].conv1.weight.grad.chunk(2)[number]
            assert torch.allclose(theirs, gradient, rtol=1e-8, atol=1e-12)


def test_what_is_left_out_never_gets_a_gradient_and_what_stays_always_may():
    torch.manual_seed(0)
    net = resnet18(num_classes=10)
    live = sum(p.numel() for p in assembled([net], (32, 32), 3).parameters())
    assert live == 4_234_826
    assert sum(p.numel() for p in net.parameters()) - live == 6_946_816
    net(torch.randn(64, 3, 32, 32)).square().sum().backward()
    dead = sum(int((m.weight.grad == 0).all(dim=(0, 1)).sum()) * m.weight[:, :, 0, 0].numel() for m in net.modules()
               if isinstance(m, nn.Conv2d))  # fmt: skip
    assert dead == 6_946_816


def test_live_taps_are_those_that_touch_a_pixel():
    for kernel, stride, padding, length in itertools.product((1, 2, 3, 5, 7), (1, 2, 3), (0, 1, 3), (1, 2, 3, 4, 8)):
        if length + 2 * padding < kernel or padding >= kernel:
            continue
        weight = torch.ones(1, 1, kernel, requires_grad=True)
        nn.functional.conv1d(torch.ones(1, 1, length), weight, stride=stride, padding=padding).sum().backward()
        touched = weight.grad[0, 0].nonzero().flatten().tolist()
        taps = live_taps(kernel, stride, padding, length)
        assert taps == slice(touched[0], touched[-1] + 1), (kernel, stride, padding, length)


def test_what_is_written_back_is_what_was_stacked():
    ours = nets()
    before = [copy.deepcopy(net.state_dict()) for net in ours]
    stacked = stack(ours, (32, 32))
    for net in ours:
        for tensor in (*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())):
            tensor.data.add_(1.0)
    unstack(stacked, ours)
    x = images(3)
    for number, (net, state) in enumerate(zip(ours, before)):
        original = NarrowResNet(2, num_classes=5).double()
        original.load_state_dict(state)
        assert torch.allclose(net.eval()(x[:, number]), original.eval()(x[:, number]), rtol=1e-12)
        assert torch.equal(net.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])


def test_convolutions_with_one_output_become_products_of_matrices():
    stacked = stack(nets(2), (32, 32))
    kinds = [name for name, layer in stacked.named_modules() if isinstance(layer, SinglePosition)]
    assert kinds == ["layer4.0.conv1", "layer4.0.conv2", "layer4.0.downsample.0", "layer4.1.conv1", "layer4.1.conv2"]


class WithBias(nn.Module):
    """No ResNet: biases, another pooling, another order."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 5, padding=2), nn.ReLU(), nn.AvgPool2d(4), nn.Conv2d(6, 4, 3, groups=2), nn.Flatten()
        )
        self.head = nn.Linear(4 * 36, 5)

    def forward(self, x):
        return self.head(self.body(x))


def test_other_networks_of_known_layers_are_stacked_too():
    ours, x = nets(3, WithBias), images(3)
    found = stack(ours, (32, 32))(x.flatten(1, 2)).view(6, 3, 5)
    for number, net in enumerate(ours):
        assert torch.allclose(found[:, number], net(x[:, number]), rtol=1e-10)


def test_a_layer_of_a_known_kind_with_unknown_settings_is_refused():
    for make in (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, dilation=2), nn.Flatten()),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.Flatten()),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=None), nn.Flatten()),
    ):
        with pytest.raises(CannotStack, match="cannot be stacked"):
            stack([make(), make()], (32, 32))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_cannot_be_shown_to_be_right_is_refused_and_says_why():
    """Never a raw error of torch's, never a stack that is wrong in silence."""
    for name, (make, message) in REFUSED.items():
        with pytest.raises(CannotStack) as refused:
            stack([make(), make()], (16, 16))
        assert re.search(message, str(refused.value)), (name, str(refused.value))
        assert "\n" not in str(refused.value), name


def test_images_of_other_than_three_channels_are_stacked_too():
    for channels in (1, 2, 5):
        ours, x = nets(2, lambda channels=channels: Small(channels)), images(2, 16)[:, :, [0, 1, 2, 0, 1][:channels]]
        found = stack(ours, (16, 16), channels).train()(x.flatten(1, 2)).view(6, 2, 3)
        for number, net in enumerate(ours):
            assert torch.allclose(found[:, number], net(x[:, number]), rtol=1e-10), channels


class OtherStem(NarrowResNet):
    """torchvision's ResNet, but for its stem: its ReLU and pooling may not change places."""

    def __init__(self):
        super().__init__(2, num_classes=3)
        self.maxpool = nn.AvgPool2d(2)


def test_a_resnet_with_another_stem_keeps_the_order_of_its_stem():
    ours, x = nets(2, OtherStem), images(2, 16)
    found = stack(ours, (16, 16)).train()(x.flatten(1, 2)).view(6, 2, 3)
    for number, net in enumerate(ours):
        assert torch.allclose(found[:, number], net(x[:, number]), rtol=1e-10)


def test_a_stack_is_shown_once_a_kind_and_draws_nothing_that_others_would_miss(monkeypatch):
    shown = []
    monkeypatch.setattr(stacked_module, "prove", lambda net, count, *rest: shown.append(count))
    monkeypatch.setattr(stacked_module, "prove_outputs", lambda net, count, *rest: shown.append(count))
    stacked_module._fault_of.cache_clear()
    ours, six = [Small() for _ in range(3)], [Small() for _ in range(6)]
    before = drawn_so_far()
    for _ in range(2):
        stack(ours, (16, 16))
    stack(ours[:2], (16, 16))
    stack(ours, (20, 20))
    stack(six, (16, 16))
    assert (shown, drawn_so_far()) == ([3, 2, 3, 4, 6], before)
    stacked_module._fault_of.cache_clear()


def _counts_channels(self, x):
    found = Small.features(self, x)
    return found + (found.size(1) - 4) * (found.size(1) - 16) * found


def test_a_forward_that_is_right_in_the_stacks_that_are_proven_in_full_and_wrong_in_deeper_ones_is_refused_there():
    kind = variant("Counts", features=_counts_channels)
    stack([kind() for _ in range(4)], (16, 16))
    for number in (5, 8):
        with pytest.raises(CannotStack, match=f"outputs of {number} differ"):
            stack([kind() for _ in range(number)], (16, 16))


@pytest.mark.parametrize("number", range(3))
def test_the_proof_finds_a_stack_that_is_wrong_in_one_number(monkeypatch, number):
    """Fooled layer by layer: a gradient, a statistic, or what is written back is slightly off."""
    wrong = [_wrong_gradient, _wrong_statistic, _wrong_writing][number]
    wrong(monkeypatch)
    stacked_module._fault_of.cache_clear()
    with pytest.raises(CannotStack, match="differ"):
        stack([Small(), Small()], (16, 16))
    stacked_module._fault_of.cache_clear()


def _wrong_gradient(monkeypatch):
    real = stacked_module.StackedLinear.forward
    scaled = lambda self, x: real(self, x + 1e-3 * (x - x.detach()))  # noqa: E731
    monkeypatch.setattr(stacked_module.StackedLinear, "forward", scaled)


def _wrong_statistic(monkeypatch):
    def forward(self, x):
        y = nn.BatchNorm2d.forward(self, x)
        self.running_var.data[0] *= 1.001
        return y

    monkeypatch.setattr(stacked_module.StackedBatchNorm, "forward", forward)


def _wrong_writing(monkeypatch):
    real = stacked_module.StackedLinear.write_back

    def forgets_a_bias(self, same):
        bias = same[0].bias.detach().clone()
        real(self, same)
        same[0].bias.data.copy_(bias)

    monkeypatch.setattr(stacked_module.StackedLinear, "write_back", forgets_a_bias)
