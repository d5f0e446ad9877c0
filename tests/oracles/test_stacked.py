"""Stacked networks do what the networks do, with fewer weights, and give them back."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from local_eval.oracles.stacked import CannotStack, SinglePosition, live_taps, stack, unstack
from local_eval.tasks.digits import NarrowResNet


def nets(number=3, make=lambda: NarrowResNet(4, num_classes=5)):
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
@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients_equal_the_single_networks(size, training):
    """The twin is the networks themselves, one after the other; 64 pixels leave no dead taps in most layers."""
    ours, x = nets(), images(3, size)
    stacked = stack(ours, (size, size)).train(training)
    found = stacked(x.flatten(1, 2)).view(6, 3, 5)
    found.pow(2).sum().backward()
    for number, net in enumerate(ours):
        expected = net.train(training)(x[:, number])
        expected.pow(2).sum().backward()
        assert torch.allclose(found[:, number], expected, rtol=1e-10)
        gradient = net.layer2[0].conv1.weight.grad
        theirs = stacked.layer2[0].conv1.weight.grad.chunk(3)[number]
        assert torch.allclose(theirs, gradient, rtol=1e-8, atol=1e-12)


def test_what_is_left_out_never_gets_a_gradient_and_what_stays_always_may():
    torch.manual_seed(0)
    net = resnet18(num_classes=10)
    live = sum(p.numel() for p in stack([net], (32, 32)).parameters())
    assert live == 4_234_826
    assert sum(p.numel() for p in net.parameters()) - live == 6_946_816
    net(torch.randn(256, 3, 32, 32)).square().sum().backward()
    dead = sum(int((m.weight.grad == 0).all(dim=(0, 1)).sum()) * m.weight[:, :, 0, 0].numel() for m in net.modules()
               if isinstance(m, nn.Conv2d))  # fmt: skip
    assert dead == 6_946_816


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 3])
def test_live_taps_are_those_that_touch_a_pixel(kernel, stride, padding):
    for length in (1, 2, 3, 4, 8):
        if length + 2 * padding < kernel or padding >= kernel:
            continue
        weight = torch.ones(1, 1, kernel, requires_grad=True)
        nn.functional.conv1d(torch.ones(1, 1, length), weight, stride=stride, padding=padding).sum().backward()
        touched = weight.grad[0, 0].nonzero().flatten().tolist()
        taps = live_taps(kernel, stride, padding, length)
        assert taps == slice(touched[0], touched[-1] + 1), (length, touched)


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
        original = NarrowResNet(4, num_classes=5).double()
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


class MixesChannels(WithBias):
    """What it does between its layers is not done channel by channel."""

    def forward(self, x):
        return self.head(self.body(x).softmax(dim=1))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)), "GroupNorm cannot be stacked"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, dilation=2)), "cannot be stacked"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=None)), "cannot be stacked"),
        (MixesChannels, "compute something else"),
    ],
)
def test_what_cannot_be_stacked_is_refused(make, message):
    with pytest.raises(CannotStack, match=message):
        stack([make(), make()], (32, 32))
