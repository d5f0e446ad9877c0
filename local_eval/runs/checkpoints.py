"""Unlearned models on disk, as the competition takes them: unlearned_checkpoint_{i}.pth, in a zip or folder.

What is read here comes from anywhere, so it is treated as hostile: nothing is unpacked to disk, sizes are checked
before reading, checksums are verified, links and foreign names are refused. What a single file may hold is in
store/states.py.

How to make them: python -m local_eval grade fanchuan --keep-checkpoints
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import sys
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from local_eval.methods.contract import check_container
from local_eval.store.files import OutputError, is_litter, write_atomically
from local_eval.store.states import SAFETENSORS, CheckpointError, check_state, plain_state, read_safetensors, read_state

# Which files of a zip or folder are checkpoints, and which is which, by their names alone.


OURS = "unlearned_checkpoint_"
OFFICIAL = "kaggle/tmp/"  # as `zip submission.zip /kaggle/tmp/*.pth` names them
# One folder at most, or the official zip's two; a stem without digits, so that one number is left; no path
# leads anywhere, since a folder's name begins with a letter or digit and has no colon.
NAME = re.compile(
    r"(?P<folder>(?:kaggle/tmp|\w[\w .()-]*)/)?"
    r"(?P<stem>(?:[^\W\d_](?:[^\W\d]|[ .-])*?)?)(?P<number>[0-9]{1,6})(?P<ending>\.pth|\.pt|\.safetensors)",
)
OTHER = re.compile(r"epoch|step|iter|oracle|retrain|original", re.IGNORECASE)  # numbers of something else
OTHER_OF_RETRAINED = re.compile(r"epoch|step|iter|original", re.IGNORECASE)
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".xz", ".bz2", ".zst")


@dataclass(frozen=True)
class Sorted:
    """Names as they are in the archive, by number, and in words what they look like if not as usual."""

    found: dict[int, str]
    said: str


def sorted_out(names: Iterable[str], path: Path, retrained: bool = False) -> Sorted:
    """Tell checkpoints, of unlearned or of retrained models, from what systems leave behind, and number them.

    Raises:
        CheckpointError: any other file, a number twice, or names of several kinds.
    """
    found: dict[int, str] = {}
    kinds: dict[tuple[str | None, ...], str] = {}
    litter = 0
    for name in names:
        plain = name.replace("\\", "/")
        if any(is_litter(part) for part in plain.split("/")) and ".." not in plain.split("/"):
            litter += 1
            continue
        match = _match(name, plain, path, retrained)
        index = int(match["number"])
        if index in found:
            raise CheckpointError(f"{path}: checkpoint {index} is there twice, as {found[index]!r} and {name!r}")
        found[index] = name
        folder = None if match["folder"] == OFFICIAL else match["folder"]
        kinds.setdefault((folder, match["stem"], match["ending"]), name)
    if len(kinds) > 1:
        one, other = list(kinds.values())[:2]
        raise CheckpointError(f"{path}: holds {one!r} and {other!r}; all checkpoints must have names of one kind")
    return Sorted(found, _said(found, kinds, litter))


def _match(name: str, plain: str, path: Path, retrained: bool) -> re.Match:
    match = NAME.fullmatch(plain)
    if match and not (OTHER_OF_RETRAINED if retrained else OTHER).search(match["stem"]):
        return match
    if plain.lower().endswith(ARCHIVES):
        raise CheckpointError(f"{path}: holds {name!r}, an archive in the archive; unpack it, and give its checkpoints")
    if match:
        raise CheckpointError(
            f"{path}: holds {name!r}, whose number seems to be no model's; name the files {OURS}0.pth ..."
        )
    raise CheckpointError(f"{path}: holds {name!r}; only files {OURS}0.pth ... may be there")


def _said(found: dict[int, str], kinds: dict[tuple[str, str], str], litter: int) -> str:
    said = []
    usual = {f"{folder}{OURS}{k}.pth" for k in found for folder in ("", OFFICIAL)}
    if odd := [name for _, name in sorted(found.items()) if name not in usual]:
        said.append(f"{len(found)} files named as {odd[0]}")
    if litter:
        said.append(f"{litter} of the system's files passed over")
    return ", ".join(said)


RATIO = 100  # of a member's size to its compressed size; weights reach about 2
OVERHEAD = 2**20  # bytes of a checkpoint beside its tensors


def checkpoint_name(index: int) -> str:
    """The file name of a run's checkpoint."""
    return f"unlearned_checkpoint_{index}.pth"


