"""Train many networks at once by the task's recipe, as fast as the device allows: in stacks, on a GPU as graphs.

On a CPU every process trains one bundle of stacked networks. On a GPU one process keeps several bundles
in flight. How many networks to stack, how many bundles to fly and in which order of memory, depends on card and
network, so it is measured for a minute before the first networks. A network that cannot be stacked is trained by the
plain loop, each from its own seed, and people are told (`remark_on_training`); so is everything where the task has a
way of its own to train.

How to see what it brings: python -m local_eval bench
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from local_eval.isolation.device import exact_convolutions, memory_format, wait
from local_eval.isolation.pool import memory_was_full
from local_eval.oracles.proof import CannotStack
from local_eval.oracles.stacked import stack, unstack
from local_eval.oracles.train import (
    learning_rates,
    make_optimizer,
    shorten,
    shown_orders,
    train,
    trained_by_own,
    viewed,
)
from local_eval.store.errors import WorkError, first_line
from local_eval.tasks.evaluate import initial_net
from local_eval.tasks.task import Split, Task

# Networks in training side by side: M of them, stacked into one (`stacked.py`), take the steps of `train.py`
# together.
#
# Small networks wait for Python: a call costs as much as its arithmetic. A bundle makes the calls once for all. On a
# GPU its step is recorded as a CUDA graph and replayed, on a stream of its own, so that several bundles fill the
# card.
#
# Twin: `train.training_steps`, one network after the other. Both agree step for step in float64.


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


SMALL = 1_000_000  # parameters; on a CPU larger networks gain from their live taps, and lose from being stacked
TRIAL_STEPS, TRIAL_SECONDS = 60, 1.0  # of every network, at least
GPU_JOB = 32  # networks that one process is given at a time


@dataclass(frozen=True)
class Layout:
    """How many networks make one bundle, how many bundles are in flight at once, and how they lie in memory."""

    stack: int
    streams: int = 1
    channels_last: bool = True

    def __str__(self) -> str:
        order = "last" if self.channels_last else "first"
        return f"{self.streams} x {self.stack} nets, channels {order}"

    @property
    def networks(self) -> int:
        """In training at the same time."""
        return self.stack * self.streams

    def smaller(self) -> Layout:
        """About half of it, for a card whose memory is full."""
        if self.streams > 1:
            return replace(self, streams=self.streams // 2)
        return replace(self, stack=max(self.stack // 2, 1))


# In float32 cuDNN favours channels first for whole convolutions and channels last for grouped ones, mostly.
GPU_LAYOUTS = [Layout(1, k, last) for last in (False, True) for k in (1, 8, 16)] + [Layout(4, 4), Layout(8, 4)]


def cpu_layout(task: Task) -> Layout:
    """A rule, not a measurement: how networks are stacked decides their last bits, and these must not vary."""
    return Layout(4 if sum(p.numel() for p in task.make_net().parameters()) < SMALL else 1)


def why_one_by_one(task: Task, count: int) -> str:
    """Why `count` of the task's networks cannot be stacked, so that the plain loop trains them; nothing if they can."""
    channels, *size = task.retain.images.shape[1:]
    try:
        stack([initial_net(task, seed) for seed in range(count)], tuple(size), channels)
    except CannotStack as error:
        return str(error)
    return ""


def remark_on_training(task: Task, device: str) -> str:
    """What a person should know before oracles are trained one by one; nothing if they are stacked."""
    if task.train is not None:
        return ""
    count = 1 if torch.device(device).type == "cuda" else cpu_layout(task).stack
    reason = why_one_by_one(task, count)
    if not reason:
        return ""
    slower = "about 2.5" if count > 1 else "about 1.7"  # measured: docs/speed.md
    return f"oracles are trained one by one, {slower} times as slow on a CPU as a stack of networks: {reason}"


def networks_per_job(task: Task, device: str) -> int:
    """How many networks a process should be given at a time."""
    if task.train is not None:
        return 1
    return GPU_JOB if torch.device(device).type == "cuda" else cpu_layout(task).networks


