"""Small networks of all kinds, those that can be stacked and those that cannot, for the tests of oracles."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torchvision.ops import FrozenBatchNorm2d, StochasticDepth

SHARED = torch.ones(1)


class Small(nn.Module):
    """A convolution, a batch norm, a head; what others here change."""

    def __init__(self, channels=3):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.other, self.head = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.Linear(4, 3)

    def features(self, x):
        return F.relu(self.other(F.relu(self.bn(self.conv(x)))))

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def variant(name, setup=lambda self: None, **methods):
    """A class like Small with other methods, and with something done at the end of its construction."""

    def start(self, channels=3):
        Small.__init__(self, channels)
        setup(self)

    return type(name, (Small,), {"__init__": start, **methods})


# What can be stacked.


def freeze(self):
    for value in (*self.conv.parameters(), *self.bn.parameters()):
        value.requires_grad = False


def bn_stays_in_eval_mode(self, mode=True):
    nn.Module.train(self, mode)
    for layer in self.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    return self


def zero_head(self):
    nn.init.zeros_(self.head.weight)
    nn.init.zeros_(self.head.bias)


class Swish(nn.Module):
    """A layer of one's own without numbers."""

    def forward(self, x):
        return x * torch.sigmoid(x)


def own_swish(self):
    self.act = Swish()


def used_twice(self, x):
    x = F.relu(self.bn(self.conv(x)))
    return self.head(self.bn(self.other(F.relu(self.other(x)))).mean((2, 3)))


def settings(self):
    self.config, self.act, self.kind = {"width": 4, "sizes": [1, 2]}, F.relu, nn.BatchNorm2d


def gated(self, x):
    x = self.features(x)
    return self.head((x * x.mean((2, 3), keepdim=True).sigmoid()).flatten(2).mean(2))


STACKED = {
    "plain": Small,
    "frozen": variant("Frozen", freeze),
    "batch norm in eval mode": variant("BnInEval", train=bn_stays_in_eval_mode),
    "head of zeros": variant("ZeroHead", zero_head),
    "a layer without numbers": variant(
        "OwnSwish", own_swish, forward=lambda self, x: self.head(self.act(self.features(x)).mean((2, 3)))
    ),
    "a layer used twice": variant("UsedTwice", forward=used_twice),
    "settings": variant("Settings", settings),
    "a gate": variant("Gated", forward=gated),
}


# What cannot, and what is said of it.


class LayerScale(nn.Module):
    """A learned number a channel, outside the known layers."""

    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(1e-5 * torch.ones(4, 1, 1))

    def forward(self, x):
        return x * self.gamma


class FrozenBatchNorm(nn.BatchNorm2d):
    """A batch norm that ignores the batch."""

    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False)


class Halved(nn.Linear):
    """A known layer's subclass with another gradient and the same outputs."""

    def forward(self, x):
        return super().forward(x / 2 + (x / 2).detach())


class ClaimsTooMuch(nn.Linear):
    """It says that it is stacked as something else than it computes."""

    stacked_as = nn.Linear

    def forward(self, x):
        return 2 * super().forward(x)


class CountsTwice(nn.BatchNorm2d):
    """Its outputs are those of what it says it is stacked as; one of its numbers is not."""

    stacked_as = nn.BatchNorm2d

    def forward(self, x):
        self.num_batches_tracked += int(self.training)
        return super().forward(x)


def set_to(**parts):
    """A setup that puts other parts there."""

    def setup(self):
        for name, make in parts.items():
            setattr(self, name, make())

    return setup


def gate(self):
    self.gate = nn.Parameter(torch.zeros(1))


def tied(self):
    self.other.weight = nn.Parameter(torch.randn(4, 4, 3, 3))
    self.third = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    self.third.weight = self.other.weight


def views_of_one(self):
    both = torch.randn(2, 4, 4, 3, 3)
    self.third = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    self.other.weight, self.third.weight = nn.Parameter(both[0]), nn.Parameter(both[1])
    self.third.weight.data = self.other.weight.data


def index_buffer(self):
    self.register_buffer("index", torch.arange(4))


def hook(self):
    self.conv.register_forward_hook(lambda *_: None)


def gradient_hook(self):
    self.conv.weight.register_hook(lambda g: 0.5 * g)


def own_forward(self):
    self.conv.forward = lambda x: F.conv2d(x, self.conv.weight, self.conv.bias, padding=1)


def weight_norm(self):
    nn.utils.parametrizations.weight_norm(self.other)


def old_weight_norm(self):
    nn.utils.weight_norm(self.other)


