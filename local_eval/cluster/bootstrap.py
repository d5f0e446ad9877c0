"""The first code of this kit on a node: it unpacks what was sent into a folder and goes on with the kit from there.

It travels by value, as the text of its functions, to nodes on which no kit is installed. So it imports nothing but the
standard library, and ray where it runs. Folders are named after their content, are made whole or not at all, and serve
all processes of a user on a machine.

How it is used: `make` is the Ray task in driver.py.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import tempfile
import time
from pathlib import Path

STALE = 7 * 24 * 3600  # seconds after which a folder that nobody has used is removed


def make(sent: list, work: str, *arguments):
    """Work on a node, in a Ray worker; returns what the function `work` of node.py gives.

    Args:
        sent: (name, {file: size}, [reference]) of every parcel; the first is the kit.
        work: "make_job" or another function of node.py.
        arguments: what that function takes beside the folders of the other parcels.
    """
    import ray

    base = private_folder()
    folders = [place(base, name, sizes, lambda held=held: ray.get(held[0])) for name, sizes, held in sent]
    if str(folders[0]) not in sys.path:
        sys.path.insert(0, str(folders[0]))
    from local_eval.cluster import node  # the kit that was sent

    return getattr(node, work)(folders[1:], *arguments)


def private_folder() -> Path:
    """Where this user's folders lie on a node; raises PermissionError if somebody else could write there."""
    base = Path(tempfile.gettempdir()) / f"unlearning-kit-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    about = base.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o022:
        raise PermissionError(f"{base} is not this user's own folder; remove it on this node, or set TMPDIR there")
    return base


def place(base: Path, name: str, sizes: dict[str, int], get) -> Path:
    """The folder with a parcel's files, unpacked if it is not there or not whole.

    Args:
        get: gives {file: its bytes as an array}, if it must.
    """
    folder = base / name
    if not is_whole(folder, sizes):
        shutil.rmtree(folder, ignore_errors=True)
        remove_stale(base)
        partial = Path(tempfile.mkdtemp(dir=base, prefix=".partial-"))
        try:
            for file, content in get().items():
                (partial / file).parent.mkdir(parents=True, exist_ok=True)
                (partial / file).write_bytes(memoryview(content))
            with contextlib.suppress(OSError):  # another process of this node was first
                os.rename(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        if not is_whole(folder, sizes):
            raise OSError(f"{folder} could not be made whole on this node")
    os.utime(folder)
    return folder


def is_whole(folder: Path, sizes: dict[str, int]) -> bool:
    """Are all files there in their full size? Something may have tidied up the temporary folder."""
    try:
        return folder.is_dir() and all((folder / file).stat().st_size == size for file, size in sizes.items())
    except OSError:
        return False


def remove_stale(base: Path) -> None:
    """Remove what nobody has used for a week."""
    for folder in base.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > STALE:
                shutil.rmtree(folder)