def best_layout(task: Task, examples: Split) -> Layout:
    """The layout to train with: on a GPU the fastest of some, by trying them."""
    if task.train is not None:  # which makes one after the other
        return Layout(1)
    if not examples.images.is_cuda:
        return cpu_layout(task)
    if why_one_by_one(task, 1):
        return Layout(1)
    rates = {layout: model_steps_per_second(task, examples, layout) for layout in GPU_LAYOUTS}
    return max(rates, key=rates.__getitem__)


def model_steps_per_second(task: Task, examples: Split, layout: Layout, tf32: bool = False) -> float:
    """Steps of one network per second with a layout; 0 if the card's memory is too small, or nothing can be stacked.

    Only whole batches are timed: a last one of another size, rare in a long training, may come often in a short trial.
    """
    examples = whole_batches(examples, task.recipe.batch_size)
    try:
        bundles = make_bundles(task, examples, list(range(layout.networks)), layout)
        with exact_convolutions(same_shapes=True, tf32=tf32):
            return layout.networks * _rounds_per_second(bundles, examples)
    except CannotStack:
        return 0.0
    except RuntimeError as error:
        if not memory_was_full(error):
            raise
    wait(examples.images.device)
    torch.cuda.empty_cache()  # out here, since the error's traceback holds on to the bundles
    return 0.0


def whole_batches(examples: Split, batch_size: int) -> Split:
    """As many examples as fill batches, or all if they fill none."""
    return examples[: len(examples) // batch_size * batch_size or len(examples)]


def _rounds_per_second(bundles: list[Bundle], examples: Split) -> float:
    rounds = zip(*(bundle.steps() for bundle in bundles))
    for _ in islice(rounds, WARM_UP + 1):  # the last of them records the graphs
        pass
    wait(examples.images.device)
    start, taken, more = time.perf_counter(), 0, TRIAL_STEPS
    while more == TRIAL_STEPS and time.perf_counter() - start < TRIAL_SECONDS:
        more = sum(1 for _ in islice(rounds, TRIAL_STEPS))
        taken += more
        wait(examples.images.device)
    return taken / (time.perf_counter() - start)


def make_bundles(task: Task, examples: Split, seeds: list[int], layout: Layout) -> list[Bundle]:
    """Bundles for these seeds, none in training yet."""
    kind = GraphBundle if examples.images.is_cuda else Bundle
    parts = [seeds[k : k + layout.stack] for k in range(0, len(seeds), layout.stack)]
    return [kind(task, examples, part, channels_last=layout.channels_last) for part in parts]


class Trainer:
    """Trains networks on some examples, as many at once as is best; fewer, from then on, once memory was full."""

    def __init__(self, task: Task, examples: Split, layout: Layout | None = None, tf32: bool = False):
        self.task, self.examples, self.tf32 = task, examples, tf32
        self.layout = layout or best_layout(task, examples)

    def train(self, seeds: list[int], stepped: Callable[[], None] = lambda: None) -> Iterator[nn.Module]:
        """Yield a trained network for every seed, in their order and in eval mode; `stepped` is called with each step.

        Raises:
            WorkError: there is no room for a single network.
            TaskError: the task's own way to train fails.
        """
        if self.task.train is not None:
            yield from (trained_by_own(self.task, self.examples, seed) for seed in seeds)
            return
        left = list(seeds)
        while left:
            at_once = left[: self.layout.networks]
            try:
                nets = self._train_at_once(at_once, stepped)
            except CannotStack:
                nets = [train(self.task, self.examples, seed, stepped) for seed in at_once]
            except RuntimeError as error:
                if not memory_was_full(error):
                    raise
                if self.layout.networks == 1:
                    text = "the device's memory is too small to train a single network of this task"
                    raise WorkError(f"{text} ({first_line(error)})") from error
                nets = []
            if not nets:  # out here, since the error's traceback holds on to the bundles
                wait(self.examples.images.device)
                torch.cuda.empty_cache()
                self.layout = self.layout.smaller()
            left = left[len(nets) :]
            yield from nets

    def _train_at_once(self, seeds: list[int], stepped: Callable[[], None]) -> list[nn.Module]:
        bundles = make_bundles(self.task, self.examples, seeds, self.layout)
        with exact_convolutions(same_shapes=True, tf32=self.tf32):
            for _ in zip(*(bundle.steps() for bundle in bundles)):
                stepped()
        return [net for bundle in bundles for net in bundle.finish()]
