"""What travels to a node: files by name, packed here. bootstrap.py unpacks them there.

How it is used: driver.py sends `kit_parcel()` and what `argument.luggage()` of a job's argument lists.
"""

from __future__ import annotations

import hashlib
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, Self

from local_eval.engine.provenance import ROOT

Parcel = dict[str, bytes]  # path below the parcel's folder -> content
CODE = ("local_eval", "common")  # folders of this kit that jobs import from
FILES = "files"  # folder of a parcel whose files have their whole path of the driver's machine below it


class Travels(Protocol):
    """What the argument of a job must offer to be worked on elsewhere. Results travel back by results.py."""

    def luggage(self) -> list[Parcel]:
        """All files that the job needs, apart from the kit's code."""

    def moved(self, folders: list[Path]) -> Self:
        """On a node: the same argument, whose files lie in the folders of its parcels, in their order."""

    def told(self, result: Any, index: int, folders: list[Path]) -> tuple[Any, dict[str, bytes]]:
        """On a node, of the moved argument: a result with the driver's paths in it, and files that go with it."""

    def take(self, files: dict[str, bytes], index: int) -> None:
        """On the driver: keep the files that came with a result."""

    def is_known(self) -> bool:
        """Is it known what the jobs read? Else the first is made by the driver."""

    def having_made(self, result: Any) -> Self:
        """The same argument, after the driver has made a job."""


@lru_cache(maxsize=1)
def kit_parcel() -> Parcel:
    """This kit's code: nodes need Python and the packages of requirements.txt, but no kit."""
    files = [file for folder in CODE for file in sorted((ROOT / folder).rglob("*.py"))]
    return {file.relative_to(ROOT).as_posix(): file.read_bytes() for file in files}


def name_of(parcel: Parcel) -> str:
    """Parcels with the same content have the same name."""
    sha = hashlib.sha256()
    for file, content in sorted(parcel.items()):
        sha.update(f"{file}\0{len(content)}\0".encode(errors="surrogateescape"))
        sha.update(content)
    return sha.hexdigest()[:24]


def packed_path(path: Path | str) -> str:
    """Where a file of the driver's machine lies in a parcel's folder."""
    return f"{FILES}/{Path(path).as_posix().lstrip('/')}"


def home_path(path: str, folder: Path) -> str:
    """The driver's path of a file that may lie in a parcel's folder on a node."""
    inside = str(folder / FILES)
    return path[len(inside) :] if path.startswith(f"{inside}/") else path


def taken_from(folder: Path | None) -> dict[str, bytes]:
    """The files that a job has left in a folder of its own on a node, which is removed; none without a folder."""
    if folder is None:
        return {}
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    shutil.rmtree(folder, ignore_errors=True)
    return files
