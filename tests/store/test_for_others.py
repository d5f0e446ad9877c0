"""A file for others is read whole or refused by name, whatever was done to it; and it is the same twice."""

import io
import json
import stat
import zipfile

import numpy as np
import pytest

from local_eval.store import for_others
from local_eval.store.files import is_for_others
from local_eval.store.for_others import SharedError, check_silent, pack, unpack
from local_eval.store.sealed import seal_zip

MEMBERS = {"a.txt": b"some text\n" * 40, "b.npz": bytes(range(256))}
KNOWN = {*MEMBERS, "link", "../up.txt"}.__contains__


@pytest.fixture
def read(tmp_path):
    def read_it(content, known=MEMBERS.__contains__):
        path = tmp_path / "theirs.zip"
        path.write_bytes(content)
        return unpack(path, "example", known)

    return read_it


def packed(**contents):
    return pack({"kind": "example", **contents}, MEMBERS)


def zipped(infos, contents=None):
    """A sealed zip whose members are these (ZipInfo or name, content)."""
    buffer = io.BytesIO()
    table = {"kind": "example", "format": 1, "sha256": {}} | (contents or {})
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, content in [("contents.json", json.dumps(table).encode()), *infos]:
            archive.writestr(info, content)
    return seal_zip(buffer)


def test_what_was_packed_comes_out_and_twice_gives_the_same_bytes(read, tmp_path):
    contents, members = read(packed(said=1))
    assert members == MEMBERS and contents["said"] == 1 and contents["format"] == for_others.FORMAT
    assert packed() == packed() and is_for_others(tmp_path / "theirs.zip")
    (tmp_path / "other.zip").write_bytes(zipped([])[40:])
    assert not is_for_others(tmp_path / "other.zip") and not is_for_others(tmp_path / "none.zip")


def test_any_byte_that_is_lost_or_changed_is_noticed(read):
    content, rng = packed(), np.random.default_rng(0)
    for place in rng.choice(len(content), 150, replace=False):
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.integers(0, 8)
        for damaged in (bytes(flipped), content[:place]):
            with pytest.raises(SharedError, match=r"theirs\.zip"):
                read(damaged)


def link(name="link"):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def encrypted(content):
    """The flag of the second member says so."""
    out, place = bytearray(content), content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)
    out[place + 8] |= 1
    buffer = io.BytesIO(bytes(out))
    return seal_zip(buffer)


def test_hostile_archives_are_refused_although_their_seal_fits(read, monkeypatch):
    monkeypatch.setattr(for_others, "SPARE", 1 << 10)
    hostile = {
        "does not belong there": zipped([("x.txt", b"")]),
        "no plain member": zipped([(link(), b"/etc/passwd")]),
        "says that it grows": zipped([("a.txt", b"0" * (1 << 22))]),
        "does not name the members": zipped([("a.txt", b"1")]),
        "was changed": zipped([("a.txt", b"1")], {"sha256": {"a.txt": "0"}}),
        "no contents.json": pack({"kind": "example"}, {}).replace(b"contents.json", b"contents.jsox"),
        "no file of the kind": pack({"kind": "other"}, MEMBERS),
        "newer kit": zipped([], {"format": for_others.FORMAT + 1}),
    }
    hostile["no contents.json"] = seal_zip(io.BytesIO(hostile["no contents.json"]))
    with pytest.warns(UserWarning, match="Duplicate"):
        hostile["two of one name"] = zipped([("a.txt", b"1"), ("a.txt", b"2")])
    hostile["holds no fields"] = with_contents_of(b"[" * 100 + b"]" * 100)
    hostile["cannot be read"] = with_contents_of(b"[" * 100_000)
    hostile["no plain member: a link, encrypted"] = encrypted(zipped([("a.txt", b"1")]))
    for reason, content in hostile.items():
        with pytest.raises(SharedError, match=reason):
            read(content, KNOWN if "plain" in reason else MEMBERS.__contains__)


def with_contents_of(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("contents.json", content)
    return seal_zip(buffer)


def test_no_file_a_folder_and_one_that_is_too_large_are_refused(tmp_path, monkeypatch):
    (tmp_path / "theirs.zip").write_bytes(packed())
    monkeypatch.setattr(for_others, "LARGEST", 100)
    for name, reason in (("", "no file"), ("none.zip", "cannot be read"), ("theirs.zip", "bytes")):
        with pytest.raises(SharedError, match=reason):
            unpack(tmp_path / name, "example", KNOWN)


def test_what_would_be_told_is_named_with_its_line():
    private = for_others.Private(("/home/jane",), ("jane",))
    check_silent(private, [("page", "nothing\nof janet or /home/other")])
    for text in ("x\nin /home/jane/y", "x\nby Jane."):
        with pytest.raises(SharedError, match=r"page would tell others .*line 2"):
            check_silent(private, [("page", text)])
