"""The test set lies nowhere in the memory of the process in which a submission runs, and nowhere in its reach."""

import re
from pathlib import Path

import numpy as np
import pytest

from local_eval.grader import Grader
from local_eval.runs.check import check_submission
from local_eval.runs.one_run import finish_runs
from local_eval.store.errors import InputError
from local_eval.tasks.loading import load_task
from tests.conftest import TINY

# Reads all of its process's memory, and tells how many of the images it knows are there. It knows each by two halves
# that lie apart in its own memory; only where one follows the other is the image.
SPY = """
HALVES = {halves}

def contents():
    for line in open("/proc/self/maps"):
        place, rights = line.split()[:2]
        if "rw" in rights and "[v" not in line:
            start, end = (int(number, 16) for number in place.split("-"))
            with open("/proc/self/mem", "rb", 0) as memory:
                try:
                    memory.seek(start)
                    yield memory.read(end - start)
                except (OSError, OverflowError):
                    pass

def holds(content, first, second):
    at = content.find(first)
    while at >= 0:
        if content[at + len(first):at + len(first) + len(second)] == second:
            return True
        at = content.find(first, at + 1)
    return False

def unlearning(net, retain_loader, forget_loader, val_loader):
    seen = {{name: [False] * len(halves) for name, halves in HALVES.items()}}
    for content in contents():
        for name, halves in HALVES.items():
            seen[name] = [was or holds(content, *one) for was, one in zip(seen[name], halves)]
    raise RuntimeError(f"there are {{ {{name: sum(each) for name, each in seen.items()}} }}")
"""
KNOWN = 8  # images of each split


def spy(task, folder: Path) -> Path:
    """The submission, which knows the middles of some images by heart."""
    halves = {}
    for name, split in task.splits.items():
        rows = [image.numpy().reshape(-1) for image in split.images[:: max(len(split) // KNOWN, 1)][:KNOWN]]
        parts = [row[(at := int(np.argmax(row > 0)) + len(row) // 3) : at + 48].tobytes() for row in rows]
        halves[name] = [(part[:24], part[24:]) for part in parts if len(set(part)) > 8]
    path = folder / "spy.py"
    path.write_text(SPY.format(halves=halves))
    return path


def seen(reason: str) -> dict[str, int]:
    return {name: int(count) for name, count in re.findall(r"'(\w+)': (\d+)", reason)}


@pytest.mark.spawned
@pytest.mark.parametrize(
    "spec",
    [TINY, pytest.param("digits", marks=pytest.mark.slow), pytest.param("competition_small", marks=pytest.mark.slow)],
)
def test_a_run_finds_its_own_sets_in_its_memory_and_not_the_test_set(tmp_path, spec):
    task = load_task(spec)
    grader = Grader(spec, tmp_path / "out", runs=16, device="cpu", workers=1)
    grader.finish_originals()
    path = spy(task, tmp_path)
    shape = len(task.forget), task.num_classes
    _, failures = finish_runs(grader.run_plan(str(path)), tmp_path / "runs", 1, shape, 1, timeout=120.0)
    counts = seen(failures[0].reason)
    assert counts["forget"] >= KNOWN // 2 and counts["retain"] >= KNOWN // 2, failures[0].reason
    assert counts["test"] == 0
    with pytest.raises(InputError, match="there are") as refused:
        check_submission(str(path), spec, "cpu")
    assert seen(str(refused.value))["forget"] and not seen(str(refused.value))["test"]
