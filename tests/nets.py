"""Small networks of other kinds than resnet18, for images of 3 x 16 x 16 pixels, and some that are built oddly."""

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import ConvNeXt, MobileNetV2, VisionTransformer, resnet
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.vgg import VGG, make_layers

CLASSES = 3


def vit():
    return VisionTransformer(16, 4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=CLASSES)


def convnext():
    blocks = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)]
    return ConvNeXt(blocks, stochastic_depth_prob=0.1, num_classes=CLASSES)


def mobilenet():
    return MobileNetV2(CLASSES, width_mult=0.25, inverted_residual_setting=[[1, 16, 1, 1], [4, 32, 2, 2]])


class SmallVGG(VGG):
    """Without batch norm and with narrow last layers; VGG draws 119 million weights for those that it makes first."""

    def __init__(self):
        nn.Module.__init__(self)
        self.features = make_layers([8, "M", 16, "M"])
        self.avgpool = nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Sequential(nn.Linear(64, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, CLASSES))


def vgg():
    return SmallVGG()


OTHERS = {"vit": vit, "convnext": convnext, "mobilenet": mobilenet, "vgg": vgg}


def bottleneck():
    return resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], num_classes=CLASSES, width_per_group=8)


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.ReLU(), nn.Linear(8, CLASSES))


def conv_head():
    """As SqueezeNet ends: the class outputs are a convolution's, then an activation in place and a mean."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(True), nn.Conv2d(4, CLASSES, 1), nn.ReLU(True), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )  # fmt: skip


class Features(nn.Module):
    """Layers in another order than they are called in, and what subclasses make of 4 features [B, 4]."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, CLASSES)
        self.second = nn.Conv2d(4, 4, 3)
        self.first = nn.Conv2d(3, 4, 3)

    def features(self, x):
        return self.second(self.first(x).relu()).mean((2, 3))

    def forward(self, x):
        return self.head(self.features(x))


class Auxiliary(Features):
    """A second head, the last of the attributes, that only training uses."""

    def __init__(self):
        super().__init__()
        self.auxiliary = nn.Linear(4, CLASSES)

    def forward(self, x):
        main = super().forward(x)
        return main + self.auxiliary(self.features(x)) if self.training else main


class TwoHeads(Features):
    """As a distilled DeiT answers: the mean of two heads."""

    def __init__(self):
        super().__init__()
        self.other = nn.Linear(4, CLASSES)

    def forward(self, x):
        features = self.features(x)
        return (self.head(features) + self.other(features)) / 2


class Fixed(Features):
    """The last layer does not learn, and neither does the first."""

    def __init__(self):
        super().__init__()
        self.head.requires_grad_(False)
        self.first.requires_grad_(False)


class Normalising(Features):
    """Changes its images in place, and scales and centres its answers after the last layer."""

    def __init__(self):
        super().__init__()
        self.scale, self.after = nn.Parameter(torch.ones(1)), nn.BatchNorm1d(CLASSES)

    def forward(self, x):
        x /= 255
        return self.after(self.head(self.features(x)) * self.scale).log_softmax(1)


class Positions(Features):
    """Calls a layer on positions before any layer sees the image; its body runs without gradients."""

    def __init__(self):
        super().__init__()
        self.positions = nn.Linear(1, 4)

    def forward(self, x):
        where = self.positions(torch.zeros(1, 1, device=x.device))
        return self.head(self.features(x) + where)


class FrozenBody(Features):
    def forward(self, x):
        with torch.no_grad():
            features = self.features(x)
        return self.head(features)


class Bare(Features):
    """Its classes come out of a parameter that is no layer's; as many features as classes go in."""

    def __init__(self):
        super().__init__()
        self.second, self.matrix = nn.Conv2d(4, CLASSES, 3), nn.Parameter(torch.rand(CLASSES, CLASSES))

    def forward(self, x):
        return self.features(x) @ self.matrix


class Prototypes(Features):
    """Its classes come out of a fixed matrix."""

    def __init__(self):
        super().__init__()
        self.second = nn.Conv2d(4, CLASSES, 3)
        self.register_buffer("matrix", torch.rand(CLASSES, CLASSES))

    def forward(self, x):
        return F.linear(self.features(x), self.matrix)


class Functional(Features):
    """Uses its head's weight without calling the head."""

    def forward(self, x):
        return F.linear(self.features(x), self.head.weight, self.head.bias)


class Cosine(nn.Module):
    """A last layer of one's own, without reset_parameters."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(CLASSES, 4))

    def forward(self, x):
        return 9 * F.linear(F.normalize(x), F.normalize(self.weight))


def cosine():
    net = Features()
    net.head = Cosine()
    return net


def weight_normed():
    net = Features()
    nn.utils.parametrizations.weight_norm(net.head)
    nn.utils.parametrizations.weight_norm(net.first)
    return net
