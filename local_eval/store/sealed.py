"""Arrays in one .npz file that knows its own checksum: any flipped or missing byte is noticed, and nothing is executed.

The file is an ordinary .npz, which `np.load` reads too. Its zip comment, the last 71 bytes, is "sha256:" and the hash
of all bytes before the hash. No pickle is ever read or written. Files of an earlier version have no seal; they are
taken if zip's own checksums agree, and whoever reads them writes them anew.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from local_eval.store.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

ABOUT = "about"  # the array of a state dict's file that is no tensor
MARK = b"sha256:"
HEX = 64
LONGEST = 200  # characters of what is told of a file's content
RATIO, SPARE = 1000, 1 << 20  # of a member's size to its compressed size, at most, and bytes that are always allowed


class DamagedFile(InputError):
    """The file is not what was written; the message names it and says why."""


def seal(arrays: dict[str, np.ndarray], compressed: bool = False) -> bytes:
    """The bytes of a sealed file with these arrays."""
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return seal_zip(buffer)


def seal_zip(buffer: io.BytesIO) -> bytes:
    """The bytes of a zip with a seal as its comment."""
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = MARK + b"0" * HEX
    content = buffer.getvalue()[:-HEX]
    return content + hashlib.sha256(content).hexdigest().encode()


def with_seal(content: bytes) -> bytes:
    """Any bytes with a seal behind them, for formats whose readers stop before the end, such as .npy."""
    content += MARK
    return content + hashlib.sha256(content).hexdigest().encode()


def seal_fits(content: bytes) -> bool:
    """Are these bytes what was sealed?"""
    return is_sealed(content) and hashlib.sha256(content[:-HEX]).hexdigest().encode() == content[-HEX:]


def is_sealed(content: bytes) -> bool:
    """Does this claim to be sealed?"""
    return content[-HEX - len(MARK) : -HEX] == MARK


def unseal(path: Path) -> tuple[dict[str, np.ndarray], bool]:
    """The arrays of a file by name, and whether it was sealed; False for one of an earlier version.

    Raises:
        DamagedFile: cut off, changed, or no such file of arrays.
        FileNotFoundError: there is none.
    """
    return unseal_bytes(Path(path).read_bytes(), path)


def unseal_bytes(content: bytes, path: Path | str, most: int | None = None) -> tuple[dict[str, np.ndarray], bool]:
    """As `unseal`, of what has been read or was sent; `path` names it in errors.

    Args:
        most: bytes that all arrays together may take, for files from others; None for no limit.
    Raises:
        DamagedFile: cut off, changed, no such file of arrays, or too large.
    """
    sealed = is_sealed(content)
    if sealed and not seal_fits(content):
        raise DamagedFile(f"{path} is damaged: its checksum does not fit its content")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.comment and not sealed:
                raise ValueError("its seal is broken")
            if most is not None and (size := sum(info.file_size for info in archive.infolist())) > most:
                raise ValueError(f"it says that it grows to {size} bytes, and {most} are the most")
            return {info.filename.removesuffix(".npy"): _array(archive, info) for info in archive.infolist()}, sealed
    # numpy and zipfile have no common error for what damaged bytes can cause
    except Exception as error:
        raise DamagedFile(f"{path} is damaged ({type(error).__name__}: {str(error)[:LONGEST]})") from error


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """One member, whose header may not ask for more memory than there are bytes."""
    if info.file_size > RATIO * info.compress_size + SPARE:
        raise ValueError(f"{info.filename} says that it grows to {info.file_size} bytes")
    content = io.BytesIO(archive.read(info))
    version = np.lib.format.read_magic(content)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, _, kind = read_header(content)
    if kind.hasobject:
        raise ValueError(f"{info.filename} holds Python objects, which are never read")
    if math.prod(shape) * kind.itemsize != info.file_size - content.tell():
        raise ValueError(f"{info.filename} has {info.file_size} bytes, which do not fit {kind} {shape}")
    content.seek(0)
    return np.lib.format.read_array(content, allow_pickle=False)


def seal_state(state: dict[str, Tensor], about: dict) -> bytes:
    """A network's state dict, and what is to be known of it, as the bytes of a sealed file."""
    arrays = {name: value.detach().cpu().contiguous().numpy() for name, value in state.items()}
    return seal({ABOUT: np.array(json.dumps(about)), **arrays})


def load_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a file made by `seal_state`, on the CPU. Raises DamagedFile."""
    arrays = {name: value for name, value in unseal(path)[0].items() if name != ABOUT}
    try:
        import torch  # here: who reads records alone, such as a Ray worker, does not need it

        return {name: torch.from_numpy(value) for name, value in arrays.items()}
    except (TypeError, ValueError) as error:
        raise DamagedFile(f"{path} holds an array that is no tensor ({error})") from error
