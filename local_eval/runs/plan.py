"""What the runs of a submission are made from; everything in it travels to other processes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from local_eval.oracles.original import original_digest
from local_eval.runs.submissions import Submission


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
        several = f"-originals{len(self.originals)}" if self.originals else ""
        return f"{self.submission.path.stem}-{self.submission_hash}-seed{self.seed}{several}"
