"""Decoded pixels in one sealed .npy file, for the next process.

It lies below `$XDG_CACHE_HOME/unlearning-kit` (`~/.cache/unlearning-kit` by default) and is named after the content of
the pictures, so other pixels are never taken for these, whatever their size and time stamp. Its last 71 bytes are
"sha256:" and the hash of all bytes before, verified at every opening: damage is noticed and the pixels decoded anew.
The folder may be deleted at any time; where it cannot be written, every process decodes for itself.

How it is used: `open_pixels(cache, count)` and `save_pixels(cache, images)`.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from local_eval.engine.files import OutputError, write_atomically
from local_eval.engine.sealed import HEX, MARK

PIECE = 2**20  # bytes


def folder() -> Path | None:
    """Where the files lie, or None if there is no home to put them in."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unlearning-kit"
    except RuntimeError:  # no home folder
        return None


def open_pixels(cache: Path | None, count: int) -> np.ndarray | None:
    """uint8 [count, 3, H, W], copy on write, or None if they are not there or not exactly what was written."""
    try:
        if cache is None or not _is_whole(cache):
            return None
        images = np.load(cache, mmap_mode="c")
    except (OSError, ValueError, EOFError):
        return None
    return images if images.dtype == np.uint8 and images.ndim == 4 and len(images) == count else None


def save_pixels(cache: Path | None, images: np.ndarray) -> bool:
    """Keep the pixels for other processes; False if that is not possible, which does no harm."""
    if cache is None:
        return False
    try:
        write_atomically(cache, lambda file: _write_sealed(file, images))
    except OutputError:
        return False
    return True


def _write_sealed(file: BinaryIO, images: np.ndarray) -> None:
    through = _Hashing(file)
    np.save(through, images)
    through.write(MARK)
    file.write(through.sha.hexdigest().encode())


class _Hashing:
    """A file that remembers the hash of what is written to it."""

    def __init__(self, file: BinaryIO):
        self.file, self.sha = file, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.sha.update(content)
        return self.file.write(content)


def _is_whole(cache: Path) -> bool:
    """Does the seal fit what is before it?"""
    sha = hashlib.sha256()
    with open(cache, "rb") as file:
        left = os.fstat(file.fileno()).st_size - HEX
        while left > 0 and (piece := file.read(min(PIECE, left))):
            sha.update(piece)
            left -= len(piece)
        return left == 0 and file.read() == sha.hexdigest().encode()
