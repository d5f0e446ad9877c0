"""A file for others: a zip that a person can open by hand, in which nothing says who or where its maker is.

    <file>.zip   contents.json   of which format it is, what is in it, and the sha256 of every other member
                 ...             the members

It comes from anywhere, so it is treated as hostile when it is read: sizes are looked at before memory is taken, names
that are not expected are refused, checksums are verified, nothing is unpacked to disk and nothing is executed. Its zip
comment is a seal over all bytes (store/sealed.py). The same members give the same bytes.

How it is used: path.write_bytes(pack({"kind": "example"}, {"a.txt": b"x"})), and read again
    contents, members = unpack(path, "example", {"a.txt"}.__contains__)
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import io
import json
import os
import platform
import re
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from local_eval.store.errors import InputError
from local_eval.store.files import CONTENTS
from local_eval.store.sealed import LONGEST, is_sealed, seal_fits, seal_zip

CHECKSUMS = "sha256"  # of the members, in the contents
FORMAT = 1  # raise it when what is in a file is not what an earlier kit would understand
LARGEST = 1 << 30  # bytes of a file, and of all its members together
LARGEST_CONTENTS = 1 << 20  # bytes
MOST = 200  # members
RATIO, SPARE = 200, 1 << 20  # of a member's size to its compressed size, at most, and bytes that are always allowed
KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
WHEN = (1980, 1, 1, 0, 0, 0)  # the time of every member: when it was packed is nobody's matter
ENCRYPTED = 1  # a member's flag
DISGUISED = (".npz",)  # members that are compressed already


class SharedError(InputError):
    """A file that was made for others cannot be used; the message names it and says why."""


def pack(contents: dict, members: dict[str, bytes]) -> bytes:
    """The bytes of a file with these members; `contents` gets their checksums and its format, and comes first."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    table = json.dumps({"format": FORMAT, **contents, CHECKSUMS: sums}, indent=2, sort_keys=True) + "\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {CONTENTS: table.encode(), **members}.items():
            info = zipfile.ZipInfo(name, WHEN)
            info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16  # the same on every system
            info.compress_type = zipfile.ZIP_STORED if name.endswith(DISGUISED) else zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return seal_zip(buffer)


def unpack(path: Path, kind: str, known: Callable[[str], bool]) -> tuple[dict, dict[str, bytes]]:
    """What a file made by `pack` says of itself, and its members by name; nothing in them has been believed yet.

    Args:
        kind: what must stand under "kind" in its contents.
        known: is this the name of a member that there may be?
    Raises:
        SharedError: it is none, damaged, too large, of a newer format, or has members that do not belong there.
    """
    content = _read(path)
    if not is_sealed(content):
        raise SharedError(f"{path} is damaged or no file that `share` has made: it has no seal")
    if not seal_fits(content):
        raise SharedError(f"{path} is damaged or was changed: its checksum does not fit its content")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = _members(path, archive, known)
            found = {info.filename: archive.read(info) for info in infos}
    # RuntimeError, NotImplementedError: flags that say that it is encrypted, or packed in another way
    except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, ValueError) as error:
        if isinstance(error, SharedError):
            raise
        raise SharedError(f"{path} is damaged ({type(error).__name__}: {str(error)[:LONGEST]})") from error
    contents = as_json(found.pop(CONTENTS), f"{path}: {CONTENTS}")
    _check_format(path, contents, kind)
    _check_sums(path, contents, found)
    return contents, found


def _read(path: Path) -> bytes:
    """A regular file's content. Raises SharedError if it is none or too large."""
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            raise SharedError(f"{path} is no file; give one that `share` has made")
        if about.st_size > LARGEST:
            raise SharedError(f"{path} has {about.st_size} bytes; a shared file has at most {LARGEST}")
        return Path(path).read_bytes()
    except OSError as error:
        raise SharedError(f"{path} cannot be read ({error.strerror}); give a file that `share` has made") from error


def _members(path: Path, archive: zipfile.ZipFile, known: Callable[[str], bool]) -> list[zipfile.ZipInfo]:
    """The members, if all are such as `pack` writes. Raises SharedError."""
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if len(infos) > MOST or len(set(names)) < len(names):
        raise SharedError(f"{path} has too many members, or two of one name")
    if CONTENTS not in names:
        raise SharedError(f"{path} was not made by `share`: it has no {CONTENTS}")
    if strange := [name for name in names if name != CONTENTS and not known(name)]:
        raise SharedError(f"{path} holds {strange[0][:LONGEST]!r}, which does not belong there")
    if sum(info.file_size for info in infos) > LARGEST:
        raise SharedError(f"{path} says that it grows to more than {LARGEST} bytes")
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.compress_type not in KINDS or info.flag_bits & ENCRYPTED or kind not in (0, stat.S_IFREG):
            raise SharedError(f"{path}: {info.filename} is no plain member: a link, encrypted or packed otherwise")
        if info.file_size > RATIO * info.compress_size + SPARE:
            raise SharedError(f"{path}: {info.filename} says that it grows to {info.file_size} bytes")
        if info.filename == CONTENTS and info.file_size > LARGEST_CONTENTS:
            raise SharedError(f"{path}: {CONTENTS} has {info.file_size} bytes, and {LARGEST_CONTENTS} are the most")
    return infos


