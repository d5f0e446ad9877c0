"""Networks in training side by side: M of them, stacked into one (`stacked.py`), take the steps of `train.py` together.

Small networks wait for Python: a call costs as much as its arithmetic. A bundle makes the calls once for all. On a GPU
its step is recorded as a CUDA graph and replayed, on a stream of its own, so that several bundles fill the card.

Twin: `train.training_steps`, one network after the other. Both agree step for step in float64.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from local_eval.engine.device import memory_format
from local_eval.oracles.stacked import stack, unstack
from local_eval.oracles.steps import learning_rates, make_optimizer, shorten, shown_orders, viewed
from local_eval.tasks.evaluate import initial_net
from local_eval.tasks.task import Split, Task

WARM_UP = 3  # real steps before a graph is recorded; in them cuDNN picks its algorithms and buffers come to be


class Bundle:
    """M networks in training, each from its own seed and in its own order of examples."""

    def __init__(
        self,
        task: Task,
        examples: Split,
        seeds: list[int],
        dtype: torch.dtype = torch.float32,
        channels_last: bool = True,
    ):
        """Raises CannotStack if the task's network has layers that cannot be stacked."""
        self.examples, self.recipe, self.dtype = examples, task.recipe, dtype
        self.device = examples.images.device
        self.nets = [initial_net(task, seed).to(dtype) for seed in seeds]
        self.format = memory_format(self.nets[0], self.device, channels_last)
        channels, *size = examples.images.shape[1:]
        stacked = stack(self.nets, tuple(size), channels)
        self.stacked = stacked.to(self.device, memory_format=self.format).train()
        orders = [shown_orders(self.recipe, len(examples), seed) for seed in seeds]
        self.orders = torch.stack(orders, dim=-1).to(self.device)  # [epochs, examples, M]
        weights = task.class_weights()
        self.weights = None if weights is None else weights.to(self.device, dtype)
        self.optimizer = self.make_optimizer()

    def make_optimizer(self) -> torch.optim.Optimizer:
        """The recipe's, one for all networks."""
        return make_optimizer(self.stacked.parameters(), self.recipe, self.recipe.lr, fused=True)

    def step(self, batch: Tensor) -> None:
        """One step of every network on its own examples; `batch` [B, M] holds what is shown, as in shown_orders."""
        labels = self.examples.labels[batch.flatten() % len(self.examples)]
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.stacked(self.images(batch)).view(len(labels), -1)
        how = {"weight": self.weights, "label_smoothing": self.recipe.label_smoothing, "reduction": "none"}
        losses = F.cross_entropy(logits, labels, **how).view(batch.shape).sum(dim=0)
        total = len(batch) if self.weights is None else self.weights[labels].view(batch.shape).sum(dim=0)
        (losses / total).sum().backward()  # of every network's mean: the sum keeps their gradients apart
        if self.recipe.clip is not None:
            gradients = [p.grad for p in self.stacked.parameters() if p.grad is not None]
            shorten(gradients, self.recipe.clip, len(self.nets))
        self.optimizer.step()

    def images(self, batch: Tensor) -> Tensor:
        """[B, M * C, H, W] in the networks' order of memory: what every network is to see, side by side."""
        size = self.examples.images.shape[2:]
        shown, count = batch.flatten(), len(self.examples)
        raw = viewed(self.examples.images[shown % count], shown // count, self.recipe).reshape(len(batch), -1, *size)
        raw = raw.contiguous(memory_format=self.format)  # while it is bytes, a quarter of the traffic
        return self.examples.seen(raw.view(*batch.shape, -1, *size)).flatten(1, 2).to(self.dtype)

    def steps(self) -> Iterator[None]:
        """Take all steps of the recipe, one at a time."""
        for rate, order in zip(learning_rates(self.recipe), self.orders):
            self.set_rate(rate)
            for batch in order.split(self.recipe.batch_size):
                self.advance(batch)
                yield

    def set_rate(self, rate: float) -> None:
        """The learning rate of the steps that follow."""
        self.optimizer.param_groups[0]["lr"] = rate

    def advance(self, batch: Tensor) -> None:
        """Take one step."""
        self.step(batch)

    def finish(self) -> list[nn.Module]:
        """The networks, in eval mode, with what they learned. Taps that never met a pixel are as they were drawn."""
        unstack(self.stacked, self.nets)
        return [net.to(self.device, memory_format=self.format).eval() for net in self.nets]


class GraphBundle(Bundle):
    """A bundle on a GPU: the first steps as usual, all others as replays of a recorded one, on a stream of its own.

    A graph holds fixed shapes and addresses, so each batch size has its own, indices are copied to where it looks for
    them, and the learning rate lies in a tensor: a number in Python would stay what it was at recording.
    """

    def __init__(self, task: Task, examples: Split, seeds: list[int], channels_last: bool = True):
        super().__init__(task, examples, seeds, channels_last=channels_last)
        self.stream = torch.cuda.Stream(self.device)
        self.seen: Counter[int] = Counter()
        self.recorded: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        torch.cuda.synchronize(self.device)  # what was made above is ready for any stream

    def make_optimizer(self) -> torch.optim.Optimizer:
        self.rate = torch.tensor(self.recipe.lr, device=self.device)
        return make_optimizer(self.stacked.parameters(), self.recipe, self.rate, fused=True, capturable=True)

    def set_rate(self, rate: float) -> None:
        with torch.cuda.stream(self.stream):
            self.rate.fill_(rate)

    def advance(self, batch: Tensor) -> None:
        size = len(batch)
        with torch.cuda.stream(self.stream):
            if self.seen[size] < WARM_UP:
                self.seen[size] += 1
                self.step(batch)
                return
            if size not in self.recorded:
                self.recorded[size] = self.record(batch)
            graph, indices = self.recorded[size]
            indices.copy_(batch)
            graph.replay()

    def record(self, batch: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """A step on batches of this size as a graph, not yet run, and the tensor in which it looks for indices."""
        graph, indices = torch.cuda.CUDAGraph(), batch.clone()
        self.optimizer.zero_grad(set_to_none=True)  # gradients are to live in the graph's own memory
        torch.cuda.synchronize(self.device)
        with torch.cuda.graph(graph, stream=self.stream):
            self.step(indices)
        return graph, indices

    def finish(self) -> list[nn.Module]:
        torch.cuda.synchronize(self.device)
        return super().finish()
