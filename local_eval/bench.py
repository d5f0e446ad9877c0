"""How fast the kit is on this machine: ours beside the plain way, in one run, as ratios.

How to run it: python -m local_eval bench
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from local_eval.metric import example_epsilons
from local_eval.metric_twin import epsilon_over_grid


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


def print_metric(models: int = 512) -> None:
    """Run the metric's benchmark and print it."""
    found = metric_bench(models)
    ours, plain = found["metric_seconds"] * 1e3, found["metric_plain_seconds"] * 1e3
    print(f"metric, N = {models}, per forget example")
    for name, value in (("whole grid at once, ms", plain), ("ours, ms", ours), ("ratio", plain / ours)):
        print(f"  {name:<24}{value:10.2f}")
