"""Run a submission in the sandbox, if that was asked for: what it may read, its folder, and what is said of it.

The retrained models are what a score compares with, so the folder of results and every oracle that comes with a task
are out of the submission's sight; so are all files of the user's but the submission itself.

How it is used: `run_confined(sandbox, submission, work, timeout)` in runs/one_run.py and runs/check.py.
"""

from __future__ import annotations

import glob
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from local_eval.engine.apart import Answer, Clock, run_apart
from local_eval.engine.failure import Failure
from local_eval.engine.own_folders import own_folder
from local_eval.engine.sandbox import Cage, SandboxError, check_level, hides
from local_eval.engine.sandbox_levels import LEVELS
from local_eval.runs.submissions import COMMON, ROOT, Submission

PACKAGE = ROOT / "local_eval"
SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/opt/rocm", "/etc/ld.so.cache",
    "/etc/localtime", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version",
    "/proc/filesystems", "/proc/sys/vm", "/sys/devices/system", "/sys/fs/cgroup",
)  # fmt: skip
OF_GPUS = (
    "/proc/driver",
    "/proc/devices",
    "/proc/modules",
    "/sys/bus/pci",
    "/sys/devices",
    "/sys/module",
    "/sys/class",
)
GPU_DEVICES = ("/dev/nvidia*", "/dev/kfd", "/dev/dri")
DENIED = ("PermissionError", "Operation not permitted", "Permission denied")
TOLD = "it ran in the sandbox: no network, no files but its own temporary folder, no other processes"


@dataclass(frozen=True)
class Sandbox:
    """A level that somebody has asked for, and what must be out of sight."""

    level: str
    hidden: tuple[str, ...] = ()  # files and folders

    def check(self, submission: Submission, device: str) -> None:
        """Raise SandboxError unless all its layers can be had here and nothing hidden would be seen."""
        check_level(self.level)
        self.cage(submission, device)

    def cage(self, submission: Submission, device: str) -> Cage:
        """What a run of a submission may have. Raises SandboxError if something hidden is in a folder that it sees."""
        readable, devices = _readable(submission), ()
        if torch.device(device).type != "cpu":
            readable += OF_GPUS
            devices = tuple(path for pattern in GPU_DEVICES for path in glob.glob(pattern))
        seen = hides(readable, (*self.hidden, *map(str, PACKAGE.rglob("*.npz"))))
        if seen and "files" in LEVELS[self.level]:
            raise SandboxError(
                f"--sandbox: {seen[1]} lies in {seen[0]}, which a submission must be able to read; move it elsewhere"
            )
        # import reads a folder's names anew when the folder has changed, and would find nothing if it could not
        return Cage(self.level, readable, devices, (str(PACKAGE),))

    def as_json(self) -> dict:
        """What a run's record says of it."""
        return {"level": self.level, "layers": list(LEVELS[self.level])}


def _readable(submission: Submission) -> tuple[str, ...]:
    """Python and its packages, the kit's code without its data, and the submission's file; nothing else of the user."""
    python = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()}
    python |= {path for path in sys.path if path.endswith(("site-packages", "dist-packages"))}
    kit = [str(path) for path in PACKAGE.rglob("*.py*") if path.suffix in (".py", ".pyc")]
    return (*sorted(python), *SYSTEM, *kit, str(COMMON), str(submission.path))


def run_confined(
    sandbox: Sandbox | None, submission: Submission, device: str, work: Callable[[Clock], bytes], timeout: float | None
) -> Answer:
    """As `run_apart`; in the sandbox if there is one, with a folder of its own that is removed afterwards.

    Raises:
        SandboxError: it would see what it must not.
    """
    if sandbox is None:
        return run_apart(work, timeout)
    cage = sandbox.cage(submission, device)
    with own_folder() as folder:  # made out here: what is inside cannot remove it

        def inside(clock: Clock) -> bytes:
            cage.enter(str(folder))
            return work(clock)

        answer = run_apart(inside, timeout)
    return replace(answer, content=_telling(answer.content))


def _telling(content: bytes | Failure) -> bytes | Failure:
    """A failure that the sandbox may have caused says so."""
    if isinstance(content, Failure) and any(sign in content.reason + content.traceback for sign in DENIED):
        return replace(content, reason=f"{content.reason} ({TOLD}; see docs/strangers.md)")
    return content
