"""How fast the kit is on this machine: ours beside the plain way, in one run, as ratios.

How to run it: python -m local_eval bench --task digits --write bench.json
"""

from __future__ import annotations

import copy
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from local_eval.commands import command
from local_eval.isolation.child import Failure, run_apart
from local_eval.isolation.device import exact_convolutions, memory_format, wait
from local_eval.isolation.pool import default_workers, run_jobs
from local_eval.methods.handover import pack
from local_eval.methods.loaders import make_loader
from local_eval.methods.submission import Submission
from local_eval.metric.metric import confidences_in, example_epsilons, quality_of
from local_eval.metric.score import OFFICIAL_RUNS, chances_of_one_kind, pool_ceiling
from local_eval.metric.twin import epsilon_over_grid
from local_eval.oracles.oracles import GATE, gate_for, trainer_of, why_not_tf32
from local_eval.oracles.original import save_original
from local_eval.oracles.train import train, training_steps
from local_eval.oracles.train_many import Layout, make_bundles, model_steps_per_second, networks_per_job, whole_batches
from local_eval.runs.one_run import one_run, workplace
from local_eval.runs.plan import RunPlan
from local_eval.store.errors import WorkError
from local_eval.store.files import write_atomically
from local_eval.store.provenance import provenance
from local_eval.store.records import Evaluation
from local_eval.tasks.evaluate import evaluate, evaluate_stack, initial_net
from local_eval.tasks.loading import load_task
from local_eval.tasks.task import BATCH_SIZE, Split, Task

# Benchmarks that train nothing: the metric and the loaders, each beside its plain twin.


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


# Benchmarks of training and unlearning: oracles and runs per minute, ours beside the plain way.
#
# All processes that a grading would use are at work at once, and each alternates between the ways, so that they meet
# the same machine. How to run them: python -m local_eval bench --parts oracles runs


ROUNDS = 3
STEPS = 20  # of the plain loop in a round
LONG = 3000  # steps, more than any way takes in a round
TIMEOUT = 3600.0
POOL_SEEDS = {"fast": 3_000_000, "plain": 4_000_000, "tf32": 5_000_000}


