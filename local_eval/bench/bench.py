"""How fast the kit is on this machine: ours beside the plain way, in one run, as ratios.

How to run it: python -m local_eval bench --task digits --json bench.json
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from local_eval.bench.cluster import cluster_bench
from local_eval.bench.models import oracle_bench, pools_bench, runs_bench
from local_eval.bench.parts import loader_bench, metric_bench
from local_eval.engine.files import write_atomically
from local_eval.engine.provenance import provenance
from local_eval.metric.score import OFFICIAL_RUNS
from local_eval.tasks.load import load_task


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
    if "pools" in parts:
        found |= pools_bench(task_spec, task, device, pool)
        rows = {"plain against fast": "pools_mixed", "plain, half by half": "pools_plain", "fast": "pools_fast"}
        rows |= {"plain against TF32": "pools_tf32"} if "pools_tf32" in found else {}
        _print(f"{pool} oracles of each kind, score", {n: found[k] for n, k in rows.items()}, digits=4)
    if "cluster" in parts:
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


def save(found: dict, path: Path) -> None:
    """Write the figures as JSON; raises OutputError."""
    write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())
