"""Where everything about one task lies on disk, by name; and its records, each of which a command reads once.

    <out>/<task>-<fingerprint>/original.npz                        the original model; original-<hash>.npz another one
                               oracles/0000.npz ... weights/       retrained models, shared by all submissions
                               originals/0000.npz ... weights/     further original models, where they are asked for
                               <submission>-<hash>-seed0/0000.npz ... score.json epsilons.npy report.html
                                                         NNNN.failed.txt  why a run gave no result
                                                         checkpoints/ submission.zip, where they are kept
                                                         relearn/     what `relearn` trains further, and its curves

How it is used: `Workspace(folder)`, held by the grader, which hands it to the stages.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from local_eval.store.records import Record, RecordError, check_fit, load_record, record_path, save_record

Stamp = tuple[int, int, int, int]


class Workspace:
    """The folder of one task in one exact form, and what has been read of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, tuple[Stamp, Record]] = {}

    @property
    def oracles(self) -> Path:
        """The folder of retrained models."""
        return self.folder / "oracles"

    @property
    def weights_of_oracles(self) -> Path:
        """The folder of retrained models' weights, of the few that are trained further."""
        return self.oracles / "weights"

    @property
    def originals(self) -> Path:
        """The folder of further original models' evaluations."""
        return self.folder / "originals"

    @property
    def weights_of_originals(self) -> Path:
        """The folder of further original models' weights."""
        return self.originals / "weights"

    def of(self, name: str) -> Path:
        """The folder of a submission's runs and score, or of models that were given."""
        return self.folder / name

    @staticmethod
    def checkpoints(runs: Path) -> Path:
        """The folder of the state dicts that are kept of the runs in a folder."""
        return runs / "checkpoints"

    @staticmethod
    def zipped(runs: Path) -> Path:
        """The zip of these, as the competition takes it."""
        return runs / "submission.zip"

    @staticmethod
    def relearned(folder: Path) -> Path:
        """The folder of what is known of the models of another one after each epoch of further training."""
        return folder / "relearn"

    @staticmethod
    def score(runs: Path) -> Path:
        """The file of a score."""
        return runs / "score.json"

    @staticmethod
    def failed(runs: Path, index: int) -> Path:
        """The file that says why run `index` gave no result."""
        return runs / f"{index:04d}.failed.txt"

    def load(self, path: Path, identity: dict, shape: tuple[int, int]) -> Record:
        """One record, verified; read again only if its file is another one by now.

        Args:
            identity: what the record must have been made from.
            shape: (E, C) of its logits.
        Raises:
            RecordError: truncated, unreadable, foreign, misshapen or not finite.
            FileNotFoundError: there is none.
        """
        stamp = _stamp(path)
        known = self._read.get(path)
        if known is None or known[0] != stamp:
            record = load_record(path, identity, shape)
            self._read[path] = _stamp(path), record  # of an earlier version it was written anew
            return record
        check_fit(path, known[1], identity, shape)
        return known[1]

    def read(self, folder: Path, identity: Callable[[int], dict], count: int, shape: tuple[int, int]) -> dict:
        """The finished records 0..count-1 in `folder`, by index; a damaged or foreign one is named and not trusted."""
        done: dict[int, Record] = {}
        for index in range(count):
            try:
                done[index] = self.load(record_path(folder, index), identity(index), shape)
            except FileNotFoundError:
                continue
            except RecordError as error:
                print(f"{error}; it will be made again", file=sys.stderr)
        return done

    def save(self, path: Path, record: Record) -> None:
        """Write a record, which need not be read after that. Raises OutputError."""
        save_record(path, record)
        self._read[path] = _stamp(path), record


def _stamp(path: Path) -> Stamp:
    """What differs when a file is written anew or changed. Raises FileNotFoundError."""
    about = os.stat(path)
    return about.st_mtime_ns, about.st_ctime_ns, about.st_size, about.st_ino
