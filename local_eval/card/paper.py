"""What an official grading costs on paper: operations, bytes, launches, waits and processes, counted, not measured.

A step is taken on the CPU and every call in it is counted: its operations by torch, its bytes as the sizes of the
tensors that it reads and writes, each once. A card cannot be faster than its peaks allow; how near it comes, only a
card can say (`bench --card`). The tables in docs/speed.md are made here, and a test compares them.

How to run it: python -m local_eval.card.paper docs/speed.md
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from local_eval.card import noise
from local_eval.oracles.train_many import LAYOUTS_SECONDS, Bundle
from local_eval.store.files import write_atomically
from local_eval.tasks.evaluate import initial_net
from local_eval.tasks.task import Task

MODELS, RUN_EPOCHS = 512, 5  # official; of the method whose runs are counted
BEGIN, END = "<!-- on paper -->", "<!-- end on paper -->"

# Facts of the tests: tests/pretended_card/test_kit.py holds them.
WAITS_PER_STEP, WAITS_PER_BATCH = 0, 0  # of a recorded step, of a batch of the loader
CONTEXTS_BESIDE = 3  # a look at the cards, the original model, the oracles; the others are runs and evaluators


@dataclass(frozen=True)
class Peak:
    """What a card can do at most, by its maker's data sheet; per second."""

    float32: float  # operations
    tf32: float  # the same with TF32's tensor cores, without sparsity
    bytes: float  # of its memory


CARDS = {  # nvidia.com/en-us/data-center/h200 and h100, a100, tesla-t4
    "H200": Peak(67e12, 494e12, 4.8e12),
    "H100": Peak(67e12, 494e12, 3.35e12),
    "A100": Peak(19.5e12, 156e12, 2.04e12),
    "T4": Peak(8.1e12, 8.1e12, 0.32e12),  # it has no TF32
}
# Assumed, since nobody has measured them here; a card will.
LAUNCH = 5e-6  # seconds of one processor for every call that launches a kernel, Python included
CONTEXT = 0.5  # seconds to start CUDA in a process
DRAWN = 1e8  # normal numbers that a processor draws in a second
SHARE = 0.5  # of either peak that kernels come to, one after the other
PROCESSES = 16  # that make runs at once
AT_ONCE = 32  # networks in training together


@dataclass(frozen=True)
class Cost:
    """Of one step of training."""

    flop: float
    bytes: float
    launches: int
    by_kind: tuple[tuple[str, float], ...] = ()  # bytes by kind of call

    def of(self, kind: str) -> float:
        """Bytes that calls of a kind move."""
        return dict(self.by_kind).get(kind, 0.0)


class Counted(TorchDispatchMode):
    """Counts calls that launch a kernel, and the bytes of all tensors that they read and write."""

    VIEWS = {
        "view", "_unsafe_view", "t", "transpose", "permute", "expand", "slice", "select", "unsqueeze", "squeeze",
        "split", "detach", "alias", "as_strided", "_reshape_alias", "empty", "empty_like", "empty_strided", "new_empty",
    }  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.launches, self.bytes = 0, Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in self.VIEWS:
            seen = [leaf for leaf in tree_leaves((args, kwargs, made)) if isinstance(leaf, Tensor)]
            self.launches += 1
            self.bytes[_kind(name)] += sum(t.numel() * t.element_size() for t in seen)
            if name.startswith("_fused_adam"):  # what it writes is not among what it gives: all but the gradients
                self.bytes["optimiser"] += sum(t.numel() * t.element_size() for k in (0, 2, 3) for t in args[k])
        return made


def _kind(name: str) -> str:
    if "conv" in name or name in ("mm", "addmm", "bmm", "baddbmm"):
        return "convolutions"
    if "batch_norm" in name:
        return "batch norms"
    if "relu" in name or name in ("threshold_backward", "add", "add_"):
        return "ReLU and sums"
    return "optimiser" if "adam" in name or "foreach" in name else "other"


def step_of_one_network(task: Task) -> Cost:
    """Of one step of one oracle, as the kit stacks it: dead taps left out, the optimiser fused; of the CPU's calls."""
    few = task.retain[: 2 * task.recipe.batch_size].to("cpu")
    bundle = Bundle(task, few, [1])
    batch = torch.arange(task.recipe.batch_size)[:, None]
    bundle.step(batch)  # the optimiser's state comes to be
    return counted(lambda: bundle.step(batch))


def step_of_a_run(task: Task) -> Cost:
    """Of one step of a method that trains the whole network as usual, with SGD and batches of 64."""
    net = initial_net(task, 0).train()
    images, labels = task.retain.pixels(slice(0, 64)), task.retain.labels[:64]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, foreach=True)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()

    step()
    return counted(step)


def counted(step: Callable[[], object]) -> Cost:
    """What the calls of `step` cost."""
    with FlopCounterMode(display=False) as counter, Counted() as calls:
        step()
    kinds = tuple(sorted(calls.bytes.items()))
    return Cost(counter.get_total_flops(), sum(calls.bytes.values()), calls.launches, kinds)


