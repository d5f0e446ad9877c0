"""Will 512 models fit into 8 hours on Kaggle? Times a submission here and projects; the table of all submissions.

How to run it: python -m local_eval budget --all --write docs/kaggle.md
"""

from __future__ import annotations

import io
import json
import statistics
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn
from torchvision.models import resnet18

from local_eval.isolation.cards import kind_of
from local_eval.isolation.child import Clock, Failure, run_apart
from local_eval.isolation.share_gpu import run_on_device
from local_eval.methods.contract import load_telling
from local_eval.methods.loaders import handed_out
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import Submission
from local_eval.metric.score import BUDGET_SECONDS, OFFICIAL_RUNS
from local_eval.runs.check import with_path
from local_eval.runs.one_run import seed_everything, timed
from local_eval.tasks.loading import load_task
from local_eval.tasks.task import Task

# Will 512 models fit into 8 hours on Kaggle? Times a submission here and projects.
#
# The unit is the *stock epoch*: one run of baseline_finetune, the official starter's single epoch. Both are timed in
# turn on this machine, so a ratio comes out that hardly depends on it. On Kaggle a stock epoch took about 10 s (rank
# 3's four epochs took 6 h for 512 models, and six were the most that fitted). What does depend on the machine is what
# a bigger batch saves: everything where a step costs the same whatever its size, nothing where the arithmetic is the
# bottleneck, as on a CPU. So the images and the steps that the method feeds through the network are counted too, and
# the cost is an interval that spans the times, the images and the steps, each relative to the stock epoch's.
#
# The data are the task's, drawn to a quarter of the competition's sizes, so that retain, forget and validation set
# stand to each other as they do there.


