"""Train many networks at once by the task's recipe, as fast as the device allows: in stacks, on a GPU as graphs.

On a CPU every process trains one bundle of stacked networks. On a GPU one process keeps several bundles
in flight. How many networks to stack, how many bundles to fly and in which order of memory, depends on card and
network, so it is measured for a minute before the first networks. While the card trains some, a thread draws the next
ones. A network that cannot be stacked is trained by the plain loop, each from its own seed, and people are told
(`remark_on_training`); so is everything where the task has a way of its own to train.

How to see what it brings: python -m local_eval bench
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from local_eval.isolation.device import exact_convolutions, memory_format, wait
from local_eval.isolation.pool import memory_was_full
from local_eval.oracles.proof import CannotStack, blueprint
from local_eval.oracles.stacked import stack, stack_of_a_kind, unstack
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
from local_eval.store.records import Evaluation
from local_eval.tasks.evaluate import evaluate, evaluate_stack, initial_net, large_batch
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


@dataclass
class Start:
    """What M networks start from, made on the CPU: themselves, their stack, and the order in which they see examples.

    It uses no GPU and draws from the generators, each network from its own seed, and leaves them as they were.
    """

    nets: list[nn.Module]
    stacked: nn.Module
    orders: Tensor  # int64 [epochs, examples, M], as `shown_orders` has it

    @classmethod
    def drawn(
        cls, task: Task, examples: Split, seeds: list[int], dtype: torch.dtype = torch.float32, kind: object = None
    ) -> Start:
        """With `kind`, the blueprint of networks that were stacked, it works in a thread.

        Raises CannotStack if the task's network has layers that cannot be stacked.
        """
        nets = [initial_net(task, seed).to(dtype) for seed in seeds]
        orders = [shown_orders(task.recipe, len(examples), seed) for seed in seeds]
        shape = _shape(examples)
        stacked = stack(nets, *shape) if kind is None else stack_of_a_kind(nets, kind, *shape)
        return cls(nets, stacked, torch.stack(orders, dim=-1))

    @classmethod
    def for_a_trial(cls, task: Task, examples: Split, count: int) -> Start:
        """The same with one network that is there `count` times: as fast in training, and drawn once."""
        net, order = initial_net(task, 0), shown_orders(task.recipe, len(examples), 0)
        stacked = stack([net] * count, *_shape(examples))
        return cls([net] * count, stacked, order[..., None].repeat(1, 1, count))


def _shape(examples: Split) -> tuple[tuple[int, int], int]:
    """Height and width of the images, and their channels."""
    channels, height, width = examples.images.shape[1:]
    return (height, width), channels


class Bundle:
    """M networks in training, each from its own seed and in its own order of examples."""

    def __init__(
        self,
        task: Task,
        examples: Split,
        seeds: list[int],
        dtype: torch.dtype = torch.float32,
        channels_last: bool = True,
        start: Start | None = None,
    ):
        """`start` is what these seeds start from, if it has been drawn before.

        Raises CannotStack if the task's network has layers that cannot be stacked.
        """
        self.task, self.examples, self.recipe, self.dtype = task, examples, task.recipe, dtype
        self.seeds, self.device = seeds, examples.images.device
        start = start or Start.drawn(task, examples, seeds, dtype)
        self.nets = start.nets
        self.format = memory_format(self.nets[0], self.device, channels_last)
        self.stacked = start.stacked.to(self.device, memory_format=self.format).train()
        self.orders = start.orders.to(self.device)
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

    def end(self) -> None:
        """No further steps: what only they needed is let go."""
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()


class GraphBundle(Bundle):
    """A bundle on a GPU: the first steps as usual, all others as replays of a recorded one, on a stream of its own.

    A graph holds fixed shapes and addresses, so each batch size has its own, indices are copied to where it looks for
    them, and the learning rate lies in a tensor: a number in Python would stay what it was at recording.
    """

    def __init__(
        self,
        task: Task,
        examples: Split,
        seeds: list[int],
        channels_last: bool = True,
        start: Start | None = None,
    ):
        super().__init__(task, examples, seeds, channels_last=channels_last, start=start)
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

    def end(self) -> None:
        torch.cuda.synchronize(self.device)
        self.recorded.clear()
        super().end()


SMALL = 1_000_000  # parameters; on a CPU larger networks gain from their live taps, and lose from being stacked
TRIAL_STEPS, TRIAL_SECONDS = 8, 1.0  # of every network: before the first look at the clock, and at least
LAYOUTS_SECONDS = 60.0  # after which no further layout is tried
NEAR = 0.97  # of the best rate is as good, if fewer networks reach it
AT_ONCE_SECONDS = 300.0  # that networks which are trained together may take: so much is lost with a process
GPU_JOB = 32  # networks that a process is given at a time where it cannot take them as it goes, as on a cluster


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


# In float32 cuDNN favours channels first for whole convolutions and channels last for grouped ones, mostly. The first
# ones are tried on every card, the last ones if there is time.
SHAPES = ((1, 1), (8, 1), (1, 8), (4, 4), (16, 1), (1, 16), (32, 1), (8, 4), (16, 2), (32, 2))  # stack, streams
GPU_LAYOUTS = [Layout(*shape, last) for shape in SHAPES for last in (True, False)]


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


def best_layout(task: Task, examples: Split, tf32: bool = False) -> Layout:
    """The layout to train with: on a GPU the fastest of some, by trying them for a minute."""
    if task.train is not None:  # which makes one after the other
        return Layout(1)
    if not examples.images.is_cuda:
        return cpu_layout(task)
    if why_one_by_one(task, 1):
        return Layout(1)
    return chosen(measured_layouts(task, examples, tf32), steps_of(task, examples))


def measured_layouts(
    task: Task, examples: Split, tf32: bool = False, clock: Callable[[], float] = time.perf_counter
) -> dict[Layout, float]:
    """Steps of one network per second with each layout that was tried; 0 where memory was full or it cannot be had.

    One that needs more than another that could not be had is not tried.
    """
    end, rates = clock() + LAYOUTS_SECONDS, {}
    for layout in GPU_LAYOUTS:
        full = [other for other, rate in rates.items() if rate == 0.0]
        if any(layout.stack >= other.stack and layout.networks >= other.networks for other in full):
            continue
        if any(rates.values()) and clock() > end:
            break
        rates[layout] = model_steps_per_second(task, examples, layout, tf32)
    return rates


def chosen(rates: dict[Layout, float], steps: int) -> Layout:
    """The fewest networks at once that are about as fast as the fastest, and do not take long for a process to lose.

    Args:
        rates: steps of one network per second.
        steps: that one network takes.
    """
    works = {layout: rate for layout, rate in rates.items() if rate > 0.0} or {Layout(1): 1.0}
    quick = {layout: r for layout, r in works.items() if layout.networks * steps / r <= AT_ONCE_SECONDS}
    if not quick:
        fewest = min(layout.networks for layout in works)
        quick = {layout: rate for layout, rate in works.items() if layout.networks == fewest}
    best = max(quick.values())
    return min((each for each in quick if quick[each] >= NEAR * best), key=lambda each: (each.networks, -quick[each]))


def steps_of(task: Task, examples: Split) -> int:
    """That one network takes by the recipe."""
    return task.recipe.epochs * -(-len(examples) // task.recipe.batch_size)


def model_steps_per_second(task: Task, examples: Split, layout: Layout, tf32: bool = False) -> float:
    """Steps of one network per second with a layout; 0 if the card's memory is too small, or nothing can be stacked.

    Only whole batches are timed: a last one of another size, rare in a long training, may come often in a short trial.
    """
    examples = whole_batches(examples, task.recipe.batch_size)
    try:
        starts = [Start.for_a_trial(task, examples, layout.stack) for _ in range(layout.streams)]
        bundles = make_bundles(task, examples, list(range(layout.networks)), layout, starts)
        with arithmetic(tf32):
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


@contextlib.contextmanager
def arithmetic(tf32: bool) -> Iterator[None]:
    """Whether convolutions and products of matrices on a GPU are rounded to TF32 while it lasts; a CPU has none."""
    before = torch.get_float32_matmul_precision()
    if tf32:
        torch.set_float32_matmul_precision("high")
    try:
        with exact_convolutions(same_shapes=True, tf32=tf32):
            yield
    finally:
        if tf32:
            torch.set_float32_matmul_precision(before)


def _rounds_per_second(bundles: list[Bundle], examples: Split) -> float:
    rounds = zip(*(bundle.steps() for bundle in bundles))
    for _ in islice(rounds, WARM_UP + 1):  # the last of them records the graphs
        pass
    wait(examples.images.device)
    start, taken = time.perf_counter(), 0
    while True:
        asked = max(taken, TRIAL_STEPS)  # twice as many in all each time: a look at the clock waits for the card
        more = sum(1 for _ in islice(rounds, asked))
        taken += more
        wait(examples.images.device)
        seconds = time.perf_counter() - start
        if more < asked or seconds >= TRIAL_SECONDS:
            return taken / seconds


def make_bundles(
    task: Task, examples: Split, seeds: list[int], layout: Layout, starts: list[Start] | None = None
) -> list[Bundle]:
    """Bundles for these seeds, none in training yet; `starts` is what they start from, if it has been drawn."""
    kind = GraphBundle if examples.images.is_cuda else Bundle
    parts = in_stacks(seeds, layout)
    how = [{"start": start} for start in starts] if starts else [{} for _ in parts]
    return [kind(task, examples, part, channels_last=layout.channels_last, **h) for part, h in zip(parts, how)]


def in_stacks(seeds: list[int], layout: Layout) -> list[list[int]]:
    """The seeds of each bundle."""
    return [seeds[k : k + layout.stack] for k in range(0, len(seeds), layout.stack)]


@dataclass(frozen=True)
class Trained:
    """Networks that were trained together: their seeds, and how to have them or what is measured of them."""

    seeds: list[int]
    seconds: float  # that training took for each
    nets: Callable[[], list[nn.Module]]  # on their device, in eval mode
    evaluations: Callable[[], list[Evaluation]]


Take = Callable[[int], list[int]]  # up to so many more seeds, in order; none when there are no more


def taking(seeds: list[int]) -> Take:
    """Takes from these seeds."""
    left = iter(seeds)
    return lambda most: list(islice(left, most))


class Ahead:
    """Draws in a thread, while a card trains some networks, what the next ones start from.

    The thread and this one draw from the same generators. So it works only while this one takes steps of stacked
    networks, which draw nothing (proof.py); whoever does anything else calls `wait` first. It never touches the card,
    since a graph that is being recorded bears no strange call, and shows no stack to be right (`stack_of_a_kind`).
    """

    def __init__(self, task: Task, examples: Split):
        self.task, self.examples = task, examples
        self._thread = ThreadPoolExecutor(1)
        self._made: tuple[list[list[int]], Future] | None = None

    def begin(self, parts: list[list[int]], like: list[Bundle]) -> None:
        """Draw for bundles of these seeds, if as many at a time were stacked for others."""
        if parts and {len(seeds) for seeds in parts} <= {len(bundle.seeds) for bundle in like}:
            self._made = parts, self._thread.submit(self._draw, parts, blueprint(like[0].nets[0]))

    def _draw(self, parts: list[list[int]], kind: object) -> list[Start]:
        return [Start.drawn(self.task, self.examples, seeds, kind=kind) for seeds in parts]

    def wait(self) -> None:
        """Until the thread does nothing."""
        if self._made:
            self._made[1].exception()

    def drawn(self, parts: list[list[int]]) -> list[Start] | None:
        """What these start from, once; None if others were drawn, or it failed: it fails again where it is seen."""
        self.wait()
        made, self._made = self._made, None
        return made[1].result() if made and made[0] == parts and made[1].exception() is None else None


class Trainer:
    """Trains networks on some examples, as many at once as is best; fewer, from then on, once memory was full."""

    def __init__(self, task: Task, examples: Split, layout: Layout | None = None, tf32: bool = False):
        """Raises WorkError for TF32 where networks are trained one by one."""
        if tf32 and (task.train is not None or why_one_by_one(task, 1)):
            raise WorkError("TF32 is for networks that are trained in stacks, and those of this task are not")
        self.task, self.examples, self.tf32 = task, examples, tf32
        self.layout = layout or best_layout(task, examples, tf32)
        self.on_card = examples.images.is_cuda
        self._ahead = Ahead(task, examples)

    def train(self, seeds: list[int], stepped: Callable[[], None] = lambda: None) -> Iterator[nn.Module]:
        """Yield a trained network for every seed, in their order and in eval mode; as `groups` otherwise."""
        for group in self.groups(taking(seeds), lambda _: stepped()):
            nets = group.nets()
            del group
            yield from nets

    def evaluations(self, seeds: list[int]) -> Iterator[Evaluation]:
        """Yield what is measured of a trained network for every seed, in their order; as `groups` otherwise."""
        for group in self.groups(taking(seeds)):
            evaluations = group.evaluations()
            del group
            yield from evaluations

    def groups(self, take: Take, stepped: Callable[[int], None] = lambda _: None) -> Iterator[Trained]:
        """Train networks of all seeds that can be taken; yields those that were trained together.

        Args:
            take: is asked for the next seeds. On a GPU it is asked while others are still in training.
            stepped: is called after each step with the number of networks that took it.
        Raises:
            WorkError: there is no room for a single network.
            TaskError: the task's own way to train fails.
        """
        left: list[int] = []
        while left := left or take(1 if self.task.train else self.layout.networks):
            if self.task.train is not None:
                yield self._alone(left.pop(), trained_by_own)
                continue
            now, left = left[: self.layout.networks], left[self.layout.networks :]
            try:
                left += [] if left or not self.on_card else take(self.layout.networks)
                trained = self._trained(now, left, stepped)
            finally:
                self._ahead.wait()
            if not trained:  # out here, since the error's traceback holds on to the bundles
                wait(self.examples.images.device)
                torch.cuda.empty_cache()
                self.layout, left = self.layout.smaller(), now + left
            while trained:
                yield trained.pop(0)  # nothing here holds on to memory that the next ones need

    def _trained(self, seeds: list[int], following: list[int], stepped: Callable[[int], None]) -> list[Trained]:
        """Networks of these seeds; none if memory was full and fewer at once are to be tried."""
        try:
            return self._train_at_once(seeds, following, stepped)
        except CannotStack:
            way = partial(train, stepped=lambda: stepped(1))
            return [self._alone(seed, way) for seed in seeds]
        except RuntimeError as error:
            if not memory_was_full(error):
                raise
            if self.layout.networks == 1:
                text = "the device's memory is too small to train a single network of this task"
                raise WorkError(f"{text} ({first_line(error)})") from error
            return []

    def _alone(self, seed: int, way: Callable[[Task, Split, int], nn.Module]) -> Trained:
        start = time.perf_counter()
        net = way(self.task, self.examples, seed)
        return Trained([seed], time.perf_counter() - start, lambda: [net], lambda: [evaluate(net, self.task)])

    def _train_at_once(self, seeds: list[int], following: list[int], stepped: Callable[[int], None]) -> list[Trained]:
        parts, start = in_stacks(seeds, self.layout), time.perf_counter()
        if self.on_card:
            torch.cuda.empty_cache()  # of recorded graphs that are gone, which no other graph can have
        bundles = make_bundles(self.task, self.examples, seeds, self.layout, self._ahead.drawn(parts))
        if self.on_card:
            self._ahead.begin(in_stacks(following[: self.layout.networks], self.layout), bundles)
        with arithmetic(self.tf32):
            for _ in zip(*(bundle.steps() for bundle in bundles)):
                stepped(len(seeds))
        for bundle in bundles:
            bundle.end()
        each = (time.perf_counter() - start) / len(seeds)
        return [Trained(b.seeds, each, b.finish, partial(self._evaluations, b)) for b in bundles]

    def _evaluations(self, bundle: Bundle) -> list[Evaluation]:
        """On a CPU net by net: the stack's sums may come in another order, and records must stay as they are."""
        if not self.on_card:
            return [evaluate(net, self.task) for net in bundle.finish()]
        batch = max(large_batch(self.task.forget) // len(bundle.seeds), 1)
        while True:
            try:
                return evaluate_stack(bundle.stacked, len(bundle.seeds), self.task, batch)
            except RuntimeError as error:
                if not memory_was_full(error) or batch == 1:
                    raise
            batch //= 2
            torch.cuda.empty_cache()
