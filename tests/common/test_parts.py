"""Parts of networks and of data are those that their names say, and a network is afterwards what it was."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.models import resnet18

from common.parts import clipped_epoch, last_layers, mixed, only_learning, squared_gradients
from common.roles import RoleError
from local_eval.methods.loaders import Examples, make_loader
from tests import nets
from tests.tiny_task import tiny_net


def in_batches(split, size):
    """A loader in the split's order."""
    return DataLoader(Examples(split), batch_size=size)


def test_squared_gradients_are_the_mean_over_batches_by_a_slow_twin(tiny):
    net, loader = tiny_net().train(), in_batches(tiny.forget, 6)  # batches of 6, 6 and 4
    start = copy.deepcopy(net.state_dict())
    found = squared_gradients(net, loader)
    twin, squares = copy.deepcopy(net).eval(), []
    for batch in loader:
        loss = F.cross_entropy(twin(batch["image"]), batch["age_group"])
        squares.append([gradient**2 for gradient in torch.autograd.grad(loss, list(twin.parameters()))])
    assert len(squares) == 3
    for (name, value), each in zip(found.items(), zip(*squares)):
        assert torch.allclose(value, torch.stack(each).mean(0), rtol=1e-5, atol=1e-12), name
    assert all(torch.equal(value, start[name]) for name, value in net.state_dict().items()), "statistics too"
    assert all(parameter.grad is None for parameter in net.parameters())


def test_what_takes_no_part_and_what_does_not_learn_have_squared_gradients_of_zero_and_none(tiny):
    found = squared_gradients(nets.Auxiliary(), in_batches(tiny.forget, 16))
    assert found["auxiliary.weight"].abs().sum() == 0 < found["head.weight"].sum()
    assert list(squared_gradients(nets.Fixed(), in_batches(tiny.forget, 16))) == ["second.weight", "second.bias"]


LAST = {  # network -> its last three layers and the norms between and behind them
    nets.vit: ["encoder.layers.encoder_layer_1.mlp.0", "encoder.layers.encoder_layer_1.mlp.3", "encoder.ln",
               "heads.head"],
    nets.vgg: ["features.3", "classifier.0", "classifier.3"],
    nets.Features: ["first", "second", "head"],
    nets.Normalising: ["first", "second", "head", "after"],
    nets.TwoHeads: ["second", "head", "other"],
    nets.Auxiliary: ["first", "second", "head"],
    nets.cosine: ["first", "second", "head"],
    nets.weight_normed: ["first", "second", "head"],
    nets.mlp: ["1", "3"],
}  # fmt: skip


def test_the_last_layers_are_the_last_that_an_image_meets_whatever_the_order_of_attributes(tiny):
    loader = make_loader(tiny.retain)
    for make, expected in LAST.items():
        net = make().train()
        before, drawn = copy.deepcopy(net.state_dict()), torch.get_rng_state()
        assert last_layers(net, loader, 3) == expected, make
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items()), make
        assert torch.equal(torch.get_rng_state(), drawn) and net.training
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    attention = last_layers(nets.vit(), loader, 4)
    assert attention[:2] == ["encoder.layers.encoder_layer_1.self_attention", "encoder.layers.encoder_layer_1.ln_2"]
    assert last_layers(nets.TwoHeads(), loader, 1) == ["head", "other"], "heads come together"


def test_six_layers_are_the_last_stage_and_the_head_of_a_resnet18(tiny):
    layers = last_layers(resnet18(num_classes=3), make_loader(tiny.retain), 6)
    names = {name for name, module in resnet18().named_modules() if list(module.parameters(recurse=False))}
    assert set(layers) == {name for name in names if name.startswith(("layer4", "fc"))}
    assert len(layers) == len(set(layers)) == 11, "five convolutions, as many norms, and fc"


def test_a_network_whose_last_layers_cannot_be_told_or_do_not_learn_is_refused(tiny):
    loader, frozen = make_loader(tiny.retain), nets.Features().requires_grad_(False)
    for net, said in (
        (nets.Bare(), "cannot be told"),
        (nets.Functional(), "cannot be told"),
        (frozen, "nothing learns"),
    ):
        with pytest.raises(RoleError, match=said):
            last_layers(net, loader, 2)


def test_only_what_is_named_learns_and_moves_statistics_and_afterwards_all_is_as_before(tiny):
    net = tiny_net()
    net.conv1.requires_grad_(False)
    loader = make_loader(tiny.retain)
    start = copy.deepcopy(net.state_dict())
    with only_learning(net, ["layer4.1.bn2", "fc"]) as parameters:
        assert len(parameters) == 4 == sum(p.requires_grad for p in net.parameters())
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        clipped_epoch(net, loader, optimizer, parameters, 10.0)
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, start[name])}
    assert {name.rpartition(".")[0] for name in changed} == {"layer4.1.bn2", "fc"}
    assert "layer4.1.bn2.running_mean" in changed
    assert [name for name, p in net.named_parameters() if not p.requires_grad] == ["conv1.weight"]
    assert not any(module.training for module in net.modules())
    with pytest.raises(ZeroDivisionError), only_learning(net, ["fc"]):
        1 / 0  # noqa: B018
    assert sum(not p.requires_grad for p in net.parameters()) == 1


def test_a_step_is_as_long_as_its_clipped_gradient(tiny):
    for norm, length in ((1e-3, 1e-3), (1e6, None)):
        net = nets.mlp()
        parameters, before = list(net.parameters()), [p.detach().clone() for p in net.parameters()]
        loader = in_batches(tiny.forget, 16)
        batch = next(iter(loader))
        gradient = torch.autograd.grad(F.cross_entropy(net(batch["image"]), batch["age_group"]), parameters)
        clipped_epoch(net, loader, torch.optim.SGD(parameters, lr=0.5), parameters, norm)
        moved = nn.utils.parameters_to_vector(parameters) - nn.utils.parameters_to_vector(before)
        whole = nn.utils.parameters_to_vector(gradient).norm().item()
        assert moved.norm().item() == pytest.approx(0.5 * (length or whole), rel=1e-3)


def test_a_mixed_loader_has_the_forget_set_marked_and_a_share_of_the_retain_set_drawn_anew(tiny):
    loaders = make_loader(tiny.forget), make_loader(tiny.retain)
    drawn = []
    for _ in range(2):
        batches = list(mixed(*loaders, 0.25, 32))
        assert [len(batch["image"]) for batch in batches] == [32, 8]
        marks, ids = (torch.cat([batch[key] for batch in batches]) for key in ("forget", "image_id"))
        assert sorted(ids[marks == 1].tolist()) == tiny.forget.image_id.tolist()
        assert len(set(ids[marks == 0].tolist()) & set(tiny.retain.image_id.tolist())) == 24 == int((marks == 0).sum())
        drawn.append((ids.tolist(), set(ids[marks == 0].tolist())))
    assert drawn[0][0] != drawn[1][0] and drawn[0][1] != drawn[1][1]
    example = next(iter(mixed(*loaders, 0.25, 40)))
    where = {int(i): k for k, i in enumerate(example["image_id"])}
    first = where[int(tiny.forget.image_id[0])]
    assert torch.equal(example["image"][first], tiny.forget.pixels(slice(0, 1))[0])
