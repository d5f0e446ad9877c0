"""What the runs of a submission are made from; everything in it travels to other processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from local_eval.oracles.original import original_digest
from local_eval.runs.confined import Sandbox
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
    checkpoints: Path | None = None  # folder in which to keep every run's state dict
    timeout: float | None = None  # seconds after which a run counts as hanging
    sandbox: Sandbox | None = None  # what runs give up; their results are the same with and without

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
            "original": original_digest(self.original),
            "seed": self.seed,
            "index": index,
        }

    @property
    def folder_name(self) -> str:
        """Results of a changed submission or of another seed go to a folder of their own."""
        return f"{self.submission.path.stem}-{self.submission_hash}-seed{self.seed}"
