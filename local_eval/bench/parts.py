"""Benchmarks that train nothing: the metric and the loaders, each beside its plain twin.

How to run them: python -m local_eval bench --parts metric loader
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice

import numpy as np
from torch.utils.data import DataLoader, Dataset

from local_eval.engine.device import wait
from local_eval.metric.metric import example_epsilons
from local_eval.metric.twin import epsilon_over_grid
from local_eval.runs.loaders import make_loader
from local_eval.tasks.task import BATCH_SIZE, Split

BATCHES = 100  # of a loader, at most


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median seconds of `work()` over some repeats, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def metric_bench(models: int = 512, examples: int = 20) -> dict[str, float]:
    """Seconds per forget example: the counting metric against its twin that evaluates the whole grid."""
    rng = np.random.default_rng(0)
    unlearned, retrained = rng.normal(3.0, 1.0, (2, models, examples))
    ours = seconds(lambda: example_epsilons(unlearned, retrained), repeats=5) / examples
    plain = seconds(lambda: epsilon_over_grid(unlearned[:, 0], retrained[:, 0]), repeats=1)
    return {"metric_seconds": ours, "metric_plain_seconds": plain, "metric_speedup": plain / ours}


class PlainExamples(Dataset):
    """A split as the official starting kit holds it: in the computer's memory, a dict made for every example."""

    def __init__(self, split: Split):
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict:
        split = self.split
        return {
            "image": split.pixels(slice(index, index + 1))[0],
            "image_id": int(split.image_id[index]),
            "age_group": int(split.labels[index]),
            "age": int(split.age[index]),
            "person_id": int(split.person_id[index]),
        }


def loader_bench(split: Split, split_on_cpu: Split) -> dict[str, float]:
    """Batches per second, images and classes on the split's device: a stock loader against ours."""
    device = split.images.device

    def epoch(loader: DataLoader) -> Callable[[], None]:
        def work() -> None:
            for batch in islice(loader, BATCHES):
                batch["image"].to(device), batch["age_group"].to(device)
            wait(device)

        return work

    plain = DataLoader(PlainExamples(split_on_cpu), batch_size=BATCH_SIZE, shuffle=True)
    count = min(len(plain), BATCHES)
    rates = {
        "loader_plain_batches": count / seconds(epoch(plain), repeats=3),
        "loader_batches": count / seconds(epoch(make_loader(split)), repeats=3),
    }
    return rates | {"loader_speedup": rates["loader_batches"] / rates["loader_plain_batches"]}
