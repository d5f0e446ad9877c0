"""What a person may give in the place of a zip or folder of checkpoints, and what to do with it, in one sentence.

How it is used: `check_container(Path("models.tar.gz"))` before it is opened as a zip.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from local_eval.engine.state_files import CheckpointError

BEGINNINGS = {  # what a file is by its first bytes, whatever its name
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a rar archive",
    b"\x1f\x8b": "a gzip archive",
    b"\xfd7zXZ\x00": "an xz archive",
    b"BZh": "a bzip2 archive",
    b"\x28\xb5\x2f\xfd": "a zstandard archive",
}
TAR, TAR_AT = b"ustar", 257
SINGLE = (".pth", ".pt", ".ckpt", ".safetensors")


def check_container(path: Path) -> None:
    """Raise CheckpointError for what is neither a zip nor a folder, with what to do."""
    try:
        with open(path, "rb") as file:
            beginning = file.read(TAR_AT + len(TAR))
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; give a zip or a folder of checkpoints") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
    kind = next((kind for start, kind in BEGINNINGS.items() if beginning.startswith(start)), None)
    if beginning[TAR_AT:] == TAR:
        kind = "a tar archive"
    if kind:
        raise CheckpointError(f"{path} is {kind}; unpack it into a folder and give that folder")
    if path.name.lower().endswith(SINGLE) or _is_torchs(path):
        raise CheckpointError(f"{path} is a single checkpoint; a score needs 16 or more: give a folder or zip of them")


def _is_torchs(path: Path) -> bool:
    """Did torch.save write it? That is a zip too."""
    try:
        with zipfile.ZipFile(path) as archive:
            first = archive.infolist()[:1]
    except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False
    return bool(first) and first[0].header_offset == 0 and first[0].filename.endswith("/data.pkl")