def as_json(content: bytes, where: str) -> dict:
    """The fields in a member. Raises SharedError if it holds none."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SharedError(f"{where} cannot be read ({type(error).__name__}: {str(error)[:LONGEST]})") from None
    if not isinstance(found, dict):
        raise SharedError(f"{where} holds no fields")
    return found


def _check_format(path: Path, contents: dict, kind: str) -> None:
    number = contents.get("format")
    if contents.get("kind") != kind or not isinstance(number, int):
        raise SharedError(f"{path} is no file of the kind that is asked for, {kind!r}")
    if number > FORMAT:
        raise SharedError(f"{path} was made by a newer kit (format {number}, this one reads {FORMAT}); use that one")


def _check_sums(path: Path, contents: dict, members: dict[str, bytes]) -> None:
    sums = contents.get(CHECKSUMS)
    if not isinstance(sums, dict) or sums.keys() != members.keys():
        raise SharedError(f"{path}: its {CONTENTS} does not name the members that it has")
    for name, content in members.items():
        if hashlib.sha256(content).hexdigest() != sums[name]:
            raise SharedError(f"{path}: {name} was changed: its checksum is not that in {CONTENTS}")


# What says who or where somebody is: folders, the account's name, the machine's name.

PART = r"""[^\s'"`:;,<>|()\[\]{}\\/]"""  # a letter of a folder's name
PATH = re.compile(rf"(?<![\w.:/\\<])(?:[A-Za-z]:[\\/]|~?/|\\\\)(?:{PART}+[\\/])+({PART}*)")
SOMEBODY, SOMEWHERE = "someone", "somewhere"
# Names of accounts and machines that tell nobody anything, and are words of any text
ORDINARY = {
    "root", "user", "users", "home", "test", "tests", "admin", "administrator", "ubuntu", "debian", "localhost", "data",
    "guest", "kaggle", "jovyan", "runner", "docker", "worker", "node", "model", "models", "forget", "retain", "oracle",
    "python", "torch", "linux", "local", "main", "none", "null",
}  # fmt: skip
SHORTEST = 3  # letters of a name that is looked for
SHALLOW = 2  # folders with fewer parts, such as /tmp, are everybody's


@dataclass(frozen=True)
class Private:
    """What must not be told to others."""

    folders: tuple[str, ...]  # the longest first
    names: tuple[str, ...]  # of the account and of the machine

    @classmethod
    def here(cls, *folders: Path) -> Private:
        """Of this machine and account, with further folders."""
        home = os.path.expanduser("~")
        places = {os.getcwd(), *(os.path.abspath(folder) for folder in folders), tempfile.gettempdir()}
        places |= {os.path.realpath(place) for place in places | {home}}
        deep = {place for place in places if len(Path(place).parts) > SHALLOW} | ({home} if len(home) > 1 else set())
        return cls(tuple(sorted(deep, key=len, reverse=True)), _names())

    def without(self, text: str) -> str:
        """A text with the last parts of paths alone, and without names."""
        for folder in self.folders:
            text = text.replace(os.path.join(folder, ""), "").replace(folder, SOMEWHERE)
        text = PATH.sub(lambda found: found[1] or SOMEWHERE, text)
        for name in self.names:
            text = _word(name).sub(SOMEBODY, text)
        return text

    def everywhere(self, value: object) -> object:
        """`without` in every text of some JSON."""
        if isinstance(value, str):
            return self.without(value)
        if isinstance(value, dict):
            return {key: self.everywhere(one) for key, one in value.items()}
        return [self.everywhere(one) for one in value] if isinstance(value, list | tuple) else value

    def told_by(self, text: str) -> list[tuple[int, str]]:
        """Lines of a text, from 1, that tell something, and what."""
        found = []
        for number, line in enumerate(text.splitlines(), 1):
            found += [(number, folder) for folder in self.folders if folder in line][:1]
            found += [(number, name) for name in self.names if _word(name).search(line)]
        return found


def _names() -> tuple[str, ...]:
    """What the account and the machine are called, but for words that everybody uses."""
    found = {os.environ.get(variable, "") for variable in ("USER", "LOGNAME", "USERNAME", "HOSTNAME", "COMPUTERNAME")}
    with contextlib.suppress(OSError, KeyError, ImportError):  # an account without a name, as in containers
        found.add(getpass.getuser())
    node = platform.node()
    found |= {node, node.partition(".")[0], Path(os.path.expanduser("~")).name}
    return tuple(sorted(name for name in found if len(name) >= SHORTEST and name.lower() not in ORDINARY))


def _word(name: str) -> re.Pattern:
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)


def check_silent(private: Private, texts: Iterable[tuple[str, str]]) -> None:
    """Raise SharedError if one of these texts, by its name, tells who or where somebody is."""
    for name, text in texts:
        if told := private.told_by(text):
            line, what = told[0]
            raise SharedError(f"{name} would tell others {what!r} (line {line}); nothing was written")
