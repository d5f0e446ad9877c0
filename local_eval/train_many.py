"""Train many networks by the task's recipe, as fast as the device allows.

On a CPU every process trains one bundle of stacked networks (`bundle.py`). On a GPU one process keeps several bundles
in flight. How many networks to stack, and how many bundles to fly, depends on card and network, so it is measured for a
minute before the first networks. A network that cannot be stacked is trained by the plain loop.

How to see what it brings: python -m local_eval bench
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn

from local_eval.bundle import WARM_UP, Bundle, GraphBundle
from local_eval.stacked import CannotStack
from local_eval.task import Split, Task
from local_eval.train import exact_convolutions, train

SMALL = 1_000_000  # parameters; on a CPU larger networks gain from their live taps, and lose from being stacked
TRIAL_STEPS = 60
GPU_JOB = 32  # networks that one process is given at a time


@dataclass(frozen=True)
class Layout:
    """How many networks make one bundle, and how many bundles are in flight at once."""

    stack: int
    streams: int = 1

    @property
    def networks(self) -> int:
        """In training at the same time."""
        return self.stack * self.streams

    def smaller(self) -> Layout:
        """About half of it, for a card whose memory is full."""
        return Layout(self.stack, self.streams // 2) if self.streams > 1 else Layout(max(self.stack // 2, 1))


GPU_LAYOUTS = [Layout(1, 1), Layout(1, 4), Layout(1, 8), Layout(1, 16), Layout(4, 1), Layout(4, 4), Layout(8, 4)]


def cpu_layout(task: Task) -> Layout:
    """A rule, not a measurement: how networks are stacked decides their last bits, and these must not vary."""
    return Layout(4 if sum(p.numel() for p in task.make_net().parameters()) < SMALL else 1)


def networks_per_job(task: Task, device: str) -> int:
    """How many networks a process should be given at a time."""
    return GPU_JOB if torch.device(device).type == "cuda" else cpu_layout(task).networks


def best_layout(task: Task, examples: Split) -> Layout:
    """The layout to train with: on a GPU the fastest of some, by trying them."""
    if not examples.images.is_cuda:
        return cpu_layout(task)
    rates = {layout: model_steps_per_second(task, examples, layout) for layout in GPU_LAYOUTS}
    return max(rates, key=rates.__getitem__)


def model_steps_per_second(
    task: Task, examples: Split, layout: Layout, steps: int = TRIAL_STEPS, tf32: bool = False
) -> float:
    """Steps of one network per second with a layout; 0 if the card's memory is too small, or nothing can be stacked."""
    try:
        bundles = make_bundles(task, examples, list(range(layout.networks)), layout)
        with exact_convolutions(same_shapes=True, tf32=tf32):
            return layout.networks * _rounds_per_second(bundles, examples, steps)
    except (torch.cuda.OutOfMemoryError, CannotStack):
        return 0.0


def _rounds_per_second(bundles: list[Bundle], examples: Split, steps: int) -> float:
    rounds = zip(*(bundle.steps() for bundle in bundles))
    for _ in islice(rounds, WARM_UP + 1):  # the last of them records the graphs
        pass
    _wait(examples)
    start = time.perf_counter()
    taken = sum(1 for _ in islice(rounds, steps))
    _wait(examples)
    return taken / (time.perf_counter() - start)


def _wait(examples: Split) -> None:
    if examples.images.is_cuda:
        torch.cuda.synchronize(examples.images.device)


def make_bundles(task: Task, examples: Split, seeds: list[int], layout: Layout) -> list[Bundle]:
    """Bundles for these seeds, none in training yet."""
    kind = GraphBundle if examples.images.is_cuda else Bundle
    return [kind(task, examples, seeds[k : k + layout.stack]) for k in range(0, len(seeds), layout.stack)]


def train_many(task: Task, examples: Split, seeds: list[int], layout: Layout) -> list[nn.Module]:
    """Networks trained on `examples`, one per seed, in eval mode; with a smaller layout if memory runs out.

    Raises:
        torch.cuda.OutOfMemoryError: there is no room for a single network.
    """
    try:
        trained = []
        for first in range(0, len(seeds), layout.networks):
            trained += _train_at_once(task, examples, seeds[first : first + layout.networks], layout)
        return trained
    except CannotStack:
        return [train(task, examples, seed) for seed in seeds]
    except torch.cuda.OutOfMemoryError:
        if layout.networks == 1:
            raise
    torch.cuda.empty_cache()  # out here, since the error's traceback holds on to the bundles
    return train_many(task, examples, seeds, layout.smaller())


def _train_at_once(task: Task, examples: Split, seeds: list[int], layout: Layout) -> list[nn.Module]:
    bundles = make_bundles(task, examples, seeds, layout)
    with exact_convolutions(same_shapes=True):
        for _ in zip(*(bundle.steps() for bundle in bundles)):
            pass
    return [net for bundle in bundles for net in bundle.finish()]
