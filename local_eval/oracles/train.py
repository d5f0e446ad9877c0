"""Train one network by the task's recipe, and measure a network as the grader does.

The recipe is the organisers' unless the task says more: Adam with coupled weight decay, cosine per epoch,
class-weighted cross-entropy, no augmentation, last-epoch weights. Everything random depends on `seed` alone: the
initial weights, the order of the examples, how each is shown, and what the network draws in training. This loop is the
readable one; `bundle.py` takes the same steps for many networks at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F

from local_eval.engine.device import exact_convolutions
from local_eval.engine.randomness import seeded
from local_eval.oracles.steps import make_optimizer, make_scheduler, shown_orders, viewed
from local_eval.tasks.evaluate import initial_net
from local_eval.tasks.task import Split, Task


def train(task: Task, examples: Split, seed: int) -> nn.Module:
    """Train a fresh network on `examples`, which may lie on any device; returns it in eval mode.

    What the network draws while it trains (dropout) starts from `seed` too.
    """
    with exact_convolutions(same_shapes=True), seeded(seed, examples.images.device):
        for net in training_steps(task, examples, seed):  # noqa: B007
            pass
    return net.eval()


def training_steps(task: Task, examples: Split, seed: int, dtype: torch.dtype = torch.float32) -> Iterator[nn.Module]:
    """Yield the network, in train mode, after every step of the recipe.

    A network with dropout draws from the generators as they are; `train` starts them from the seed.
    """
    recipe, device = task.recipe, examples.images.device
    net = initial_net(task, seed).to(device, dtype).train()
    weights = task.class_weights()
    weights = None if weights is None else weights.to(device, dtype)
    optimizer = make_optimizer(net.parameters(), recipe, recipe.lr)
    scheduler = make_scheduler(optimizer, recipe)
    for order in shown_orders(recipe, len(examples), seed).to(device):
        for shown in order.split(recipe.batch_size):
            batch, view = shown % len(examples), shown // len(examples)
            images = examples.seen(viewed(examples.images[batch], view, recipe)).to(dtype)
            labels = examples.labels[batch]
            loss = F.cross_entropy(net(images), labels, weight=weights, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            if recipe.clip is not None:
                nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
            optimizer.step()
            yield net
        scheduler.step()
