"""The commands that try something before anything is made: check and sandbox. They import little, to answer soon.

How to run it: python -m local_eval check my_method.py
"""

from __future__ import annotations

import os
import platform
import shutil
import time

import torch

from local_eval.cli.request import Request
from local_eval.isolation.cards import usable_device
from local_eval.isolation.sandbox import LEVELS, landlock_abi, no_seccomp, probe
from local_eval.runs.check import check_submission
from local_eval.runs.plan import Sandbox
from local_eval.tasks.loading import load_task, overview
from local_eval.tasks.task import Task


def device_of(request: Request) -> str:
    """The device that was asked for, or the best there is. Raises InputError if it cannot be used."""
    return usable_device(request.device)


def check(request: Request) -> int:
    """Check the contract; without a submission, tell what was understood of the task."""
    spent = [("to load the kit", time.monotonic() - request.began)]
    device = device_of(request)
    alone = device == "cpu"
    if alone:
        torch.set_num_threads(1)  # so that the dry run's process can be a copy of this one, which saves its loading
    task = _timed(spent, "for the task", lambda: load_task(request.task))  # a wrong one is not the submission's fault
    request.answer["task"] = facts_of(task)
    if request.submission is None:
        print(overview(task))
    else:
        sandbox = Sandbox(request.sandbox) if request.sandbox else None
        given = request.submission, request.task, device, sandbox, request.batches_on, alone
        request.answer.update(submission=request.submission, keeps_the_contract=False)  # unless nothing is raised
        remarks = _timed(spent, "for the dry runs", lambda: check_submission(*given))
        for remark in remarks:
            print(f"check: {remark}")
        print(f"{request.submission} keeps the contract")
        request.answer.update(keeps_the_contract=True, remarks=remarks)
    request.answer["seconds"] = time.monotonic() - request.began
    print(f"checked in {time.monotonic() - request.began:.1f} s: {', '.join(f'{s:.1f} s {what}' for what, s in spent)}")
    return 0


def facts_of(task: Task) -> dict:
    """What `check --json` says of a task: name, classes, sizes, fingerprint, notes."""
    sizes = {name: len(split) for name, split in task.splits.items()}
    about = {"name": task.name, "fingerprint": task.fingerprint(), "classes": task.num_classes}
    return about | {"examples": sizes, "notes": list(task.notes)}


def _timed(spent, what, work):
    """What `work()` returns; the seconds that it took are added to `spent`."""
    start = time.monotonic()
    try:
        return work()
    finally:
        spent.append((what, time.monotonic() - start))


WHAT = {
    "limits": "no core or giant files, few processes, few environment variables",
    "files": "reads Python and the submission, writes in its own temporary folder",
    "network": "no sockets",
    "processes": "no signals to others, no looking into them, no mounts, no capabilities",
}
OTHERS = ("bwrap", "podman", "docker")


def sandbox(_: Request) -> int:
    """Try every layer, and say which levels can be had; 1 if the full one cannot."""
    missing = probe()
    for layer, what in WHAT.items():
        print(f"{layer:<10}{'missing' if missing[layer] else 'works':<9}{missing[layer] or what}")
    had = [name for name, layers in LEVELS.items() if not any(missing[layer] for layer in layers)]
    print(f"levels: {', '.join(had) or 'none'}")
    print(had and f"--sandbox {had[0] if had[0] != 'full' else ''}".rstrip() + " is the most that can be had here")
    there = [name for name in OTHERS if shutil.which(name)]
    user = "root, for whom the number of processes is not limited" if os.getuid() == 0 else "no root"
    print(
        f"kernel {platform.release()} {platform.machine()}, Landlock ABI {landlock_abi()}, seccomp "
        f"{'no' if no_seccomp() else 'yes'}, user is {user}; of bubblewrap and containers, which the kit does "
        f"not use, there is: {', '.join(there) or 'none'}"
    )
    return 0 if "full" in had else 1
