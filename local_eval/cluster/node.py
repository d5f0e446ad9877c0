"""What travels to a node of a cluster and back, and the node's side: a Ray worker that has a pool make the jobs.

So a job finds what it finds on the driver's machine: a process as isolation/pool.py starts it, which forks another for
every submission. Whatever a job does to that process ends in a Failure and a new process; Ray's retries are left to
nodes that are lost. This module imports nothing heavy, as there is one such worker beside every process that works.

How it is used: bootstrap.py calls `make_job` or `make_trial` with what driver.py has sent.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import pickle
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, Self

from local_eval.isolation.child import Failure, failure_in
from local_eval.isolation.pool import Workers
from local_eval.store.files import KIT, ROOT
from local_eval.store.records import Record, RecordError, record_bytes, record_in
from local_eval.store.sealed import seal_fits, with_seal

# What travels to a node: files by name, packed here. bootstrap.py unpacks them there.


Parcel = dict[str, bytes]  # path below the parcel's folder -> content
CODE = ("local_eval", "common")  # folders of this kit that jobs import from
FILES = "files"  # folder of a parcel whose files have their whole path of the driver's machine below it


class Travels(Protocol):
    """What the argument of a job must offer to be worked on elsewhere. Results travel back as `packed` makes them."""

    def luggage(self) -> list[Parcel]:
        """All files that the job needs, apart from the kit's code."""

    def moved(self, folders: list[Path], left: Path) -> Self:
        """On a node: the same argument, whose files lie in the folders of its parcels, in their order.

        Args:
            left: an empty folder for files that jobs leave.
        """

    def reported(self, result: Any, index: int, folders: list[Path]) -> tuple[Any, dict[str, bytes]]:
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
    places = {name: (ROOT if name == "local_eval" else KIT) / name for name in CODE}
    files = {file: place.parent for place in places.values() for file in sorted(place.rglob("*.py"))}
    return {file.relative_to(parent).as_posix(): file.read_bytes() for file, parent in files.items()}


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


def taken_from(folder: Path | None, names: Iterable[str]) -> dict[str, bytes]:
    """Files of these names that a job has left in a folder on a node, which are removed; none without a folder."""
    files = {}
    for file in (folder / name for name in names) if folder else ():
        if file.exists():
            files[file.name] = file.read_bytes()
            file.unlink()
    return files


# Results as bytes: what a node sends to the driver is read as arrays and JSON, never unpickled.
#
# Those kinds travel that the kit's jobs give: a Record, Records by number, a Failure, and what JSON can say.


LENGTH = struct.Struct("<Q")
Files = dict[str, bytes]


def packed(result: Any, files: Files | None = None) -> bytes:
    """A result, and files that go with it, as sealed bytes. Raises TypeError for what does not travel."""
    kind, about, parts = _taken_apart(result)
    files = files or {}
    head = {"kind": kind, "about": about, "parts": len(parts), "files": list(files)}
    return with_seal(b"".join(_framed(part) for part in [json.dumps(head).encode(), *parts, *files.values()]))


def _taken_apart(result: Any) -> tuple[str, Any, list[bytes]]:
    if isinstance(result, Record):
        return "record", None, [record_bytes(result)]
    if isinstance(result, Failure):
        return "failure", None, [result.as_bytes()]
    if isinstance(result, dict) and all(isinstance(value, Record) for value in result.values()):
        return "records", list(result), [record_bytes(value) for value in result.values()]
    return "json", result, []


def _framed(part: bytes) -> bytes:
    return LENGTH.pack(len(part)) + part


def unpacked(content: bytes, where: str) -> tuple[Any, Files]:
    """The result and the files that `packed` was given.

    Raises:
        RecordError: that is not what was packed; `where` names its origin.
    """
    try:
        if failure := failure_in(content):  # of a node whose process could pack nothing any more
            return failure, {}
        if not seal_fits(content):
            raise ValueError("its checksum does not fit its content")
        parts = list(_parts(content))
        head = json.loads(parts[0])
        records, files = parts[1 : 1 + head["parts"]], parts[1 + head["parts"] :]
        return _put_together(head["kind"], head["about"], records, where), dict(zip(head["files"], files, strict=True))
    except (ValueError, KeyError, TypeError, IndexError, struct.error) as error:
        raise RecordError(f"{where} sent something unreadable ({error})") from error


