"""Results as bytes: what a node sends to the driver is read as arrays and JSON, never unpickled.

Those kinds travel that the kit's jobs give: a Record, Records by number, a Failure, and what JSON can say.

How it is used: node.py packs, driver.py unpacks.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from local_eval.engine.failure import Failure, failure_in
from local_eval.engine.records import Record, RecordError, record_bytes, record_in
from local_eval.engine.sealed import seal_fits, with_seal

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
