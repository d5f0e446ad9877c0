"""The driver's memory with as many as 512 runs of the competition's size: a constant few hundred megabytes."""

import os
from pathlib import Path

import numpy as np
import pytest

from local_eval.grader import Grader
from local_eval.runs.one_run import finish_runs, finished_runs
from local_eval.store.records import Controls, Evaluation, Record
from tests.conftest import TINY

pytestmark = pytest.mark.faults
EXAMPLES, CLASSES, SHOWN = 5000, 10, 256
COUNTS = (64, 128, 256, 512)
MOST = 300 * 2**20  # bytes


class MadeUp:
    """An engine whose runs are random numbers of the size of real ones."""

    def __init__(self, plan):
        self.plan = plan

    def run_on_device(self, device, function, plan, indices, *_):
        rng = np.random.default_rng(0)
        for index in indices:
            logits = rng.normal(size=(EXAMPLES, CLASSES)).astype(np.float32)
            controls = Controls(logits[:SHOWN].copy(), logits[:SHOWN].copy(), np.zeros((4, CLASSES), np.int64))
            yield index, Record(Evaluation(logits, 0.9, 0.8, controls), plan.identity(index), {"seconds": 1.0})


def peak_of(work) -> int:
    """Bytes by which a process's memory grows at most while it does `work`; it is forked for it."""
    (reported, tell) = os.pipe()
    child = os.fork()
    if child == 0:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        before = field("VmRSS")
        work()
        os.write(tell, str(field("VmHWM") - before).encode())
        os._exit(0)
    os.close(tell)
    os.waitpid(child, 0)
    with os.fdopen(reported) as file:
        return int(file.read())


def field(name: str) -> int:
    """A figure of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells peaks so")
def test_512_runs_fit_into_a_few_hundred_megabytes(original_out, submission, tmp_path, write):
    plan = Grader(TINY, original_out).run_plan(submission())
    rows = []
    for count in COUNTS:
        folder = tmp_path / str(count)
        made = peak_of(lambda: finish_runs(plan, folder, count, (EXAMPLES, CLASSES), 1, 60.0, MadeUp(plan)))
        read = peak_of(lambda: finished_runs(plan, folder, count, (EXAMPLES, CLASSES)))
        rows.append(f"| {count} | {made / 1e6:.0f} MB | {read / 1e6:.0f} MB |")
        assert max(made, read) < MOST
    head = "| runs | while they are made | while they are read again |\n|---|---|---|\n"
    write(head + "\n".join(rows), "memory")
