"""What the runs of a submission are made from; everything in it travels to other processes."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from local_eval.engine.cluster.parcels import Parcel, packed_path, taken_from
from local_eval.engine.failure import Failure
from local_eval.engine.files import write_atomically
from local_eval.engine.records import Record
from local_eval.oracles.original import original_digest
from local_eval.runs.checkpoints import checkpoint_name
from local_eval.runs.confined import Sandbox
from local_eval.runs.luggage import as_at_home, go_there, submission_parcel
from local_eval.runs.submissions import Submission
from local_eval.tasks.readers.box import boxed, spec_of

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
    reads: dict | None = None  # what its runs are known to read, as in a record; None if none has been made

    @classmethod
    def of(cls, submission: str, task: str, fingerprint: str, original: Path, seed: int, device: str) -> RunPlan:
        """The plan for a submission by name or path; raises SubmissionError if there is none."""
        found = Submission.find(submission)
        return cls(task, fingerprint, original, found, found.digest(), seed, device)

    def identity(self, index: int) -> dict:
        """What must agree for a finished run to count as this plan's run `index`."""
        return {
            "kind": "run",
            "task": self.task_fingerprint,
            "submission": self.submission_hash,
            "original": original_digest(self.original_of(index)),
            "seed": self.seed,
            "index": index,
        }

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
        return f"{self.submission.path.stem}-{self.submission_hash}-seed{self.seed}{started_from}"

    # The rest is for engine/cluster, which says what each is for.

    def luggage(self) -> list[Parcel]:
        """Task and original are parcels of their own: they are the same for all submissions."""
        mine = submission_parcel(self.submission.path, self.reads or {})
        paths = {f"{k:04d}-{ORIGINAL}": path for k, path in enumerate(self.originals)} or {ORIGINAL: self.original}
        return [{TASK: boxed(self.task)}, {name: path.read_bytes() for name, path in paths.items()}, mine]

    def moved(self, folders: list[Path]) -> RunPlan:
        """The same plan in the folders of the three parcels."""
        task, original, mine = folders
        go_there(mine)
        return replace(
            self,
            task=spec_of(task / TASK),
            original=original / ORIGINAL,
            originals=tuple(original / f"{k:04d}-{ORIGINAL}" for k in range(len(self.originals))),
            submission=replace(self.submission, path=mine / packed_path(self.submission.path)),
            device=self.device.partition(":")[0],
            checkpoints=self.checkpoints and Path(tempfile.mkdtemp(prefix="unlearning-kit-")),
        )

    def told(self, result: Record | Failure, index: int, folders: list[Path]) -> tuple:
        """With the driver's paths, and the checkpoint, if there is one."""
        return as_at_home(result, folders[-1]), taken_from(self.checkpoints)

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