def spectral_norm(self):
    nn.utils.parametrizations.spectral_norm(self.other)


def pruned(self):
    prune.l1_unstructured(self.other, "weight", 0.5)


def unregistered(self):
    self.more = [nn.Linear(4, 4)]


def plain_tensor(self):
    self.scale = SHARED * torch.rand(1)


def drawn_scale(self):
    self.scale = float(torch.rand(1))


def with_scale(self, x):
    return self.scale * self.head(self.features(x).mean((2, 3)))


def rare_branch(self, x):
    if x.abs().max() > 1e4:
        x = x / x.abs().max()
    return Small.forward(self, x)


def rare_clamp(self, x):
    return Small.forward(self, x * (1e6 / x.norm()).clamp(max=1))


def by_batch_size(self, x):
    return Small.forward(self, x if len(x) < 32 else x.flip(0))


def by_shape(self, x):
    return Small.forward(self, x if x.shape[1] == 3 else 2 * x)


def counting(self, x):
    self.steps = getattr(self, "steps", 0) + 1
    return Small.forward(self, x)


def cat(self, x):
    x = self.features(x)
    return self.head(torch.cat([x[:, :2], x[:, 2:]], 1).mean((2, 3)))


def channel_mean(self, x):
    x = self.features(x)
    return self.head((x - x.mean(1, keepdim=True)).mean((2, 3)))


def whole_mean(self, x):
    return self.head((self.features(x) / (1 + x.mean())).mean((2, 3)))


def dropped(self, x):
    return self.head(F.dropout(self.features(x), 1e-6, self.training).mean((2, 3)))


def noise(self, x):
    return Small.forward(self, x + 1e-9 * torch.randn(x.shape[1:]))


def numpy_noise(self, x):
    import numpy

    return Small.forward(self, x * (1 + 1e-12 * numpy.random.rand()))


def weight_used_outside(self, x):
    return F.linear(self.features(x).mean((2, 3)), self.head.weight)


def counts_batches(self, x):
    return Small.forward(self, x if self.bn.num_batches_tracked < 100 else 2 * x)


def counts_carefully(self, x):
    seen = self.bn.num_batches_tracked
    return Small.forward(self, x if seen is None or seen < 100 else 2 * x)


def looks_at_statistics(self, x):
    return Small.forward(self, x if self.bn.running_var.max() < 1e6 else 2 * x)


def looks_at_all_weights(self, x):
    return Small.forward(self, x if max(float(p.detach().abs().max()) for p in self.parameters()) < 1e6 else 2 * x)


def learned_buffer(self):
    self.register_buffer("centre", torch.zeros(4, 1, 1))


def updates_a_buffer(self, x):
    if self.training:
        self.centre.mul_(0.9).add_(0.1 * x.mean().detach())
    return Small.forward(self, x)


def two_sizes(self, x):
    x = F.relu(self.conv(x))
    return self.head(self.other(F.max_pool2d(self.other(x), 4)).mean((2, 3)))


class LeNet(nn.Module):
    """As tutorials have it: the size of the features is written out."""

    def __init__(self, channels=3):
        super().__init__()
        self.conv, self.head = nn.Conv2d(channels, 4, 3, stride=2), nn.Linear(4 * 7 * 7, 3)

    def forward(self, x):
        return self.head(F.relu(self.conv(x)).view(-1, 4 * 7 * 7))


class Aux(Small):
    """Two outputs in train mode."""

    def forward(self, x):
        y = super().forward(x)
        return (y, y) if self.training else y


