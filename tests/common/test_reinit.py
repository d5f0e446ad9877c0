"""Re-initialisations touch what they say, draw from what they say, and leave the rest to the bit."""

import math

import pytest
import torch
from torchvision.models import resnet18

from common import reinit
from common.schedules import triangle
from local_eval.tasks.digits import NarrowResNet


@pytest.fixture
def net():
    torch.manual_seed(0)
    return NarrowResNet(16, num_classes=10)


def state(net):
    return {k: v.clone() for k, v in net.state_dict().items()}


def changed(before, net):
    return {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}


def test_exactly_30_percent_of_a_layer_are_redrawn_and_the_rest_stay_bit_identical(net):
    for convolution in reinit.convolutions(net).values():
        weight, before = convolution.weight, convolution.weight.detach().clone()
        gradient = torch.randn_like(weight)
        mask = reinit.redraw_smallest_gradients(weight, gradient, 0.3)
        assert mask.sum() == round(0.3 * weight.numel())
        assert torch.equal(weight[~mask], before[~mask])
        assert not torch.isclose(weight[mask], before[mask]).all()
        assert gradient[mask].abs().max() <= gradient[~mask].abs().min()


def test_redrawn_weights_are_he_normal_by_fan_out(net):
    weight = net.layer4[1].conv2.weight
    mask = reinit.redraw_smallest_gradients(weight, torch.randn_like(weight), 0.3)
    assert weight[mask].std().item() == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.03)


def test_there_are_20_convolutions_in_resnet18():
    assert len(reinit.convolutions(resnet18())) == 20


def test_the_pruned_share_of_the_whole_pool_is_99_percent_and_the_largest_stay(net):
    with torch.no_grad():
        net.layer3[0].conv1.weight.mul_(100)  # all of the survivors then lie here
    before = state(net)
    share = reinit.prune_and_redraw(net, 0.99)
    assert share == pytest.approx(0.99, abs=1e-5)
    pool = [k for k in before if k.startswith("fc") or before[k].ndim == 4]
    flat = torch.cat([before[k].flatten() for k in pool])
    after = torch.cat([net.state_dict()[k].flatten() for k in pool])
    kept = flat == after
    assert kept.sum().item() == flat.numel() - round(0.99 * flat.numel())
    assert flat[kept].abs().min() >= flat[~kept].abs().max()
    assert (net.fc.bias == 0).all(), "pruned biases stay zero"
    assert changed(before, net) <= set(pool), "batch norm is untouched"
    bound = 1 / math.sqrt(128 * 9)
    redrawn = net.layer4[1].conv2.weight
    assert redrawn.abs().max() <= bound
    assert redrawn.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)


def test_transposing_twice_is_the_identity_and_once_is_not(net):
    before = state(net)
    reinit.transpose_kernels(net)
    assert torch.equal(net.conv1.weight[0, 0], before["conv1.weight"][0, 0].T)
    assert changed(before, net) == {k for k, v in before.items() if v.ndim == 4 and v.shape[-1] > 1}
    reinit.transpose_kernels(net)
    assert changed(before, net) == set()


@pytest.mark.parametrize("sigma", [0.04, 0.6])
def test_noise_has_the_stated_spread_and_no_bias(net, sigma):
    weight = net.layer4[1].conv2.weight
    before = weight.detach().clone()
    reinit.add_noise(weight, sigma)
    difference = weight - before
    assert difference.std().item() == pytest.approx(sigma, rel=0.02)
    assert abs(difference.mean().item()) < 4 * sigma / math.sqrt(weight.numel())


def test_named_layers_are_reset_to_pytorchs_default_and_no_others(net):
    before = state(net)
    reinit.reset_layers(net, ("conv1", "fc"))
    assert changed(before, net) == {"conv1.weight", "fc.weight", "fc.bias"}
    assert net.conv1.weight.abs().max().item() <= 1 / math.sqrt(3 * 49)
    assert net.fc.bias.abs().max().item() <= 1 / math.sqrt(128)


def test_random_layers_come_from_the_pool_with_replacement(net):
    pool = ["layer1.0.conv1.weight", "layer2.0.bn1.weight", "layer2.0.bn1.bias"]
    with torch.no_grad():
        net.layer2[0].bn1.weight.fill_(7)
        net.layer2[0].bn1.bias.fill_(7)
    before = state(net)
    chosen = reinit.redraw_random_layers(net, pool, 60)
    assert len(chosen) == 60
    assert set(chosen) == set(pool) == changed(before, net)
    assert (net.layer2[0].bn1.weight == 1).all()
    assert (net.layer2[0].bn1.bias == 0).all()


def test_an_untrained_copy_shares_nothing_and_leaves_the_net_alone(net):
    net.bn1.running_mean.fill_(3)
    before = state(net)
    fresh = reinit.untrained_copy(net)
    assert changed(before, net) == set()
    assert (fresh.bn1.running_mean == 0).all()
    assert not torch.equal(fresh.layer1[0].conv1.weight, net.layer1[0].conv1.weight)


def test_the_triangle_rises_to_the_middle_and_falls_to_a_third():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=3.0)
    schedule, seen = triangle(optimizer, 5), []
    for _ in range(5):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert seen == pytest.approx([1, 2, 3, 2, 1])
