"""Re-initialisations touch what they say, draw from what they say, and leave the rest to the bit."""

import math

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from common import reinit
from common.roles import RoleError
from common.schedules import triangle
from local_eval.tasks.digits import NarrowResNet
from tests import nets


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


def drawn(parameter):
    """A parameter's mean and spread in units of what they were, three and a half and two."""
    return parameter.mean().item() / 3.5, parameter.std(correction=0).item() / 2


def test_every_kind_of_parameter_is_redrawn_by_its_own_law():
    torch.manual_seed(0)
    for make in nets.OTHERS.values():
        net = make()
        for name, parameter in net.named_parameters():
            with torch.no_grad():
                parameter.normal_(3.5, 2)
            kept = drawn(parameter)
            reinit.redraw_as_resnet(net, name)
            layer, kind = net.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
            if kind in ("class_token", "pos_embedding", "layer_scale") or make is nets.vgg:
                assert drawn(parameter) == pytest.approx(kept, abs=0.8), "as they were, as in nets without norms"
            elif "norm" in type(layer).__name__.lower():
                assert (parameter == (kind == "weight")).all(), name
            elif isinstance(layer, nn.Conv2d) and kind == "weight":
                fan_out = parameter.shape[0] * parameter[0, 0].numel()
                assert parameter.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.5), name
            elif isinstance(layer, nn.Linear):
                assert parameter.abs().max().item() <= 1 / math.sqrt(layer.in_features), name
            elif kind == "in_proj_weight":
                assert parameter.abs().max().item() <= math.sqrt(6 / sum(parameter.shape)), name
            else:
                assert kind in ("bias", "in_proj_bias") and (parameter == 0).all(), name


def test_a_parameter_with_one_value_stays_finite_when_it_is_redrawn():
    net = nets.Normalising()
    reinit.redraw_as_resnet(net, "scale")
    assert net.scale.item() == 1


def test_what_does_not_learn_is_neither_redrawn_nor_reset_nor_pruned():
    torch.manual_seed(0)
    net = nets.Fixed()
    before = state(net)
    assert changed(before, reinit.untrained_copy(net)) == {"second.weight", "second.bias"}
    reinit.prune_and_redraw(net, 0.5)
    assert changed(before, net) <= {"second.weight", "second.bias"}
    net.second.weight.requires_grad_(False)
    before = state(net)
    reinit.reset_layers(net, ["second", "head"])
    assert changed(before, net) == {"second.bias"}
    with pytest.raises(RoleError, match="resets first and head, where nothing learns"):
        reinit.reset_layers(net, ["first", "head"])
    with pytest.raises(RoleError, match="none that learns"):
        reinit.learning_convolutions(net)


def test_a_frozen_batch_norm_keeps_its_statistics_in_an_untrained_copy():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.BatchNorm1d(3, affine=False))
    net[0].requires_grad_(False)
    for norm in net:
        norm.running_mean.fill_(3)
    assert [float(norm.running_mean[0]) for norm in reinit.untrained_copy(net)] == [3, 0, 0]


def test_pruning_counts_fused_attention_and_shared_weights_once_and_spares_the_rest_of_a_transformer():
    net = nets.vit()
    twin = nn.Sequential(net, nn.ModuleList([nn.Linear(16, 16, bias=False)]))
    twin[1][0].weight = net.encoder.layers[0].self_attention.out_proj.weight
    pool = reinit.weights_and_biases(twin)
    names = {id(p): name for name, p in net.named_parameters()}
    expected = {n for n in names.values() if not any(part in n for part in ("class", "pos", "ln"))}
    assert [names[id(p)] for p, _ in pool] == sorted({names[id(p)] for p, _ in pool}, key=list(names.values()).index)
    assert {names[id(p)] for p, _ in pool} == expected
    before = state(net)
    reinit.prune_and_redraw(net, 0.99)
    weight = net.encoder.layers[0].self_attention.in_proj_weight
    assert weight.abs().max() <= max(
        1 / math.sqrt(16), before["encoder.layers.encoder_layer_0.self_attention.in_proj_weight"].abs().max()
    )
    assert changed(before, net) <= expected


def test_only_square_kernels_are_transposed():
    net = nn.Sequential(nn.Conv2d(3, 4, (1, 5)), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3))
    before = state(net)
    reinit.transpose_kernels(net)
    assert changed(before, net) == {"2.weight"}
    with pytest.raises(RoleError, match="square kernels larger than 1x1"):
        reinit.transpose_kernels(net[:2])


@pytest.mark.parametrize("make", [nets.cosine, nets.weight_normed], ids=lambda make: make.__name__)
def test_a_layer_without_a_default_of_its_own_is_reset_too(make):
    net, images = make(), torch.rand(8, 3, 16, 16)
    before, answers = state(net), net(images)
    reinit.reset_layers(net, ["head"])
    assert {name for name in before if name.startswith("head") and before[name].std() > 0} <= changed(before, net)
    assert not any(name.startswith(("first", "second")) for name in changed(before, net))
    assert not torch.isclose(net(images), answers, rtol=0.01).any(dim=1).all()


def test_a_layer_that_is_not_there_is_told_before_anything_changes():
    net = nets.vit()
    before = state(net)
    with pytest.raises(RoleError, match="resets fc, and this network has no layer of that name"):
        reinit.reset_layers(net, ["heads.head", "fc"])
    assert changed(before, net) == set()


def test_the_triangle_rises_to_the_middle_and_falls_to_a_third():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=3.0)
    schedule, seen = triangle(optimizer, 5), []
    for _ in range(5):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert seen == pytest.approx([1, 2, 3, 2, 1])