def _parts(content: bytes):
    place = 0
    while place + LENGTH.size <= len(content) and not content.startswith(b"sha256:", place):
        (length,) = LENGTH.unpack_from(content, place)
        yield content[place + LENGTH.size : place + LENGTH.size + length]
        place += LENGTH.size + length


def _put_together(kind: str, about: Any, parts: list[bytes], where: str) -> Any:
    if kind == "record":
        return record_in(parts[0], where)[0]
    if kind == "records":
        return {index: record_in(part, where)[0] for index, part in zip(about, parts, strict=True)}
    return failure_in(parts[0]) if kind == "failure" else about


CARDS = "CUDA_VISIBLE_DEVICES"


def make_job(
    folders: list[Path], job: bytes, environment: dict[str, str | None], index: int, timeout: float | None
) -> bytes:
    """Make a job; returns its result as `packed` packs it, or a Failure as it packs itself.

    Args:
        folders: of the parcels of the job's argument.
        job: (function, argument), pickled by the driver.
        environment: variables to set or, for None, to take away, as they are on the driver's machine.
        timeout: seconds; None lets it take what it takes.
    """
    workers = keeper().workers(environment)
    content = workers.outcome(workers.submit(in_keeper, (folders, job), index, timeout), timeout)
    return content.as_bytes() if isinstance(content, Failure) else content


def in_keeper(what: tuple[list[Path], bytes], index: int) -> bytes:
    """In the process that works: make the job where its files are, and pack what it gives."""
    # here, since it imports torch

    folders, job = what
    function, argument = pickle.loads(job)  # the driver's, whose code this process runs anyhow
    with tempfile.TemporaryDirectory(prefix="unlearning-kit-") as left:  # gone whatever the job raises
        argument = argument.moved(folders, Path(left))
        return packed(*argument.reported(function(argument, index), index, folders))


def make_trial(
    folders: list[Path], job: bytes, environment: dict[str, str | None], indices: list[int], timeout: float
) -> tuple[int, list[tuple[int, bytes]]]:
    """Make jobs on this node's GPU until it is known how many at once are best.

    Returns:
        That number, and the packed results of the jobs that were made.
    """
    from local_eval.isolation.share_gpu import until_settled  # here, since it imports torch

    _forget_main()
    _set(environment)
    function, argument = pickle.loads(job)
    with tempfile.TemporaryDirectory(prefix="unlearning-kit-") as left:
        argument, made = argument.moved(folders, Path(left)), []
        trials = until_settled(function, argument, indices, timeout, "trial")
        while True:
            try:
                index, result = next(trials)
            except StopIteration as end:
                return end.value, made
            made.append((index, packed(*argument.reported(result, index, folders))))


class Keeper:
    """The process that works for this Ray worker; another one when Ray has given it another GPU."""

    def __init__(self):
        self._workers: Workers | None = None
        self._started_with: Any = None
        atexit.register(self.stop)

    def workers(self, environment: dict[str, str | None]) -> Workers:
        """A pool of one process, started if there is none that fits."""
        wanted = (environment, os.environ.get(CARDS))
        if self._workers is None or wanted != self._started_with:
            self.stop()
            _set(environment)
            self._workers, self._started_with = Workers(1), wanted
        return self._workers

    def stop(self) -> None:
        """End it."""
        if self._workers is not None:
            self._workers.stop()
            self._workers = None


@lru_cache(maxsize=1)
def keeper() -> Keeper:
    """This process's own."""
    _forget_main()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    return Keeper()


def _forget_main() -> None:
    """Ray's main program, which a process that is started from here would import again."""
    sys.modules["__main__"].__file__ = None


def _end_with(parent: int) -> None:
    """End this worker when its node is gone. Ray's own look is for process 1, but orphans may go to another one."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)  # what it has started dies with it


def _set(environment: dict[str, str | None]) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