REFUSED = {
    "ReZero": (variant("ReZero", gate, forward=lambda self, x: self.gate * Small.forward(self, x)), "gate lies in ReZ"),
    "an unused number": (variant("Unused", gate), "gate lies in Unused"),
    "LayerScale": (variant("Scaled", set_to(act=LayerScale)), "act.gamma lies in LayerScale"),
    "tied weights": (variant("Tied", tied), "tied"),
    "weights that share storage": (variant("Views", views_of_one), "tied"),
    "one layer under two names": (variant("Two", lambda self: setattr(self, "again", self.conv)), "two names"),
    "an index buffer": (variant("Index", index_buffer), "index lies in"),
    "a buffer that forward changes": (variant("Centre", learned_buffer, forward=updates_a_buffer), "centre lies in"),
    "a frozen batch norm": (variant("FrozenBn", set_to(bn=lambda: FrozenBatchNorm(4))), "FrozenBatchNorm"),
    "torchvision's frozen batch norm": (variant("FrozenBn2", set_to(bn=lambda: FrozenBatchNorm2d(4))), "FrozenBatch"),
    "a subclass with another gradient": (variant("Half", set_to(head=lambda: Halved(4, 3))), "Halved"),
    "a false statement": (variant("Claim", set_to(head=lambda: ClaimsTooMuch(4, 3))), "as they are stacked differ"),
    "a false statement on a count": (variant("Twice", set_to(bn=lambda: CountsTwice(4))), "num_batches_tracked"),
    "a batch norm without statistics": (
        variant("NoStats", set_to(bn=lambda: nn.BatchNorm2d(4, track_running_stats=False))), "cannot be stacked",
    ),
    "weight_norm": (variant("WeightNorm", weight_norm), "Parametrized"),
    "weight_norm of old": (variant("OldWeightNorm", old_weight_norm), "hook"),
    "spectral_norm": (variant("SpectralNorm", spectral_norm), "Parametrized"),
    "pruning": (variant("Pruned", pruned), "hook"),
    "a hook": (variant("Hook", hook), "conv has a hook"),
    "a hook on a gradient": (variant("GradientHook", gradient_hook), "conv.weight has a hook"),
    "a forward of an object": (variant("OwnForward", own_forward), "forward"),
    "layers in a list": (variant("Unregistered", unregistered), "Linear that a stack would share"),
    "a tensor that is no buffer": (variant("PlainTensor", plain_tensor, forward=with_scale), "Tensor that a stack"),
    "a setting drawn anew": (variant("Drawn", drawn_scale, forward=with_scale), "more than their numbers"),
    "a branch on values": (variant("Branch", forward=rare_branch), "cannot be followed"),
    "a bound on the norm": (variant("Clamp", forward=rare_clamp), "forward"),
    "a branch on the batch size": (variant("BySize", forward=by_batch_size), "cannot be followed"),
    "a branch on the channels": (variant("ByShape", forward=by_shape), "cannot be followed"),
    "a count of steps": (variant("Counting", forward=counting), "changes an attribute"),
    "cat": (variant("Cat", zero_head, forward=cat), "cat"),
    "a mean over channels": (variant("ChannelMean", zero_head, forward=channel_mean), "differ|RuntimeError"),
    "a mean over all": (variant("WholeMean", forward=whole_mean), "differ"),
    "Dropout": (variant("Dropout", set_to(drop=lambda: nn.Dropout(0.1))), "Dropout cannot"),
    "F.dropout": (variant("FDropout", forward=dropped), "dropout"),
    "stochastic depth": (variant("Depth", set_to(drop=lambda: StochasticDepth(0.1, "row")),
        forward=lambda self, x: self.head(self.drop(self.features(x)).mean((2, 3)))), "stochastic_depth|followed"),
    "noise": (variant("Noise", forward=noise), "forward"),
    "noise from numpy": (variant("NumpyNoise", forward=numpy_noise), "random numbers"),
    "a weight used outside its layer": (variant("Outside", forward=weight_used_outside), "outside its layer"),
    "a count of batches": (variant("Batches", forward=counts_batches), "outside its layer|cannot be followed"),
    "a careful count of batches": (variant("Careful", forward=counts_carefully), "outside its layer|be followed"),
    "a branch on statistics": (variant("Statistics", forward=looks_at_statistics), "be followed"),
    "a branch on weights": (variant("Weights", forward=looks_at_all_weights), "more than its images"),
    "a convolution on maps of two sizes": (variant("TwoSizes", forward=two_sizes), "one size"),
    "LeNet": (LeNet, "RuntimeError"),
    "two outputs": (Aux, "TypeError|followed"),
    "a number a channel": (variant("PReLU", set_to(act=lambda: nn.PReLU(4))), "PReLU cannot be stacked"),
    "GroupNorm": (variant("GroupNorm", set_to(bn=lambda: nn.GroupNorm(2, 4))), "GroupNorm cannot be stacked"),
    "float32 inside": (variant("Float", forward=lambda self, x: Small.forward(self, x.float() / 2)), "float"),
}  # fmt: skip


class TinyViT(nn.Module):
    """Patches, a class token, one encoder layer with dropout."""

    def __init__(self, channels=3, dropout=0.3):
        super().__init__()
        self.patches = nn.Conv2d(channels, 8, 8, stride=8)
        self.token, self.places = nn.Parameter(torch.zeros(1, 1, 8)), nn.Parameter(0.02 * torch.randn(1, 5, 8))
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.patches(x / 255).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        return self.head(self.encoder(x)[:, 0])
