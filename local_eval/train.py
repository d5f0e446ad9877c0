"""Train one network by the task's recipe, and measure a network as the grader does.

The recipe is the organisers': Adam with coupled weight decay, cosine per epoch, class-weighted cross-entropy, no
augmentation, last-epoch weights. Everything random depends on `seed` alone: the initial weights and the order of the
examples. This loop is the readable one; `bundle.py` takes the same steps for many networks at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from local_eval.task import Split, Task

TRAINING_VERSION = 2  # raise it when training changes its results: cached originals and oracles are then retrained


def initial_net(task: Task, seed: int) -> nn.Module:
    """The untrained network of this seed, drawn on the CPU so that every device starts from the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return task.make_net()


def epoch_orders(examples: int, epochs: int, seed: int) -> Tensor:
    """int64 [epochs, examples]: the order in which the network of this seed sees the examples, epoch by epoch."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(examples, generator=generator) for _ in range(epochs)])


def train(task: Task, examples: Split, seed: int) -> nn.Module:
    """Train a fresh network on `examples`, which may lie on any device; returns it in eval mode."""
    with exact_convolutions(same_shapes=True):
        for net in training_steps(task, examples, seed):  # noqa: B007
            pass
    return net.eval()


def exact_convolutions(same_shapes: bool = False, tf32: bool = False) -> contextlib.AbstractContextManager:
    """While it lasts, a GPU's convolutions are in float32, not rounded to TF32 as is torch's default on newer cards.

    With `same_shapes`, cuDNN tries its algorithms out first, which pays over thousands of steps.
    """
    return torch.backends.cudnn.flags(enabled=True, benchmark=same_shapes, allow_tf32=tf32)


def wait(device: torch.device | str) -> None:
    """Until the device has done what it was given: a GPU works on while Python goes ahead."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def forget_precision() -> None:
    """Undo all settings of torch that trade precision or repeatability for speed, whatever code ran before.

    That rules out TF32 in convolutions too, which torch allows by default: the competition's cards do not have it.
    """
    for place in (torch.backends, torch.backends.cudnn):
        if hasattr(place, "fp32_precision"):  # since torch 2.9; it must not contradict the older settings below
            place.fp32_precision = "none"
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = torch.backends.cudnn.deterministic = False
    torch.set_float32_matmul_precision("highest")


def training_steps(task: Task, examples: Split, seed: int, dtype: torch.dtype = torch.float32) -> Iterator[nn.Module]:
    """Yield the network, in train mode, after every step of the recipe."""
    recipe, device = task.recipe, examples.images.device
    net = initial_net(task, seed).to(device, dtype).train()
    weights = task.class_weights()
    weights = None if weights is None else weights.to(device, dtype)
    optimizer = torch.optim.Adam(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=recipe.epochs)
    for order in epoch_orders(len(examples), recipe.epochs, seed).to(device):
        for batch in order.split(recipe.batch_size):
            images = examples.pixels(batch).to(dtype)
            loss = F.cross_entropy(net(images), examples.labels[batch], weight=weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield net
        scheduler.step()


@dataclass(frozen=True)
class Evaluation:
    """All that a score needs of one model."""

    forget_logits: np.ndarray  # float32 [E, C]
    retain_accuracy: float
    test_accuracy: float


def evaluate(net: nn.Module, task: Task, batch_size: int | None = None) -> Evaluation:
    """Measure a network, in eval mode and float32, on the forget, retain and test sets."""
    net.eval()
    batch_size = batch_size or large_batch(task.forget)
    with exact_convolutions():  # confidences near 30 need all of float32
        return Evaluation(
            forget_logits=predict(net, task.forget, batch_size).cpu().numpy(),
            retain_accuracy=accuracy(predict(net, task.retain, batch_size), task.retain.labels),
            test_accuracy=accuracy(predict(net, task.test, batch_size), task.test.labels),
        )


def large_batch(split: Split) -> int:
    """Examples that a network is shown at once when it only looks: a GPU takes many in one gulp, fewer if large."""
    pixels = (4096 if split.images.is_cuda else 512) * 32 * 32
    return max(64, pixels // split.images[0, 0].numel())


@torch.inference_mode()
def predict(net: nn.Module, split: Split, batch_size: int = 512) -> Tensor:
    """Logits float32 [n, C] of every example of a split, in its order."""
    starts = range(0, len(split), batch_size)
    return torch.cat([net(split.pixels(slice(start, start + batch_size))) for start in starts])


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of right answers, 0 to 1."""
    return float((logits.argmax(dim=1) == labels).float().mean())
