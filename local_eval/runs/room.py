"""How much disk a grading will take, told before it starts.

How it is used: `Grader.disk_needed`, from `grade`.
"""

from __future__ import annotations

from pathlib import Path

from local_eval.engine.files import room_in
from local_eval.engine.records import record_path
from local_eval.runs.checkpoints import OVERHEAD, checkpoint_name
from local_eval.tasks.evaluate import CONTROLLED, CONTROLS
from local_eval.tasks.task import Task

FLOAT = 4  # bytes
ABOUT = 4096  # of a record beside its logits


def record_size(task: Task) -> int:
    """Bytes of the record of one model, about."""
    shown = sum(min(CONTROLS, len(task.splits[name])) for name in CONTROLLED)
    return FLOAT * task.num_classes * (len(task.forget) + shown) + ABOUT


def checkpoint_size(task: Task) -> int:
    """Bytes of one model's checkpoint, at most."""
    return sum(v.numel() * v.element_size() for v in task.make_net().state_dict().values()) + OVERHEAD // 16


def room_needed(task: Task, count: int, oracles: Path, runs: Path, keep: bool) -> str:
    """In words, what the missing ones of `count` oracles and runs will take, with `keep` checkpoints and their zip too.

    Raises:
        OutputError: the disk has less.
    """
    missing = [sum(not record_path(folder, k).exists() for k in range(count)) for folder in (oracles, runs)]
    needed, what = sum(missing) * record_size(task), f"{missing[0]} oracles and {missing[1]} runs"
    if keep:
        lost = sum(not (runs / "checkpoints" / checkpoint_name(k)).exists() for k in range(count))
        needed += (lost + count) * checkpoint_size(task)
        what += f", {lost} checkpoints and a zip of {count}"
    return room_in(runs, needed, what)
