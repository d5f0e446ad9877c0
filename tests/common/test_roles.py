"""The roles of layers are found in networks of any kind and order, are resnet18's by name there, and cost nothing."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from common.roles import RoleError, find_roles, is_in, learning, norms, weight_that_learns
from local_eval.tasks.competition_small import WIDTH
from local_eval.tasks.digits import NarrowResNet
from local_eval.tasks.scaled_layers import Factors, ScaledResNet
from tests import nets

LOADER = SimpleNamespace(dataset=SimpleNamespace(image_shape=(3, 16, 16)))
PROJECTIONS = {f"layer{k}.0.downsample.{part}" for k in (1, 2, 3, 4) for part in (0, 1)}
FOUND = {  # the first layer, the last ones, and the projection shortcuts
    nets.vit: ("conv_proj", ("heads.head",), set()),
    nets.convnext: ("features.0.0", ("classifier.2",), set()),
    nets.mobilenet: ("features.0.0", ("classifier.1",), set()),
    nets.vgg: ("features.0", ("classifier.3",), set()),
    nets.bottleneck: ("conv1", ("fc",), PROJECTIONS),
    nets.mlp: ("1", ("3",), set()),
    nets.conv_head: ("0", ("2",), set()),
    nets.Features: ("first", ("head",), set()),
    nets.Auxiliary: ("first", ("head",), set()),
    nets.TwoHeads: ("first", ("head", "other"), set()),
    nets.Fixed: ("first", ("head",), set()),
    nets.Normalising: ("first", ("head",), set()),
    nets.Positions: ("first", ("head",), set()),
    nets.FrozenBody: ("first", ("head",), set()),
    nets.cosine: ("first", ("head",), set()),
    nets.weight_normed: ("first", ("head",), set()),
    nets.Bare: ("first", (), set()),
    nets.Prototypes: ("first", (), set()),
    nets.Functional: ("first", (), set()),
}


@pytest.mark.parametrize("make", FOUND, ids=lambda make: make.__name__)
def test_first_and_last_layers_and_shortcuts_are_found_whatever_their_names_and_order(make):
    roles, (stem, heads, shortcuts) = find_roles(make(), LOADER), FOUND[make]
    assert (roles.stem, roles.last, roles.shortcuts, roles.classes) == (stem, heads, shortcuts, nets.CLASSES)
    if not heads:
        with pytest.raises(RoleError, match="last layer cannot be told: .*3 class outputs"):
            roles.layers(["head"])


RESNETS = {
    "torchvision": lambda: resnet18(num_classes=10),
    "digits": lambda: NarrowResNet(4, 10),
    "competition_small": lambda: ScaledResNet(WIDTH, 10, Factors(2.0, 4.0, 8.0, 16.0)),
}


@pytest.mark.parametrize("kind", RESNETS)
def test_in_resnet18_the_roles_are_what_the_names_say(kind):
    net = RESNETS[kind]()
    roles, names = find_roles(net, LOADER), [name for name, _ in net.named_parameters()]
    assert roles.layers(["stem", "head", "conv1", "layer1"]) == ["conv1", "fc", "layer1"]
    assert roles.classes == net.fc.out_features
    assert roles.shortcuts == {name for name in PROJECTIONS if not name.startswith("layer1")}
    assert list(learning(net)) == names
    always = norms(net) - roles.shortcuts
    assert [name for name in names if not is_in(name, always)] == [name for name in names if "bn" not in name]
    spared = roles.layers(["head", "shortcuts"])
    pool = [name for name in names if "fc" not in name and "downsample" not in name]
    assert [name for name in names if not is_in(name, spared)] == pool
    weighted = [f"{name}.{k}" for name, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)
                for k, _ in m.named_parameters(recurse=False)]  # fmt: skip
    assert [name for name in names if not is_in(name, norms(net))] == weighted


@pytest.mark.parametrize("make", [*nets.OTHERS.values(), nets.Fixed, nets.Normalising], ids=lambda m: m.__name__)
def test_looking_changes_nothing(make):
    net = make()
    net.train()
    next(net.children()).eval()  # a mode of its own, as a frozen batch norm has
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes, learns = [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]
    torch.manual_seed(5)
    drawn, _ = torch.rand(4), torch.manual_seed(5)
    with torch.no_grad():
        find_roles(net, LOADER)
    assert torch.equal(torch.rand(4), drawn)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [m.training for m in net.modules()] == modes
    assert [p.requires_grad for p in net.parameters()] == learns
    assert all(p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks for m in net.modules())


def test_the_net_is_left_as_it_was_when_the_pass_fails():
    net = nets.Fixed().train()
    net.second = nn.Conv2d(5, 4, 3)
    with pytest.raises(RuntimeError, match="channels"):
        find_roles(net, LOADER)
    assert net.training and not net.head.weight.requires_grad
    assert not any(m._forward_hooks for m in net.modules())


class Answering(nets.Features):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(super().forward(x))


@pytest.mark.parametrize(
    "net, said",
    [
        (Answering(lambda logits: (logits, logits)), "answers two images with a tuple"),
        (Answering(lambda logits: {"logits": logits}), "answers two images with a dict"),
        (Answering(lambda logits: logits.mean()), r"with \(\), not with a tensor of \(2, classes\)"),
        (Answering(lambda logits: logits.detach()), "computes without gradients"),
        (nn.Sequential(nn.Flatten()), "has no parameters"),
        (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(768)), "calls no layer that holds weights"),
    ],
)
def test_what_has_no_roles_is_told_in_one_sentence(net, said):
    with pytest.raises(RoleError, match=said):
        find_roles(net, LOADER)


def test_an_image_is_read_only_from_data_sets_that_do_not_know_their_size():
    assert find_roles(nets.vit(), SimpleNamespace(dataset=[{"image": torch.zeros(3, 16, 16)}])).stem == "conv_proj"


def test_norms_of_all_kinds_are_norms_and_nothing_else_is():
    class OwnRMSNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1, 4, 1, 1))

    class NormalisedLinear(nn.Linear):
        pass

    kinds = [nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.BatchNorm2d(4), nn.InstanceNorm2d(4, affine=True), OwnRMSNorm()]
    net = nn.Sequential(*kinds, NormalisedLinear(4, 4), nn.PReLU(), nn.Conv2d(1, 1, 1))
    assert norms(net) == {"0", "1", "2", "3", "4"}
    assert len(norms(nets.convnext())) == 5, "LayerNorm2d too"


@pytest.mark.parametrize(
    "make, said", [(nets.weight_normed, "computed from other parameters"), (nets.Fixed, "does not learn")]
)
def test_a_weight_that_a_method_cannot_change_is_told(make, said):
    with pytest.raises(RoleError, match=f"the weight of first, .* {said}"):
        weight_that_learns(make(), "first")