def oracle_bench(task_spec: str, task: Task, device: str) -> dict:
    """Steps of one network per second on the whole machine, and oracles per minute."""
    workers = default_workers(device)
    rates = _sum_of_jobs(run_jobs(oracle_rates, (task_spec, device), list(range(workers)), workers, TIMEOUT, "rates"))
    mflop = flop_per_image(task.make_net(), tuple(task.retain.images.shape[2:]), task.retain.images.shape[1]) / 1e6
    steps = task.recipe.epochs * -(-len(task.retain) // task.recipe.batch_size)
    found = {
        "oracle_workers": workers,
        "oracle_layout": rates["layout"],
        "oracle_plain_steps": rates["plain"],
        "oracle_single_steps": rates["single"],
        "oracle_steps": rates["ours"],
        "oracle_speedup": rates["ours"] / rates["plain"],
        "matrix_gflops": rates["gflops"],
        "mflop_per_image": mflop,
        "oracle_floor_steps": rates["gflops"] * 1e3 / (mflop * task.recipe.batch_size),
    }
    if "tf32" in rates:  # what it would bring; oracles are trained in float32
        found["oracle_tf32_steps"] = rates["tf32"]
    for name, key, setup, measuring in (
        ("oracles_per_minute_plain", "plain", "plain_setups", "evaluations"),
        ("oracles_per_minute", "ours", "setups", "measurements"),
    ):
        found[name] = 60 / (steps / rates[key] + 1 / rates[setup] + 1 / rates[measuring])
    return found


def _sum_of_jobs(jobs: Iterator[tuple[int, dict | Failure]]) -> dict:
    total: dict = {}
    for _, rates in jobs:
        if isinstance(rates, Failure):
            raise WorkError(f"the benchmark failed: {rates.reason}\n{rates.traceback}")
        for key, value in rates.items():
            total[key] = value if isinstance(value, str) else total.get(key, 0.0) + value
    return total


def oracle_rates(what: tuple[str, str], _: int) -> dict:
    """In this process: per second, steps, set-ups and evaluations of one network; and the rate of matrix products."""
    trainer = trainer_of(*what)
    task, layout = long_enough(trainer.task), trainer.layout
    ways = {
        "plain": lambda: plain_steps_per_second(task),
        "single": lambda: model_steps_per_second(task, task.retain, Layout(1)),
        "ours": lambda: model_steps_per_second(task, task.retain, layout),
    }
    if torch.device(what[1]).type == "cuda":
        ways["tf32"] = lambda: model_steps_per_second(task, task.retain, layout, tf32=True)
    measured = {name: [] for name in ways}
    for _round in range(ROUNDS):
        for name, way in ways.items():
            measured[name].append(way())
    rates = {name: float(np.median(values)) for name, values in measured.items()}
    device = task.retain.images.device
    net = initial_net(task, 0)
    net = net.to(device, memory_format=memory_format(net, device))
    rates["evaluations"] = 1 / seconds(lambda: evaluate(net, task), repeats=1)
    rates["plain_setups"] = 1 / seconds(lambda: initial_net(task, 0).to(device), repeats=1)
    seeds = list(range(layout.networks))
    rates["setups"] = layout.networks / seconds(
        lambda: make_bundles(trainer.task, task.retain, seeds, layout), repeats=1
    )
    rates["measurements"] = rates["evaluations"]
    if trainer.on_card:  # which measures a stack at once, and draws the next networks meanwhile
        (stack, *_) = make_bundles(trainer.task, task.retain, seeds[: layout.stack], layout)
        measured = seconds(lambda: evaluate_stack(stack.stacked, layout.stack, task), repeats=1)
        rates["measurements"], rates["setups"] = layout.stack / measured, float("inf")
    return rates | {"layout": str(layout), "gflops": matrix_gflops(device)}


def long_enough(task: Task) -> Task:
    """The task with so many epochs that no way of training comes to its end while timed, and whole batches only."""
    retain = whole_batches(task.retain, task.recipe.batch_size)
    epochs = task.recipe.epochs + -(-LONG * task.recipe.batch_size // len(retain))
    return replace(task, retain=retain, recipe=replace(task.recipe, epochs=epochs))


def plain_steps_per_second(task: Task) -> float:
    """Of the plain loop, one network at a time."""
    steps, device = training_steps(task, task.retain, seed=0), task.retain.images.device
    with exact_convolutions(same_shapes=True):  # as `train` has it
        for _ in islice(steps, 3):
            pass
        wait(device)
        start = time.perf_counter()
        taken = sum(1 for _ in islice(steps, STEPS))
        wait(device)
    return taken / (time.perf_counter() - start)


def flop_per_image(net: nn.Module, size: tuple[int, int], channels: int = 3) -> float:
    """Floating-point operations of one image's forward and backward pass, counted by torch; padding included."""
    batch = torch.zeros(2, channels, *size)  # batch norm needs two
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(copy.deepcopy(net).train()(batch), torch.zeros(2, dtype=torch.long)).backward()
    return counter.get_total_flops() / 2


def matrix_gflops(device: torch.device, size: int = 1024) -> float:
    """Rate of float32 matrix products on the device: what convolutions cannot beat."""
    size = 4 * size if device.type == "cuda" else size
    a, b = torch.rand(2, size, size, device=device)
    best = float("inf")
    for _ in range(5):
        wait(device)
        start = time.perf_counter()
        a @ b
        wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


JOBS_PER_PROCESS = 3  # the first of them is not counted


@dataclass(frozen=True)
class Timed:
    """What a job returned, and in which process and how many seconds it was made."""

    result: Any
    process: int
    seconds: float


def timed_job(what: tuple[Callable[[Any, int], Any], Any], index: int) -> Timed:
    """Make a job, with a look at the clock."""
    function, argument = what
    start = time.perf_counter()
    result = function(argument, index)
    return Timed(result, os.getpid(), time.perf_counter() - start)


def jobs_per_second(made: list[Timed], workers: int) -> float:
    """What `workers` processes make at once; 0 if that cannot be told.

    From the median job: processes start one after another, so counting jobs on the clock would count their start. The
    first job of each, which loads the data, is left out.
    """
    known, seconds = set(), []
    for job in made:
        if job.process in known:
            seconds.append(job.seconds)
        known.add(job.process)
    return workers / statistics.median(seconds) if seconds else 0.0


def runs_bench(task_spec: str, task: Task, device: str, submission: str) -> dict:
    """Runs per minute of a submission by 1, 2, 4 ... processes, up to one per core."""
    cores, counts = default_workers("cpu"), []
    while not counts or counts[-1] < cores:
        counts.append(min(2 * counts[-1], cores) if counts else 1)
    found, rates = Submission.find(submission), {}
    with tempfile.TemporaryDirectory() as folder:
        original = Path(folder) / "original.npz"  # untrained: as fast as a trained one
        save_original(original, initial_net(task, 0).state_dict(), "")
        plan = RunPlan(task_spec, task.fingerprint(), original, found, found.digest(), 0, device)
        for workers in counts:
            indices = list(range(JOBS_PER_PROCESS * workers))
            jobs = run_jobs(timed_job, (one_run, plan), indices, workers, TIMEOUT, f"{workers} at once")
            made = [job for _, job in jobs if isinstance(job, Timed) and not isinstance(job.result, Failure)]
            if len(made) < len(indices):
                print(f"  {workers} processes at once fail, out of memory perhaps; no more are tried")
                break
            rates[str(workers)] = 60 * jobs_per_second(made, workers)
        apart = dict(run_jobs(seconds_apart, plan, [0], 1, TIMEOUT, "a process of its own"))[0]
    if not rates:
        why = command("check", [submission], task=task_spec)
        raise WorkError(f"{submission} fails on this task, and this says why: {why}")
    return {
        "runs_per_minute": rates,
        "runs_speedup": max(rates.values()) / rates["1"],
        "seconds_for_a_process_per_run": apart,
    }


def seconds_apart(plan: RunPlan, _: int) -> float:
    """What a process of its own costs a run: fork, load, hand the weights over, end; without any unlearning."""
    _, original, _, _ = workplace(plan.task, plan.original)
    return seconds(lambda: run_apart(lambda clock: pack(original, original, {}), None), repeats=9)


def pools_bench(task_spec: str, task: Task, device: str, pool: int, kinds: Sequence[str]) -> dict:
    """Does speed change what is scored? Oracles of each kind against those of others, beside halves of either pool.

    Args:
        pool: oracles of each kind.
        kinds: of POOL_SEEDS. With TF32, which a GPU alone has, the gate of `oracles --tf32` is told too.
    """
    made = {kind: _pool(task_spec, task, device, pool, kind) for kind in kinds}
    labels = task.forget.labels.numpy()
    found = {kind: confidences_in(evaluations, labels) for kind, evaluations in made.items()}
    half = {kind: logits[: pool // 2] for kind, logits in found.items()}  # as many as the ceilings have on a side
    rates = {f"pools_{kind}": pool_ceiling(found[kind]) for kind in kinds if kind != "tf32"}
    if "plain" in kinds:
        rates["pools_mixed"] = quality_of(half["plain"], half["fast"])
    if "tf32" in kinds:
        rates["pools_tf32"] = quality_of(half[kinds[0]], half["tf32"])
        chances = chances_of_one_kind(made["fast"], made["tf32"], labels)
        rates[GATE] = gate_for(task.fingerprint(), device, pool, chances)
    return rates


def _pool(task_spec: str, task: Task, device: str, pool: int, kind: str) -> list[Evaluation]:
    size, workers, found = networks_per_job(task, device), default_workers(device), {}
    jobs = list(range(-(-pool // size)))
    for job, made in run_jobs(pool_job, (task_spec, device, kind, size), jobs, workers, TIMEOUT, kind, size):
        if isinstance(made, Failure):
            raise WorkError(f"the benchmark failed: {made.reason}\n{made.traceback}")
        found[job] = made
    return [evaluation for job in sorted(found) for evaluation in found[job]][:pool]


def pool_job(what: tuple[str, str, str, int], job: int) -> list[Evaluation]:
    """What is measured of some oracles of one kind. The kinds have seeds of their own: no oracle is in both."""
    spec, device, kind, size = what
    seeds = [POOL_SEEDS[kind] + job * size + k for k in range(size)]
    if kind == "plain":
        task = load_task(spec).to(device)
        return [evaluate(train(task, task.retain, seed), task) for seed in seeds]
    return list(trainer_of(spec, device, tf32=kind == "tf32").evaluations(seeds))


def bench(task_spec: str, device: str, parts: list[str], submission: str, models: int, pool: int) -> dict:
    """Measure and print the parts; returns all figures, with `<part>_speedup` for each, ours over plain.

    Args:
        models: N of the metric's part.
        pool: oracles on each side of the part "pools".
    """
    torch.set_num_threads(1)  # as in the grader's processes
    task = load_task(task_spec)
    found: dict = {"task": task.name, **provenance(device)}
    print(f"{found['hardware']}, torch {found['torch']}, commit {found['commit']}; task {task.name}")
    if "metric" in parts:
        found |= metric_bench(models)
        rows = {"whole grid at once": "metric_plain_seconds", "ours": "metric_seconds"}
        _print(f"metric, N = {models}, ms per forget example", {n: 1e3 * found[k] for n, k in rows.items()})
        _print_ratio(found["metric_speedup"])
    if "loader" in parts:
        found |= loader_bench(task.to(device).retain, task.retain)
        rows = {"stock DataLoader": "loader_plain_batches", "ours": "loader_batches"}
        _print("loader, batches of 64 per second", {n: found[k] for n, k in rows.items()})
        _print_ratio(found["loader_speedup"])
    if "oracles" in parts:
        found |= oracle_bench(task_spec, task, device)
        _print_oracles(found)
    if "runs" in parts:
        found |= runs_bench(task_spec, task, device, submission)
        rates = {f"{k} process{'es' if int(k) > 1 else ''}": rate for k, rate in found["runs_per_minute"].items()}
        _print(f"runs of {submission} per minute", rates)
        _print_ratio(found["runs_speedup"])
        _print("a process per run", {"seconds each": found["seconds_for_a_process_per_run"]}, digits=3)
    if kinds := kinds_of_pools(parts, device):
        found |= pools_bench(task_spec, task, device, pool, kinds)
        rows = {"plain against fast": "pools_mixed", "plain, half by half": "pools_plain", "fast": "pools_fast"}
        rows |= {f"{kinds[0]} against TF32": "pools_tf32"}
        shown = {name: found[key] for name, key in rows.items() if key in found}
        _print(f"{pool} oracles of each kind, score", shown, digits=4)
        _print_gate(found)
    if "cluster" in parts:
        from studies.cluster import cluster_bench  # here: no other part needs Ray's driver

        for title, figures in cluster_bench(len(task.forget), task.num_classes):
            _print(title, figures, digits=3)
            found[f"cluster: {title}"] = figures
    _print_projection(found, len(task.forget))
    return found


def _print(title: str, rows: dict[str, float], digits: int = 2) -> None:
    print(title)
    for name, value in rows.items():
        print(f"  {name:<36}{value:12,.{digits}f}")


def _print_ratio(value: float) -> None:
    print(f"  {'ratio':<36}{value:12,.1f}")


def _print_oracles(found: dict) -> None:
    rows = {
        "plain loop": found["oracle_plain_steps"],
        "one network, live taps, channels last": found["oracle_single_steps"],
        f"ours, {found['oracle_layout']}": found["oracle_steps"],
        "floor, all taps at the matrix rate": found["oracle_floor_steps"],
    }
    if "oracle_tf32_steps" in found:
        rows["the same in TF32 (not used)"] = found["oracle_tf32_steps"]
    _print(f"oracles, steps of one network per second, {found['oracle_workers']} process(es)", rows, digits=1)
    _print_ratio(found["oracle_speedup"])
    print(f"  {found['mflop_per_image']:.1f} MFLOP per image, matrix products at {found['matrix_gflops']:,.0f} GFLOP/s")
    print(f"  oracles per minute, all included: plain {found['oracles_per_minute_plain']:.3g},", end=" ")
    print(f"ours {found['oracles_per_minute']:.3g}")


def _print_projection(found: dict, examples: int) -> None:
    """What an official grading would take here, from what was measured."""
    minutes = {}
    if "oracles_per_minute" in found:
        minutes["oracles, once per task"] = OFFICIAL_RUNS / found["oracles_per_minute"]
    if "runs_per_minute" in found:
        minutes["runs"] = OFFICIAL_RUNS / max(found["runs_per_minute"].values())
    if "metric_seconds" in found:
        minutes["metric"] = examples * found["metric_seconds"] / 60
    if minutes:
        _print(f"projected for N = {OFFICIAL_RUNS}, minutes", minutes)
    found["projected_minutes"] = minutes


def kinds_of_pools(parts: Sequence[str], device: str) -> tuple[str, ...]:
    """Which pools the parts "pools" and "tf32" need; raises WorkError for TF32 on a CPU, which has none."""
    on_card = torch.device(device).type == "cuda"
    if "pools" in parts:
        return ("plain", "fast", "tf32") if on_card else ("plain", "fast")
    if "tf32" in parts and not on_card:
        raise WorkError(f"--parts tf32: TF32 is a GPU's arithmetic, and --device is {device}")
    return ("fast", "tf32") if "tf32" in parts else ()


def _print_gate(found: dict) -> None:
    """What a file of these figures lets `oracles --tf32` do."""
    if GATE in found:
        _print("chance of fast and TF32 oracles to differ so much if they were of one kind", found[GATE]["chances"], 3)
        reason = why_not_tf32(found[GATE])
        verdict = f"is refused: {reason}" if reason else "takes the file that --write has written"
        print(f"  oracles --tf32 FILE {verdict}")


def save(found: dict, path: Path) -> None:
    """Write the figures as JSON; raises OutputError."""
    write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())
