"""What the runs of a submission are made from, and what they need: on another machine, in the sandbox, on the disk."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from local_eval.cluster.node import FILES, Parcel, home_path, packed_path, taken_from
from local_eval.isolation.cards import kind_of
from local_eval.isolation.child import Answer, Clock, Failure, run_apart
from local_eval.isolation.sandbox import LEVELS, Cage, SandboxError, check_card, check_level, hides
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import COMMON, Submission
from local_eval.oracles.original import original_digest
from local_eval.runs.checkpoints import OVERHEAD, checkpoint_name
from local_eval.store.errors import many
from local_eval.store.files import ROOT, free_disk_in, own_folder, write_atomically
from local_eval.store.records import Record, record_path
from local_eval.tasks.data.box import boxed, spec_of
from local_eval.tasks.evaluate import CONTROLLED, CONTROLS
from local_eval.tasks.task import Task

# What the runs of a submission need on another machine, and how paths of there become paths of here again.
#
# The submission and what it reads keep their whole paths below one folder, so what they look for beside themselves is
# found. A run works in an empty folder of its own, there as here. A file that is read by an absolute path must lie
# there on every node.


PLACE = "place.json"
LARGEST = 2**30  # bytes that a submission may read and have sent


def submission_parcel(path: Path, reads: dict) -> Parcel:
    """A submission's file, the files that it is known to read, and the variables that it asks for.

    Raises:
        SubmissionError: that is too much to be sent.
    """
    named = {Path(name) for key in ("files", "looked") for name in reads.get(key, {})}
    named |= {file for folder in map(Path, reads.get("listed", {})) if folder.is_dir() for file in folder.iterdir()}
    files = [file for file in (path, *sorted(named - {path})) if file.is_file()]
    if (size := sum(file.stat().st_size for file in files)) > LARGEST:
        raise SubmissionError(
            f"{path} reads {size / 1e9:.1f} GB, too much to be sent; put the files at the same place on every node "
            "and read them by an absolute path"
        )
    variables = {name: os.environ.get(name) for name in reads.get("environment", {})}
    place = {"folder": os.getcwd(), "environment": variables}
    return {PLACE: json.dumps(place).encode()} | {packed_path(file): file.read_bytes() for file in files}


def go_there(folder: Path) -> None:
    """On a node, in the process that works: take the driver's working directory and variables."""
    place = json.loads((folder / PLACE).read_text())
    here = folder / packed_path(place["folder"])
    here.mkdir(parents=True, exist_ok=True)
    os.chdir(here)
    for name, value in place["environment"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def as_at_home(result: Record | Failure, folder: Path) -> Record | Failure:
    """A node's result with the driver's paths in what it tells."""
    inside = str(folder / FILES)
    if isinstance(result, Failure):
        reported = (result.reason, result.traceback, result.printed)
        return Failure(*(text.replace(inside, "") for text in reported))
    read = dict(result.facts.get("read", {}))
    for key in {"files", "looked", "listed"} & (read.keys() | {"files"}):
        read[key] = {home_path(name, folder): found for name, found in read.get(key, {}).items()}
    read["untold"] = [text.replace(inside, "") for text in read.get("untold", ())]
    return replace(result, facts=result.facts | {"read": read})


# Run a submission in the sandbox, if that was asked for: what it may read, its folder, and what is said of it.
#
# The retrained models are what a score compares with, so the folder of results and every oracle that comes with a
# task are out of the submission's sight; so are all files of the user's but the submission itself.


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
GPU_DEVICES = ("/dev/nvidia*", "/dev/kfd", "/dev/dri", "/dev/dxg")  # the last is WSL's
OWN_THREADS = "/proc/self/task"  # to be written: drivers from 570 on name their threads there
DRIVER = "libcuda.so.1"  # read where it lies, if not in SYSTEM
DRIVERS_MAY_LIE_IN = ("/run/opengl-driver/lib", "/usr/local/nvidia/lib64", "/usr/local/cuda/compat")
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
        cage = self.cage(submission, device)
        if torch.device(device).type == "cuda":
            check_card(cage)

    def cage(self, submission: Submission, device: str) -> Cage:
        """What a run of a submission may have. Raises SandboxError if something hidden is in a folder that it sees."""
        readable, devices = _readable(submission), ()
        if torch.device(device).type != "cpu":
            readable += (*OF_GPUS, *folders_of_drivers())
            devices = (OWN_THREADS, *(path for pattern in GPU_DEVICES for path in glob.glob(pattern)))
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


def folders_of_drivers() -> tuple[str, ...]:
    """Folders outside of the system's in which a CUDA driver lies, as the loader would find it."""
    folders = [*os.environ.get("LD_LIBRARY_PATH", "").split(":"), *DRIVERS_MAY_LIE_IN]
    found = [os.path.join(folder, DRIVER) for folder in folders if folder]
    real = {os.path.dirname(os.path.realpath(path)) for path in found if os.path.exists(path)}
    return tuple(sorted({os.path.dirname(path) for path in found if os.path.exists(path)} | real))


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
        return replace(content, reason=f"{content.reason} ({TOLD}; see docs/safety.md)")
    return content


# How much disk a grading will take, told before it starts.


FLOAT = 4  # bytes
ABOUT = 4096  # of a record beside its logits


def record_size(task: Task) -> int:
    """Bytes of the record of one model, about."""
    shown = sum(min(CONTROLS, len(task.splits[name])) for name in CONTROLLED)
    return FLOAT * task.num_classes * (len(task.forget) + shown) + ABOUT


def checkpoint_size(task: Task) -> int:
    """Bytes of one model's checkpoint, at most."""
    return sum(v.numel() * v.element_size() for v in task.make_net().state_dict().values()) + OVERHEAD // 16


def disk_needed(
    task: Task, count: int, oracles: Path, runs: Sequence[Path], keep: bool, kept: int = 1, originals: int = 0
) -> str:
    """In words, what the missing ones of `count` oracles and of the runs in each folder will take.

    Args:
        runs: folders of runs, those of the official original model first.
        keep: whether the first `kept` of them leave checkpoints and a zip of them, too.
        originals: further original models, whose weights are kept.
    Raises:
        OutputError: the disk has less.
    """
    missing = [sum(not record_path(folder, k).exists() for k in range(count)) for folder in (oracles, *runs)]
    needed, what = sum(missing) * record_size(task), f"{many(missing[0], 'oracle')} and {many(sum(missing[1:]), 'run')}"
    if keep:
        places = [folder / "checkpoints" / checkpoint_name(k) for folder in runs[:kept] for k in range(count)]
        lost = sum(not place.exists() for place in places)
        needed += (lost + len(places)) * checkpoint_size(task)
        what += f", {many(lost, 'checkpoint')} and a zip of {len(places)}"
    weights = oracles.parent / "originals" / "weights"
    if more := sum(not record_path(weights, k).exists() for k in range(originals)):
        needed += more * checkpoint_size(task)
        what += f", {many(more, 'original model')}"
    return free_disk_in(runs[0], needed, what)


TASK, ORIGINAL = "task.npz", "original.npz"


@dataclass(frozen=True)
class RunPlan:
    """What a worker needs to make run i."""

    task: str  # name or path
    task_fingerprint: str
    original: Path  # the original model's file
    submission: Submission
    submission_hash: str
    seed: int
    device: str
    originals: tuple[Path, ...] = ()  # where runs start from these in turn, instead of from `original`
    checkpoints: Path | None = None  # folder in which to keep every run's state dict
    timeout: float | None = None  # seconds after which a run counts as hanging
    sandbox: Sandbox | None = None  # what runs give up; their results are the same with and without
    alone: bool = False  # the card takes one process at a time: EXCLUSIVE_PROCESS mode
    reads: dict | None = None  # what its runs are known to read, as in a record; None if none has been made
    batches_on: str = "device"  # where batches lie: "device", or "cpu" as on Kaggle

    @classmethod
    def of(
        cls, submission: str | Submission, task: str, fingerprint: str, original: Path, seed: int, device: str
    ) -> RunPlan:
        """The plan for a submission by name or path; raises SubmissionError if there is none."""
        found = Submission.find(submission)
        return cls(task, fingerprint, original, found, found.digest(), seed, device)

    def identity(self, index: int) -> dict:
        """What must agree for a finished run to count as this plan's run `index`."""
        identity = {
            "kind": "run",
            "task": self.task_fingerprint,
            "submission": self.submission_hash,
            "original": original_digest(self.original_of(index)),
            "seed": self.seed,
            "index": index,
        }
        return identity | ({"batches_on": "cpu"} if self.batches_apart else {})

    @property
    def batches_apart(self) -> bool:
        """Do batches lie on the CPU and the net on a GPU? What is drawn for them then comes from other generators."""
        return self.batches_on == "cpu" and torch.device(self.device).type != "cpu"

    def original_of(self, index: int) -> Path:
        """The file of the original model from which run `index` starts."""
        return self.originals[index % len(self.originals)] if self.originals else self.original

    def made_from(self) -> dict:
        """What must agree for two scores to compare: an identity of all runs."""
        identity = self.identity(0) | {"index": None}
        if not self.originals:
            return identity
        digests = " ".join(original_digest(path) for path in self.originals)
        together = hashlib.sha256(digests.encode()).hexdigest()[:12]
        return identity | {"original": together, "originals": len(self.originals)}

    @property
    def folder_name(self) -> str:
        """Results of a changed submission, of another seed or of other originals go to a folder of their own."""
        original = self.original.stem  # of another one than the usual: see oracles/original.py
        other = f"-{original}" if original.startswith("original-") else ""
        started_from = f"-originals{len(self.originals)}" if self.originals else other
        apart = "-batches-on-cpu" if self.batches_apart else ""
        return f"{self.submission.path.stem}-{self.submission_hash}-seed{self.seed}{started_from}{apart}"

    # The rest is for cluster/, which says what each is for.

    def luggage(self) -> list[Parcel]:
        """Task and original are parcels of their own: they are the same for all submissions."""
        mine = submission_parcel(self.submission.path, self.reads or {})
        paths = {f"{k:04d}-{ORIGINAL}": path for k, path in enumerate(self.originals)} or {ORIGINAL: self.original}
        return [{TASK: boxed(self.task)}, {name: path.read_bytes() for name, path in paths.items()}, mine]

    def moved(self, folders: list[Path], left: Path) -> RunPlan:
        """The same plan in the folders of the three parcels; checkpoints go to the folder `left`."""
        task, original, mine = folders
        go_there(mine)
        return replace(
            self,
            task=spec_of(task / TASK),
            original=original / ORIGINAL,
            originals=tuple(original / f"{k:04d}-{ORIGINAL}" for k in range(len(self.originals))),
            submission=replace(self.submission, path=mine / packed_path(self.submission.path)),
            device=kind_of(self.device),
            checkpoints=self.checkpoints and left,
        )

    def reported(self, result: Record | Failure, index: int, folders: list[Path]) -> tuple:
        """With the driver's paths, and the checkpoint, if there is one."""
        return as_at_home(result, folders[-1]), taken_from(self.checkpoints, [checkpoint_name(index)])

    def take(self, files: dict[str, bytes], index: int) -> None:
        """Write the checkpoint that came with run `index`. Raises OutputError."""
        name = checkpoint_name(index)
        if self.checkpoints is not None and name in files:
            write_atomically(self.checkpoints / name, files[name])

    def is_known(self) -> bool:
        """Has a run told what they read?"""
        return self.reads is not None

    def having_made(self, result: Record | Failure) -> RunPlan:
        """The same plan, which knows what a run has read; of one that failed, that nobody can tell."""
        return replace(self, reads=result.facts.get("read", {}) if isinstance(result, Record) else {})
