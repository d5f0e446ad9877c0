"""Go through the stages, each in a process of its own with a limit of its own, and write down at once what each found.

A card can hang a process so that it cannot be ended, take it along, or fill up: nothing of that ends the others. All
limits together are below nine minutes. A stage writes its figures as it finds them, so one that is stopped leaves what
it has measured.

How to run it: python -m local_eval bench --card

Loads neither torch nor any other package: whatever is broken or missing is told by a stage, and does not end this.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from local_eval.card.page import page

ALL = 540.0  # seconds: nine minutes
GRACE = 4.0  # seconds for a stage that is stopped to end by itself, and as many to be gone once it is killed
PAGE = "card.md"
SLOWER = 10  # times as long as on a card: a rehearsal is not about speed, and the machine may be busy
LAST_LINES = 12  # of what a stage printed, on the page
MPS = "nvidia-cuda-mps-control"


@dataclass(frozen=True)
class Stage:
    """A part of the script."""

    number: int
    name: str  # of its function in stages.py
    seconds: float  # its limit
    asks: str  # what it is to answer

    @property
    def file(self) -> str:
        return f"{self.number}-{self.name}"


STAGES = (
    Stage(0, "versions", 70, "Which card, driver and versions are these, and does the contract's check pass?"),
    Stage(1, "exactness", 45, "Does the card compute what the CPU does, and do recorded steps do what plain ones do?"),
    Stage(2, "speed", 110, "How fast are oracles and loaders at the competition's size, and what limits them?"),
    Stage(3, "grading", 85, "Does a grading on the card give the score that the CPU gives?"),
    Stage(4, "runs", 80, "How many processes should share the card, and does MPS help?"),
    Stage(5, "pools", 55, "Do oracles in TF32 score like oracles in float32?"),
    Stage(6, "checks", 45, "Does every shipped submission keep the contract on the card?"),
    Stage(7, "sandbox", 20, "Does the sandbox let CUDA through?"),
    Stage(8, "memory", 20, "Is full memory survived while a graph is recorded?"),
)


@dataclass(frozen=True)
class Given:
    """What the script is asked for."""

    folder: Path
    device: str = "cuda"
    rehearsal: str = ""  # a task on which everything is done in small

    def command(self, stage: Stage, seconds: float) -> list[str]:
        """The command that does a stage."""
        given = [stage.name, str(self.folder / f"{stage.file}.json"), str(seconds), self.device, self.rehearsal]
        return [sys.executable, "-m", "local_eval.card.stages", *given]


def card(request: argparse.Namespace) -> int:
    """The command: go through all stages; 0 if all of them were done."""
    patience = SLOWER if request.rehearse else 1
    stages = [replace(stage, seconds=patience * stage.seconds) for stage in STAGES]
    given = Given(request.card, request.device or "cuda", request.rehearse or "")
    found = go(given, stages, seconds=patience * ALL)
    print(f"{request.card / PAGE} has it on one page")
    return 0 if all(about["state"] == "done" for about in found) else 1


def go(
    given: Given,
    stages: Sequence[Stage] = STAGES,
    command: Callable[[Given, Stage, float], list[str]] = Given.command,
    seconds: float = ALL,
) -> list[dict]:
    """What every stage left, in order; each is in a file of the folder as soon as it is known, and then on the page.

    Args:
        command: makes the command line of a stage.
        seconds: for all of them; stages for which nothing is left are skipped.
    """
    given.folder.mkdir(parents=True, exist_ok=True)
    end, found = time.monotonic() + seconds, []
    for stage in stages:
        print(f"{stage.number} {stage.asks}", flush=True)
        left = min(stage.seconds, end - time.monotonic() - 2 * GRACE)
        if reason := _why_not(stage, found, left):
            about = {"state": "skipped", "reason": reason, "seconds": 0.0, "found": {}}
        else:
            about = _done(given, stage, left, command(given, stage, left))
        found.append({"stage": stage.number, "name": stage.name, "asks": stage.asks, "limit": stage.seconds} | about)
        _write(given.folder / f"{stage.file}.json", json.dumps(found[-1], indent=1) + "\n")
        _write(given.folder / PAGE, page(found))
        print(f"  {found[-1]['state']} after {found[-1]['seconds']:.0f} s {found[-1].get('reason', '')}", flush=True)
    return found


def _why_not(stage: Stage, found: list[dict], left: float) -> str:
    """Why a stage is not even begun; nothing if it is."""
    if any(about["found"].get("there is no card") for about in found):
        return "there is no card that torch can use; stage 0 says why"
    return "no time is left" if left < min(5.0, stage.seconds / 2) else ""


def _done(given: Given, stage: Stage, seconds: float, command: list[str]) -> dict:
    """Do a stage in a process of its own, and end that and all that it started when its time is over."""
    place, log = given.folder / f"{stage.file}.json", given.folder / f"{stage.file}.log"
    place.unlink(missing_ok=True)
    start = time.monotonic()
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            how = _ended(process, seconds)
        finally:
            _end_all_of(process)
            _end_mps(given.folder)
    about, took = _read(place), time.monotonic() - start
    if not how and not about.get("whole"):
        how = "failed", about.get("failed") or "it ended before it had found everything"
    if not how:
        return {"state": "done", "seconds": took, "found": about["found"]}
    printed = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
    return {
        "state": how[0], "reason": how[1], "seconds": took, "found": about.get("found", {}), "printed": printed,
    }  # fmt: skip


def _ended(process: subprocess.Popen, seconds: float) -> tuple[str, str] | None:
    """The state of a stage that did not end by itself, and why; None if it did."""
    if process.returncode is None:
        return "stopped", f"still at work after its limit of {seconds:.0f} s; what it had found is kept"
    if process.returncode < 0:
        return "died", f"its process was ended by {signal.Signals(-process.returncode).name}"
    return None


def _end_all_of(process: subprocess.Popen) -> None:
    """End the process's session, gently and then not; go on without one that cannot be ended, as drivers make them."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)


def mps_environment(folder: Path) -> dict[str, str]:
    """Variables that make CUDA's processes, and the daemon's control, use an MPS daemon of this folder's own."""
    return {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "mps"), "CUDA_MPS_LOG_DIRECTORY": str(folder / "mps")}


def _end_mps(folder: Path) -> None:
    """End the MPS daemon that a stage has started, if there is one: it would outlive its stage."""
    if (folder / "mps").is_dir() and shutil.which(MPS):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            there = os.environ | mps_environment(folder)
            subprocess.run([MPS], input=b"quit\n", env=there, capture_output=True, timeout=GRACE)


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)
