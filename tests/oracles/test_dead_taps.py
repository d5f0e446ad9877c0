"""What the docstrings say about weights that see only padding at 32x32 is measured here, on torchvision's resnet18."""

import pytest
import torch
from torch.nn import functional as F
from torchvision.models import resnet18

from common.reinit import convolutions, prune_and_redraw, redraw_smallest_gradients
from submissions.salun import saliency_masks

IMAGES = 96  # so many that no live weight has a gradient of zero by chance


@pytest.fixture(scope="module")
def net_and_dead():
    """An untrained resnet18 after one backward pass, and per convolution which taps got exactly zero gradient."""
    torch.manual_seed(0)
    net = resnet18(num_classes=10)
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0  # so that eval mode sees sensible statistics after this one pass
    F.cross_entropy(net(255 * torch.rand(IMAGES, 3, 32, 32)), torch.randint(10, (IMAGES,))).backward()
    dead = {}
    for name, convolution in convolutions(net).items():
        tap_gets_gradient = (convolution.weight.grad != 0).any(dim=(0, 1))
        dead[name] = (~tap_gets_gradient).expand_as(convolution.weight)
    return net, dead


def test_62_percent_of_all_weights_are_dead(net_and_dead):
    net, dead = net_and_dead
    assert sum(int(mask.sum()) for mask in dead.values()) == 6_946_816
    assert sum(p.numel() for p in net.parameters()) == 11_181_642
    assert {name for name, mask in dead.items() if mask.any()} == {
        "layer4.0.conv1", "layer4.0.conv2", "layer4.1.conv1", "layer4.1.conv2",
    }  # fmt: skip


def test_what_kookmin_redraws_is_dead_to_three_quarters(net_and_dead):
    net, dead = net_and_dead
    redrawn, of_them_dead = 0, 0
    for name, convolution in convolutions(net).items():
        mask = redraw_smallest_gradients(convolution.weight.detach().clone(), convolution.weight.grad, 0.3)
        redrawn += int(mask.sum())
        of_them_dead += int((mask & dead[name]).sum())
        if dead[name].any():
            assert bool((mask <= dead[name]).all()), "in layer4's 3x3 convolutions nothing live is redrawn"
    assert of_them_dead / redrawn == pytest.approx(0.74, abs=0.005)


def test_what_oleszko_prunes_is_dead_to_63_percent_once_weight_decay_has_worked(net_and_dead):
    """Dead taps move under weight decay alone; here it is taken to its end, as after 30 epochs of the recipe."""
    net, dead = net_and_dead
    decayed = resnet18(num_classes=10)
    decayed.load_state_dict(net.state_dict())
    with torch.no_grad():
        for name, convolution in convolutions(decayed).items():
            convolution.weight[dead[name]] = 0.0
    before = {name: c.weight.detach().clone() for name, c in convolutions(decayed).items()}
    pool = sum(w.numel() for w in before.values()) + decayed.fc.weight.numel() + decayed.fc.bias.numel()
    prune_and_redraw(decayed, 0.99)
    dead_redrawn = sum(int((c.weight != before[n])[dead[n]].sum()) for n, c in convolutions(decayed).items())
    assert dead_redrawn / (0.99 * pool) == pytest.approx(0.63, abs=0.005)
    live = pool - sum(int(mask.sum()) for mask in dead.values())
    assert 0.01 * pool / live == pytest.approx(0.026, abs=0.001)


def test_saluns_mask_freezes_dead_weights_nearly_only(net_and_dead):
    net, dead = net_and_dead
    batch = {"image": 255 * torch.rand(IMAGES, 3, 32, 32), "age_group": torch.randint(10, (IMAGES,))}
    masks = dict(zip((n for n, _ in net.named_parameters()), saliency_masks(net, [batch], 0.5)))
    frozen = sum(int((~mask).sum()) for mask in masks.values())
    frozen_dead = sum(int((~masks[f"{name}.weight"] & dead[name]).sum()) for name in dead)
    assert frozen_dead / frozen > 0.95