def save_checkpoint(state: dict[str, Tensor], folder: Path, index: int) -> str:
    """Write a run's state dict into a folder, whole or not at all; returns its checksum. Raises OutputError."""
    buffer = io.BytesIO()
    torch.save({name: value.cpu().contiguous() for name, value in state.items()}, buffer)
    write_atomically(folder / checkpoint_name(index), buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def kept_checkpoints(folder: Path, checksums: dict[int, str | None]) -> set[int]:
    """Which runs have a checkpoint in a folder that is what was written; a damaged one is named and does not count.

    Args:
        checksums: of each run, None for one of a version that did not keep them.
    """
    kept = set()
    for index, checksum in checksums.items():
        path = folder / checkpoint_name(index)
        if not path.exists():
            continue
        if checksum is not None and checksum_of(path) != checksum:
            print(f"{path} is damaged: its checksum is not its run's; it will be made again", file=sys.stderr)
        else:
            kept.add(index)
    return kept


def checksum_of(path: Path) -> str:
    """sha256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def zip_checkpoints(folder: Path, target: Path, count: int) -> None:
    """Zip checkpoints 0..count-1 of a folder, one at a time; `target` appears when whole. Raises OutputError."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with zipfile.ZipFile(partial, "w") as archive:  # stored: weights hardly shrink
            for index in range(count):
                archive.write(folder / checkpoint_name(index), checkpoint_name(index))
        os.replace(partial, target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write {target}: {error.strerror or error}. The checkpoints stay in {folder}; make room or choose "
            "another --out, then run the same command again"
        ) from error


def holds_all_of(zipped: Path, folder: Path, count: int) -> bool:
    """Does a zip hold more than `count` checkpoints, among them these of a folder, as they are now?"""
    try:
        with zipfile.ZipFile(zipped) as archive:
            inside = {one.filename: (one.file_size, one.CRC) for one in archive.infolist()}
        wanted = [folder / checkpoint_name(index) for index in range(count)]
        return len(inside) > count and all(inside.get(path.name) == _size_and_crc(path) for path in wanted)
    except (OSError, zipfile.BadZipFile):
        return False


def _size_and_crc(path: Path) -> tuple[int, int]:
    crc, size = 0, 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            crc, size = zlib.crc32(block, crc), size + len(block)
    return size, crc


@dataclass(frozen=True)
class Checkpoints:
    """A zip or a folder that holds checkpoints 0..N-1, each of at most `limit` bytes."""

    path: Path
    names: tuple[str, ...]  # entry i is checkpoint i
    limit: int
    digest: str  # short hash of names, sizes and checksums
    said: str = ""  # how unusual names were read

    @classmethod
    def find(cls, path: Path, net: nn.Module, retrained: bool = False) -> Checkpoints:
        """Check names, numbers, kinds and sizes of what `path` holds, without reading contents.

        Args:
            net: whose state dict the checkpoints must fit; it bounds their size.
            retrained: are these retrained models? Their files may be called so.
        Raises:
            CheckpointError: anything but N regular files of plausible size, numbered 0..N-1.
        """
        limit = _limit(net)
        entries = _folder_entries(path) if path.is_dir() else _zip_entries(path)
        names = sorted_out([name for name, _, _ in entries], path, retrained)
        sha, taken = hashlib.sha256(), set(names.found.values())
        for name, size, mark in entries:
            if name not in taken:
                continue
            if size > limit:
                raise CheckpointError(f"{path}: {name} has {size} bytes; this network's checkpoint has at most {limit}")
            sha.update(f"{name} {size} {mark}\n".encode(errors="surrogateescape"))
        _check_numbers(path, set(names.found))
        return cls(path, tuple(names.found[k] for k in range(len(taken))), limit, sha.hexdigest()[:12], names.said)

    @classmethod
    def left_by_runs(cls, folder: Path, count: int, net: nn.Module) -> Checkpoints:
        """Those that runs 0..count-1 have left in a folder, whatever else lies there; `load` checks what they hold."""
        return cls(folder, tuple(map(checkpoint_name, range(count))), _limit(net), digest="")

    def load(self, index: int, net: nn.Module) -> tuple[str, str]:
        """Load checkpoint `index` into a net of the task.

        Returns:
            In words what was unusual about it, if anything; and the sha256 of its content.

        Raises:
            CheckpointError: damaged, hostile, or not this network's state dict with finite values.
        """
        where = f"{self.path}: {self.names[index]}"
        content, fitting = self._read(index), net.state_dict()
        safe = self.names[index].endswith(SAFETENSORS)
        loaded = read_safetensors(content, where) if safe else read_state(content, where, self.limit)
        state, said = plain_state(loaded, fitting, where)
        check_state(state, fitting, where)
        net.load_state_dict(state)  # other precisions become the network's here
        return said, hashlib.sha256(content).hexdigest()

    def content(self, index: int) -> str:
        """sha256 of checkpoint `index`, in hex. Raises CheckpointError."""
        return hashlib.sha256(self._read(index)).hexdigest()

    def _read(self, index: int) -> bytes:
        name = self.names[index]
        try:
            if self.path.is_dir():
                with open(self.path / name, "rb", opener=_open_no_link) as file:
                    content = file.read(self.limit + 1)
            else:
                with zipfile.ZipFile(self.path) as archive, archive.open(name) as file:
                    content = file.read(self.limit + 1)
        # RuntimeError: a flag was turned over that says that it is encrypted
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zipfile.zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            raise CheckpointError(f"{self.path}: {name} is damaged or cut off ({reason})") from error
        if len(content) > self.limit:
            raise CheckpointError(f"{self.path}: {name} is longer than it says")
        return content


def _limit(net: nn.Module) -> int:
    """Bytes of a checkpoint of this network, at most."""
    return 2 * sum(value.numel() * max(value.element_size(), 4) for value in net.state_dict().values()) + OVERHEAD


def _check_numbers(path: Path, found: set[int]) -> None:
    if not found:
        raise CheckpointError(f"{path} holds no checkpoints; it needs 16 or more, unlearned_checkpoint_0.pth ...")
    missing = sorted(set(range(max(found, default=0) + 1)) - found)
    if missing:
        shown = ", ".join(map(str, missing[:8])) + (" ..." if len(missing) > 8 else "")
        raise CheckpointError(
            f"{path}: {len(found)} checkpoints, the highest number is {max(found, default=0)}, but these are missing: "
            f"{shown}. N checkpoints must be numbered 0 to N-1"
        )


def _folder_entries(path: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the files in a folder, or in the only folder that it holds."""
    below, listed, entries = "", _scan(path), []
    own = [entry for entry in listed if not is_litter(entry.name)]
    if len(own) == 1 and own[0].is_dir(follow_symlinks=False):
        entries = [(entry.name, 0, 0) for entry in listed if is_litter(entry.name)]
        below, listed = f"{own[0].name}/", _scan(path / own[0].name)
    for entry in listed:
        if is_litter(entry.name):
            entries.append((below + entry.name, 0, 0))
            continue
        if entry.is_dir(follow_symlinks=False):
            raise CheckpointError(f"{path}: {entry.name} is a folder; give a folder that holds the checkpoints alone")
        if not entry.is_file(follow_symlinks=False):
            raise CheckpointError(
                f"{path}: {entry.name} is a link or no regular file; put the checkpoints there themselves"
            )
        about = entry.stat(follow_symlinks=False)
        entries.append((below + entry.name, about.st_size, about.st_mtime_ns))
    return entries


def _scan(folder: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read ({error.strerror})") from error


def _zip_entries(path: Path) -> list[tuple[str, int, int]]:
    check_container(path)
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is no zip file, or was cut off ({error})") from error
    if infos and min(info.header_offset for info in infos) > 0:  # this directory is that of a checkpoint, a zip itself
        raise CheckpointError(f"{path} was cut off: the zip's own directory is missing at its end")
    infos = [info for info in infos if not (info.filename.endswith("/") and info.file_size == 0)]
    if any(not info.filename for info in infos):
        raise CheckpointError(f"{path} holds a file without a name; zip the checkpoints anew")
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise CheckpointError(f"{path}: {info.filename} is a link or no regular file")
        if is_litter(info.filename.replace("\\", "/").rpartition("/")[2]):
            continue  # never read
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise CheckpointError(f"{path}: {info.filename} is encrypted or compressed in an unusual way")
        if info.file_size > RATIO * max(info.compress_size, 1):
            raise CheckpointError(
                f"{path}: {info.filename} says it grows from {info.compress_size} to {info.file_size} bytes; "
                "weights do not compress like that"
            )
    return [(info.filename, info.file_size, info.CRC) for info in infos]


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))
