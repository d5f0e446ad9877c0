"""Layers whose parameters get a multiple of their gradient, and a narrow resnet18 of them.

With a fixed learning rate, SGD changes the function of a network n times narrower about n times more slowly. Methods
tuned on resnet18's 64 channels hardly move one with 8. These layers make up for it: what they compute is unchanged,
and the gradient of their parameters is multiplied by `factor`. It is part of the layer, so that copies and loaded
states have it, and no submission has to know. By the theory of wide networks the loss of speed is not everywhere: it is
full where weights join many inputs to many outputs, in the body and the last layer, and none in the stem, in batch
norms and in the last bias, which acts on the outputs at once.

Adam divides a factor out again, but for coupled weight decay, which is added to the multiplied gradient and so counts
`factor` times less. Original and oracles are trained as a stack (oracles/stacked.py), whose layers have no factor: each
layer here says so by `stacked_as`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from local_eval.isolation.device import memory_format
from local_eval.tasks.digits import NarrowResNet


class ScaleGrad(torch.autograd.Function):
    """Tensors as they are, with gradients `factor` times as large; several at once, since a call costs 10 us."""

    @staticmethod
    def forward(ctx, factor: float, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.factor = factor
        return tuple(x.view_as(x) for x in tensors)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(gradient * ctx.factor for gradient in gradients)


class Scaled:
    """What the layers here have in common."""

    factor = 1.0

    def extra_repr(self) -> str:  # the task's fingerprint covers it
        return f"{super().extra_repr()}, gradient x {self.factor:g}"


class ScaledConv2d(Scaled, nn.Conv2d):
    """A convolution without bias whose weight learns `factor` times as fast.

    Maps here are tiny, so the convolutions of layer 4 have one output position. They are computed as the products of
    matrices that they are, from the taps that touch a pixel; the other taps have a gradient of zero, as ever.
    """

    stacked_as = nn.Conv2d  # without the factor

    def forward(self, x: Tensor) -> Tensor:
        (window, height), (also, width) = (
            one_position(size, kernel, stride, padding)
            for size, kernel, stride, padding in zip(x.shape[2:], self.kernel_size, self.stride, self.padding)
        )
        if height is None or width is None:
            (weight,) = ScaleGrad.apply(self.factor, self.weight)
            return self._conv_forward(x.contiguous(memory_format=memory_format(self, x.device)), weight, None)
        (weight,) = ScaleGrad.apply(self.factor, self.weight[:, :, height, width])
        return F.linear(x[:, :, window, also].flatten(1), weight.flatten(1))[..., None, None]


@lru_cache(maxsize=256)
def one_position(size: int, kernel: int, stride: int, padding: int) -> tuple[slice, slice | None]:
    """Which of `size` pixels a kernel with one output position sees along an axis, and with which taps; else None."""
    if (size + 2 * padding - kernel) // stride:
        return slice(None), None
    end = min(kernel, padding + size)
    return slice(0, end - padding), slice(padding, end)


class ScaledBatchNorm2d(Scaled, nn.BatchNorm2d):
    """A batch norm, with torch's default options, whose scale and shift learn `factor` times as fast."""

    stacked_as = nn.BatchNorm2d  # without the factor

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.num_batches_tracked.add_(1)
        weight, bias = ScaleGrad.apply(self.factor, self.weight, self.bias)
        return F.batch_norm(
            x, self.running_mean, self.running_var, weight, bias, self.training, self.momentum, self.eps
        )


class ScaledLinear(Scaled, nn.Linear):
    """A linear layer whose weight learns `factor` times as fast; its bias acts on the outputs at once at any width."""

    stacked_as = nn.Linear  # without the factor

    def forward(self, x: Tensor) -> Tensor:
        (weight,) = ScaleGrad.apply(self.factor, self.weight)
        return F.linear(x, weight, self.bias)


SCALED = {nn.Conv2d: ScaledConv2d, nn.BatchNorm2d: ScaledBatchNorm2d, nn.Linear: ScaledLinear}


@dataclass(frozen=True)
class Factors:
    """What gradients are multiplied by, by kind of layer; the last layer's bias has none."""

    stem: float
    body: float  # all convolutions but the first
    norms: float
    last: float

    def of(self, name: str, layer: nn.Module) -> float:
        """The factor of a resnet18's layer of this name."""
        if isinstance(layer, nn.Conv2d):
            return self.stem if name == "conv1" else self.body
        return self.norms if isinstance(layer, nn.BatchNorm2d) else self.last


class ScaledResNet(NarrowResNet):
    """A narrow resnet18 for 16 x 16 pixels with multiplied gradients; state dict names are resnet18's.

    Layer 2 keeps the size of its maps. Those of layers 2 to 4 are then 4, 2 and 1 wide, as resnet18's are at the
    competition's 32 pixels, and as many taps of a kernel see nothing but padding. Methods that choose weights by size
    or gradient choose such dead taps first, so their share matters.
    """

    def __init__(self, width: int, num_classes: int, factors: Factors):
        super().__init__(width, num_classes)
        first = self.layer2[0]
        first.conv1.stride = first.downsample[0].stride = (1, 1)
        for name, module in self.named_modules():
            if type(module) in SCALED:
                module.__class__ = SCALED[type(module)]
                module.factor = factors.of(name, module)
