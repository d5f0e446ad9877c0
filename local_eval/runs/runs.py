"""N independent unlearning runs from the original model, on a pool of processes.

Run i depends on (task, submission with all that it reads, seed, i) alone, never on the number of workers, the order, an
interruption or another run. Every finished run is on disk before the next is counted, so the same command goes on where
the last one stopped.

How to run this stage: python -m local_eval run fanchuan --task digits --runs 64
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from local_eval.engine.failure import Failure
from local_eval.engine.files import locked, write_atomically
from local_eval.engine.records import Record, read_records, record_path, save_record
from local_eval.engine.share_gpu import Engine, run_on_device
from local_eval.runs.checkpoints import kept_checkpoints
from local_eval.runs.identity import Reads
from local_eval.runs.one_run import one_run
from local_eval.runs.plan import RunPlan

WORKER_GRACE = 600.0  # seconds for what a worker does beside a run: load the task, evaluate


def finish_runs(
    plan: RunPlan,
    folder: Path,
    runs: int,
    shape: tuple[int, int],
    workers: int | None,
    timeout: float,
    engine: Engine | None = None,
) -> tuple[dict[int, Record], dict[int, Failure]]:
    """Make the runs 0..runs-1 that are not in `folder` yet; returns all finished ones, and why others failed.

    Args:
        shape: (E, C) of the forget set's logits.
        workers: processes; None for one per core, or on a GPU for as many as are fastest.
        timeout: seconds after which a run counts as hanging.
        engine: makes the runs; None for processes of this machine.
    Raises:
        OutputError: the folder is in use, read-only or full; what was finished is kept.
    """
    with locked(folder):
        done = finished_runs(plan, folder, runs, shape)
        failures = {}
        kept = set(done)
        if plan.checkpoints:
            kept = kept_checkpoints(plan.checkpoints, {i: run.facts.get("checkpoint") for i, run in done.items()})
        missing = [i for i in range(runs) if i not in kept]
        read = next((run.facts["read"] for run in done.values() if "read" in run.facts), None)
        plan = replace(plan, timeout=timeout, reads=read)
        # The worker ends a run that hangs; the pool ends a worker that does, because a run has stopped it, say
        limit = 2 * timeout + WORKER_GRACE
        run = engine.run_on_device if engine else run_on_device
        jobs = run(plan.device, one_run, plan, missing, workers, limit, f"runs of {plan.submission.label}")
        with contextlib.closing(jobs):  # an error in here stops the workers at once
            for index, result in jobs:
                failed = folder / f"{index:04d}.failed.txt"
                if isinstance(result, Failure):
                    failures[index] = result
                    write_atomically(failed, result.as_text().encode(errors="replace"))
                else:
                    save_record(record_path(folder, index), result)
                    failed.unlink(missing_ok=True)
                    done[index] = result
    return done, failures


def finished_runs(plan: RunPlan, folder: Path, runs: int, shape: tuple[int, int]) -> dict[int, Record]:
    """The runs on disk that still count: a run that read something that has changed since is told and left out."""
    done, changed = read_records(folder, plan.identity, runs, shape), Counter()
    for index, run in list(done.items()):
        if changes := Reads.from_json(run.facts.get("read", {})).changes():
            changed.update(changes)
            del done[index]
    for what, count in changed.items():
        text = f"{what} has changed since {count} runs read it; these runs do not count any more"
        print(f"{plan.submission.label}: {text}", file=sys.stderr)
    return done