STOCK = "baseline_finetune"
STOCK_SECONDS = (9.4, 10.0, 10.5)  # of a stock epoch on Kaggle's GPU: low, middle, high
FORWARD_ONLY = 1 / 3  # of a step's work when no gradients are asked for
REPEATS = 3
WARM_UP = 128  # examples of each loader in a run that is not counted
SIZES = {"retain": 23_500 // 4, "forget": 480 // 4, "validation": 3_000 // 4}


@dataclass(frozen=True)
class TimingPlan:
    """What the worker that times needs."""

    submission: Submission
    task: str
    device: str
    timeout: float  # seconds for one run
    batches_on: str = "device"  # or "cpu"


@dataclass(frozen=True)
class Work:
    """What one run took: seconds, and what went through the network in units of forward and backward passes."""

    seconds: float
    steps: float
    images: float


@dataclass(frozen=True)
class Cost:
    """A submission in stock epochs, and what a stock epoch takes here and a checkpoint to save and zip, in seconds."""

    times: tuple[float, ...]  # one ratio of times per repeat
    steps: float
    images: float
    stock_seconds: float
    saving_seconds: float

    @property
    def middle(self) -> float:
        return statistics.median(self.times)

    @property
    def low(self) -> float:
        return min(*self.times, self.steps, self.images)

    @property
    def high(self) -> float:
        return max(*self.times, self.steps, self.images)


@dataclass(frozen=True)
class Projection:
    """Seconds per run on Kaggle, saving and zipping included; a projection, not a measurement."""

    low: float
    middle: float
    high: float

    @property
    def verdict(self) -> str:
        """'fits', 'does not fit' or 'cannot tell'."""
        if self.high <= BUDGET_SECONDS:
            return "fits"
        return "does not fit" if self.low > BUDGET_SECONDS else "cannot tell"


def measure(
    submission: str,
    task: str,
    device: str,
    repeats: int = REPEATS,
    timeout: float = 900.0,
    batches_on: str = "device",
) -> Cost:
    """Time a submission, by name or path, against the stock epoch, both with batches on the device or on the CPU.

    Raises:
        SubmissionError: there is none, or it fails.
    """
    found = Submission.find(submission)
    plan = TimingPlan(found, task, kind_of(device), timeout, batches_on)
    jobs, limit = list(range(2 * repeats + 2)), 2 * timeout + 600
    results = dict(run_on_device(device, one_timing, plan, jobs, 1, limit, f"timing {found.label}"))
    for result in results.values():
        if isinstance(result, Failure):
            raise SubmissionError(with_path(found, result))
    stock, ours = ([results[k] for k in range(2 + first, 2 * repeats + 2, 2)] for first in (0, 1))
    return Cost(
        times=tuple(b.seconds / a.seconds for a, b in zip(stock, ours)),
        steps=statistics.median(b.steps / a.steps for a, b in zip(stock, ours)),
        images=statistics.median(b.images / a.images for a, b in zip(stock, ours)),
        stock_seconds=statistics.median(a.seconds for a in stock),
        saving_seconds=seconds_to_save(),
    )


def project(cost: Cost, stock_epoch_seconds: float | None = None) -> Projection:
    """Seconds per run where a stock epoch takes so long, give or take 5 %; the default is what is known of Kaggle."""
    seconds = STOCK_SECONDS
    if stock_epoch_seconds is not None:
        seconds = (0.95 * stock_epoch_seconds, stock_epoch_seconds, 1.05 * stock_epoch_seconds)
    epochs = (cost.low, cost.middle, cost.high)
    return Projection(*(e * s + cost.saving_seconds for e, s in zip(epochs, seconds)))


def report(name: str, cost: Cost, projection: Projection) -> str:
    """What was measured and what follows, as text."""
    spread = f"{min(cost.times):.2f} to {max(cost.times):.2f}"
    low, middle, high = (value * OFFICIAL_RUNS / 3600 for value in (projection.low, projection.middle, projection.high))
    return "\n".join(
        [
            f"{name}, in stock epochs of {cost.stock_seconds:.2f} s here",
            f"  by time, median          {cost.middle:8.2f}  {spread} over {len(cost.times)} runs",
            f"  by images                {cost.images:8.2f}  what counts where arithmetic is the bottleneck",
            f"  by steps                 {cost.steps:8.2f}  what counts where a step costs the same at any batch size",
            f"  saving and zipping, s    {cost.saving_seconds:8.2f}  a resnet18 checkpoint, on this machine",
            f"Projected to Kaggle: {projection.middle:.0f} s a run ({projection.low:.0f} to {projection.high:.0f}), "
            f"{middle:.1f} h for {OFFICIAL_RUNS} ({low:.1f} to {high:.1f}); the budget is {BUDGET_SECONDS} s and 8 h",
            f"Verdict: {projection.verdict}. This is a projection. The calibration cell of an exported notebook",
            "measures the stock epoch on Kaggle's GPU; give it as --stock-epoch-seconds",
        ]
    )


def one_timing(plan: TimingPlan, index: int) -> Work | Failure:
    """Job `index` of a measurement: stock epoch and submission in turn, the first of each a short warm-up."""
    submission = plan.submission if index % 2 else Submission.find(STOCK)
    task = resized(load_task(plan.task, tried=True), dict.fromkeys(SIZES, WARM_UP) if index < 2 else SIZES)
    net = task.make_net()  # untrained: a step costs the same; here, where relative paths mean what they do for the user
    answer = run_apart(partial(_work_of, submission, plan, task, net, index), plan.timeout)
    if isinstance(answer.content, Failure):
        return answer.content
    passed = json.loads(answer.content)
    return Work(answer.seconds, float(passed["steps"]) or 1.0, float(passed["images"]) or 1.0)


def _work_of(submission: Submission, plan: TimingPlan, task: Task, net: nn.Module, index: int, clock: Clock) -> bytes:
    """In the submission's own process: one run, and what it passed through the network, as JSON."""
    _, loaders = handed_out(task, plan.device, plan.batches_on)
    net = net.to(plan.device)
    seed_everything(0, index)
    unlearning = load_telling(submission)
    with counted_passes(type(net)) as passed:
        timed(clock, plan.device, lambda: unlearning(net, *loaders))
    return json.dumps(passed).encode()


def resized(task: Task, sizes: dict[str, int]) -> Task:
    """The task with so many examples in these splits, drawn with repetition."""
    generator = torch.Generator().manual_seed(0)
    splits = task.splits
    drawn = {name: torch.randint(len(splits[name]), (size,), generator=generator) for name, size in sizes.items()}
    return replace(task, **{name: splits[name][index] for name, index in drawn.items()})


@contextmanager
def counted_passes(kind: type[nn.Module]) -> Iterator[dict[str, float]]:
    """Count what goes through any network of this class, copies and new ones included, while the context lasts."""
    passed = {"steps": 0.0, "images": 0.0}

    def count(module: nn.Module, inputs: tuple) -> None:
        if type(module) is kind and inputs:
            share = 1.0 if torch.is_grad_enabled() else FORWARD_ONLY
            passed["steps"] += share
            passed["images"] += share * len(inputs[0])

    handle = nn.modules.module.register_module_forward_pre_hook(count)
    try:
        yield passed
    finally:
        handle.remove()


def seconds_to_save() -> float:
    """Seconds to save a competition checkpoint and to zip it, as the notebook's driver does."""
    state, start = resnet18(num_classes=10).state_dict(), time.perf_counter()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with zipfile.ZipFile(io.BytesIO(), "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("checkpoint.pth", buffer.getvalue())
    return time.perf_counter() - start


MARKER = "budget table"  # the table stands between <!-- budget table --> and <!-- end budget table -->
REPORTED = {  # by the first word of a submission's name
    "fanchuan": "8 epochs fit with batch 256, at most 6 with 64",
    "seif": "about 6 h",
}


def budget_table(costs: dict[str, Cost], where: str, stock_epoch_seconds: float | None = None) -> str:
    """A Markdown table, cheapest first. `where` names task and machine."""
    lines = [
        "| submission | stock epochs | range | 512 models on Kaggle, projected | in 8 h? | authors |",
        "|---|---|---|---|---|---|",
    ]
    for name, cost in sorted(costs.items(), key=lambda item: item[1].middle):
        found = project(cost, stock_epoch_seconds)
        lines.append(
            f"| {name} | {cost.middle:.1f} | {cost.low:.1f} to {cost.high:.1f} | {_hours(found)} | {found.verdict} "
            f"| {REPORTED.get(name.split('_')[0], '')} |"
        )
    lines.append(
        f"\nMeasured on {where}; a stock epoch is one run of baseline_finetune. The range spans times, images and "
        f"steps: batches above 64 save on a GPU and not on a CPU. The budget is {BUDGET_SECONDS} s a run, saving "
        "and zipping included; a projection, not a measurement."
    )
    return "\n".join(lines)


def _hours(found: Projection) -> str:
    low, middle, high = (value * OFFICIAL_RUNS / 3600 for value in (found.low, found.middle, found.high))
    return f"{middle:.1f} h ({low:.1f} to {high:.1f})"
