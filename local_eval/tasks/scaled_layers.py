"""Layers whose parameters get a multiple of their gradient, and a narrow resnet18 of them.

With a fixed learning rate, SGD changes the function of a network n times narrower about n times more slowly. Methods
tuned on resnet18's 64 channels hardly move one with 12. These layers make up for it: what they compute is unchanged,
and the gradient of all parameters but the classifier's bias is multiplied by `factor`. It is part of the layer, so that
copies and loaded states have it, and no submission has to know.

Adam divides the factor out again, but for coupled weight decay, which is added to the multiplied gradient and so counts
`factor` times less. Original and oracles are trained as a stack (oracles/stacked.py), whose layers have no factor.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from local_eval.tasks.digits import NarrowResNet


class ScaleGrad(torch.autograd.Function):
    """x, with a gradient `factor` times as large."""

    @staticmethod
    def forward(ctx, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


class ScaledConv2d(nn.Conv2d):
    """A convolution whose weight and bias learn `factor` times as fast."""

    factor = 1.0

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else ScaleGrad.apply(self.bias, self.factor)
        return self._conv_forward(x, ScaleGrad.apply(self.weight, self.factor), bias)

    def extra_repr(self) -> str:  # the task's fingerprint covers it
        return f"{super().extra_repr()}, gradient x {self.factor:g}"


class ScaledBatchNorm2d(nn.BatchNorm2d):
    """A batch norm, with torch's default options, whose scale and shift learn `factor` times as fast."""

    factor = 1.0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.num_batches_tracked.add_(1)
        weight, bias = ScaleGrad.apply(self.weight, self.factor), ScaleGrad.apply(self.bias, self.factor)
        return F.batch_norm(
            x, self.running_mean, self.running_var, weight, bias, self.training, self.momentum, self.eps
        )


class ScaledLinear(nn.Linear):
    """A linear layer whose weight learns `factor` times as fast; its bias acts on the outputs at once at any width."""

    factor = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, ScaleGrad.apply(self.weight, self.factor), self.bias)


SCALED = {nn.Conv2d: ScaledConv2d, nn.BatchNorm2d: ScaledBatchNorm2d, nn.Linear: ScaledLinear}


class ScaledResNet(NarrowResNet):
    """A narrow resnet18 with multiplied gradients; state dict names are resnet18's."""

    def __init__(self, width: int, num_classes: int, factor: float):
        super().__init__(width, num_classes)
        for module in self.modules():
            if type(module) in SCALED:
                module.__class__ = SCALED[type(module)]
                module.factor = factor