def forward_of(task: Task, images: int = 64) -> float:
    """Operations to evaluate one image."""
    net = initial_net(task, 0).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(task.retain.pixels(slice(0, images)))
    return counter.get_total_flops() / images


# The tables.


def oracles_table(step: Cost, image: float, peak: Peak = CARDS["H200"]) -> list[str]:
    """512 oracles, as they are trained today and as they could be."""
    steps, images = _steps(noise.RECIPE.epochs), sum(noise.SIZES.values())
    ways = {  # operations a second, bytes of a step
        "float32, as today": (peak.float32, step.bytes),
        "TF32": (peak.tf32, step.bytes),
        "and sums and ReLU fused with batch norms": (peak.tf32, step.bytes - step.of("ReLU and sums")),
        "and activations in bfloat16": (peak.tf32, (step.bytes - step.of("ReLU and sums") + step.of("optimiser")) / 2),
    }
    first = LAYOUTS_SECONDS + AT_ONCE * _numbers_drawn() / DRAWN  # others are drawn while these train
    beside = (first + MODELS * images * image / (SHARE * peak.float32)) / 60
    lines = [
        f"| {MODELS} oracles on an H200 | PFLOP | min at the peak | PB | min at the memory's peak | min beside | "
        f"at {SHARE:.0%} of both, in turn | at {SHARE:.0%}, at once |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, (rate, moved) in ways.items():
        work, memory = steps * step.flop / rate / 60, steps * moved / peak.bytes / 60
        ends = f"{(work + memory) / SHARE + beside:.0f} | {max(work, memory) / SHARE + beside:.0f}"
        numbers = f"{steps * step.flop / 1e15:.0f} | {work:.1f} | {steps * moved / 1e15:.1f} | {memory:.1f}"
        lines.append(f"| {name} | {numbers} | {beside:.1f} | {ends} |")
    return lines


def runs_table(step: Cost, peak: Peak = CARDS["H200"]) -> list[str]:
    """512 runs of a method of 5 epochs, by processes that share the card."""
    steps, contexts = _steps(RUN_EPOCHS), MODELS + PROCESSES + CONTEXTS_BESIDE
    work, memory = steps * step.flop / peak.float32 / 60, steps * step.bytes / peak.bytes / 60
    launching, starting = steps * step.launches * LAUNCH / 60, contexts * CONTEXT / 60
    total = (work + memory) / SHARE + (launching + starting) / PROCESSES
    return [
        f"| {MODELS} runs of {RUN_EPOCHS} epochs on an H200 | counted | min |",
        "|---|---|---|",
        f"| operations | {steps * step.flop / 1e15:.0f} PFLOP | {work:.1f} at the peak of float32 |",
        f"| bytes | {steps * step.bytes / 1e15:.2f} PB | {memory:.1f} at the memory's peak |",
        f"| launches | {steps * step.launches / 1e6:.0f} million, {step.launches} a step | {launching:.1f} of one "
        f"processor, {launching / PROCESSES:.1f} of {PROCESSES} |",
        f"| waits in loader and recorded steps | {WAITS_PER_BATCH + WAITS_PER_STEP} | 0 |",
        f"| contexts | {contexts} ({MODELS} runs, {PROCESSES} evaluators, {CONTEXTS_BESIDE}) | {starting:.1f} one "
        f"after the other, {starting / PROCESSES:.1f} by {PROCESSES} |",
        f"| together, at {SHARE:.0%} of both peaks | | {total:.0f} by {PROCESSES} processes, "
        f"{(work + memory) / SHARE + launching + starting:.0f} by one |",
    ]


def _steps(epochs: int) -> int:
    """Of all models together."""
    return MODELS * epochs * -(-noise.SIZES["retain"] // noise.RECIPE.batch_size)


def _numbers_drawn() -> int:
    """How many numbers the network's initial weights are."""
    return sum(p.numel() for p in noise.task().make_net().parameters())


def tables() -> str:
    """Both tables, counted now, with what is assumed."""
    torch.set_num_threads(1)
    task = noise.task()
    task = Task(**{**vars(task), "retain": task.retain[:256]})  # as many as are counted
    lines = oracles_table(step_of_one_network(task), forward_of(task)) + [""] + runs_table(step_of_a_run(task))
    peak = CARDS["H200"]
    assumed = (
        f"Assumed: {peak.float32 / 1e12:.0f} TFLOP/s in float32, {peak.tf32 / 1e12:.0f} in TF32 and "
        f"{peak.bytes / 1e12:.1f} TB/s by the data sheet; no cache; {LAUNCH * 1e6:.0f} µs a launch,\n{CONTEXT:g} s a "
        f'context, {DRAWN / 1e6:.0f} million weights drawn a second. "Beside" is trying layouts, drawing the first\n'
        f"{AT_ONCE} networks, and evaluating all."
    )
    return "\n".join([*lines, "", assumed])


def write_into(page: Path) -> None:
    """Put the tables between their markers. Raises ValueError if the page has none."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN} and {END}, between which the tables go")
    write_atomically(page, f"{before}{BEGIN}\n{tables()}\n{END}{after}".encode())


if __name__ == "__main__":
    write_into(Path(sys.argv[1]))
