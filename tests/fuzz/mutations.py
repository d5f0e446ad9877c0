"""What a stranger, a bad disk or a bad program makes of a file: seeded, so that every case can be made again.

How it is used: `mutated(rng, content, kind)` gives the bytes of one case and the names of what was done to them.
"""

import contextlib
import hashlib
import io
import json
import os
import pickle
import struct
import zipfile

import numpy as np

HUGE = (2**31 - 1, 2**31, 2**32 - 1, 2**35, 2**62, 2**63 - 1, 2**64, 10**30, -1)
DEEP = 50_000
WEIRD = [
    None, True, -1, 0, 2**63, 10**400, 1e308, float("nan"), float("-inf"), "", "\0", "\ud800", "a" * 5000, [], {}, [[]],
    {"": {}}, "../../etc/passwd", "/dev/zero", ["x"] * 50, "٣", "²",
]  # fmt: skip


class Planted:
    """Unpickling it makes a folder: the mark that a file's content was executed."""

    def __init__(self, mark: str):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def cut(rng, content):
    return content[: rng.integers(0, len(content) + 1)]


def bits(rng, content):
    out = bytearray(content or b"\0")
    for place in rng.integers(0, 8 * len(out), rng.integers(1, 5)):
        out[place // 8] ^= 1 << (place % 8)
    return bytes(out)


def overwrite(rng, content):
    out = bytearray(content or b"\0")
    start, length = rng.integers(0, len(out)), int(rng.integers(1, 64))
    fill = [b"\0", b"\xff", bytes(rng.integers(0, 256, 64, dtype=np.uint8)), b"[", b'"', b"((((", b"\xf0\x9f"]
    piece = (fill[rng.integers(0, len(fill))] * 64)[:length]
    out[start : start + length] = piece
    return bytes(out)


def insert(rng, content):
    place = rng.integers(0, len(content) + 1)
    piece = bytes(rng.integers(0, 256, rng.integers(1, 40), dtype=np.uint8))
    return content[:place] + piece + content[place:]


def drop(rng, content):
    a, b = sorted(rng.integers(0, len(content) + 1, 2))
    return content[:a] + content[min(b, a + 200) :]


def double(rng, content):
    a, b = sorted(rng.integers(0, len(content) + 1, 2))
    return content[:b] + content[max(a, b - 200) : b] + content[b:]


def number(rng, content):
    """Somewhere in it four or eight bytes become a giant number."""
    out, value = bytearray(content + bytes(8)), HUGE[rng.integers(0, len(HUGE))]
    form = ["<I", "<Q", ">I", ">Q"][rng.integers(0, 4)]
    place, size = rng.integers(0, len(content) + 1), struct.calcsize(form)
    out[place : place + size] = struct.pack(form, value % 2 ** (8 * size))
    return bytes(out[: len(content)])


def random_bytes(rng, content):
    return bytes(rng.integers(0, 256, rng.integers(0, 400), dtype=np.uint8))


BYTES = (cut, bits, overwrite, insert, drop, double, number, random_bytes)


def encoded(rng, content):
    """A text in another encoding, with zero bytes, or with both kinds of line ends."""
    text = content.decode("utf-8", "replace")
    way = rng.integers(0, 6)
    if way == 5:
        return text.replace("\n", "\r").encode()
    if way == 4:
        return text.replace("\n", "\0\n", 1).encode()
    return (text + "ä€").encode(["utf-16", "utf-32", "cp1252", "utf-16-le"][way], "replace")


def cells(rng, content):
    """One of a text's pieces between commas and line ends becomes something that no one expects there."""
    text = content.decode("utf-8", "replace")
    parts = text.split(",")
    new = [
        *map(str, WEIRD),
        '"',
        '"a\nb"',
        "1" * 5000,
        "nan",
        "9" * 400,
        ";",
        "\t",
        "=1+1",
        "a" * 140_000,
        "\u202e",
        "é",
    ]
    parts[rng.integers(0, len(parts))] = new[rng.integers(0, len(new))]
    return ",".join(parts).encode("utf-8", "surrogatepass")


def nested(rng, content):
    """Somewhere in a text brackets open, tens of thousands of them."""
    place, mark = (
        rng.integers(0, len(content) + 1),
        [b"[", b"(", b'{"a":', b"-", b"[[", b"not ", b"x."][rng.integers(0, 7)],
    )
    closing = {b"[": b"]", b"(": b")", b'{"a":': b"}", b"[[": b"]]"}.get(mark, b"") if rng.integers(0, 2) else b""
    return content[:place] + mark * DEEP + b"1" + closing * DEEP + content[place:]


def repeated(rng, content):
    """Somewhere in a text a piece comes again and again, which patterns that look back too often do not like."""
    pieces = [b" ", b"\t", b"\n", b"%a\n", b"a,", b"?a ", b"a =", b"' '", b'""', b"(\n", b"\\\n", b"1", b"#\n"]
    place, piece = rng.integers(0, len(content) + 1), pieces[rng.integers(0, len(pieces))]
    return content[:place] + piece * int(rng.integers(1000, 20_000)) + content[place:]


def values(rng, content):
    """A value somewhere in a JSON text becomes another, of any kind; or it goes."""
    try:
        tree = json.loads(content)
    except ValueError:
        return content
    places = []

    def walk(node):
        for key in list(node.keys()) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    if isinstance(tree, dict | list):
        walk(tree)
    if not places or rng.integers(0, 20) == 0:
        return json.dumps(WEIRD[rng.integers(0, len(WEIRD))]).encode()
    for _ in range(rng.integers(1, 3)):
        node, key = places[rng.integers(0, len(places))]
        if isinstance(node, dict) and rng.integers(0, 4) == 0:
            node.pop(key, None)
        elif isinstance(node, list) or key in node:
            node[key] = WEIRD[rng.integers(0, len(WEIRD))]
    return json.dumps(tree).encode()


def json_resealed(rng, content):
    """Values changed and, as anybody can, the checksum made anew: only what is read can be wrong then."""
    changed = values(rng, content)
    tree = json.loads(changed)
    if isinstance(tree, dict) and "sha256" in tree:
        plain = {key: value for key, value in tree.items() if key != "sha256"}
        tree["sha256"] = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return json.dumps(tree).encode()


def in_cells(rng, content):
    """The code in a notebook's cells changes, as it would in a file."""
    tree = json.loads(content)
    sources = [cell for cell in tree["cells"] if cell["cell_type"] == "code"]
    cell = sources[rng.integers(0, len(sources))]
    text = "".join(cell["source"]).encode()
    text = [nested, repeated, repeated, overwrite, cells, cut][rng.integers(0, 6)](rng, text)
    cell["source"] = text.decode("utf-8", "replace")
    return json.dumps(tree).encode()


def _members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(info, archive.read(info)) for info in archive.infolist()]


def _zipped(members, kind=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for info, content in members:
            archive.writestr(info, content)
    return buffer.getvalue()


def zip_names(rng, content):
    """A member twice, gone, foreign, a link, or with a name that leads elsewhere."""
    members = _members(content)
    info, inside = members[rng.integers(0, len(members))]
    name, way = info.filename, rng.integers(0, 10)
    if way == 0:
        members.append((zipfile.ZipInfo(name), inside))
    elif way == 1:
        members.remove((info, inside))
    elif way == 2:
        link = zipfile.ZipInfo(name)
        link.external_attr = 0o120777 << 16
        members[members.index((info, inside))] = (link, b"/etc/passwd")
    elif way == 3:
        members.append((zipfile.ZipInfo(f"{name}/"), b""))
    else:
        names = [
            f"../{name}",
            f"/tmp/{name}",
            f"a\\..\\{name}",
            "x" * 3000,
            "",
            f"{name}\0.txt",
            "ü/é",
            "CON",
            "\ud800",
        ]
        new = zipfile.ZipInfo("x")
        new.filename = names[rng.integers(0, len(names) - 1)]
        members[members.index((info, inside))] = (new, inside)
    return _zipped(members, [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED][rng.integers(0, 2)])


def zip_headers(rng, content):
    """Fields of a zip's own directory: size, compressed size, checksum, flags, method, offset, attributes."""
    out = bytearray(content)
    starts = [k for k in range(len(out) - 46) if out[k : k + 4] == b"PK\x01\x02"]
    if not starts:
        return bits(rng, content)
    start = starts[rng.integers(0, len(starts))]
    fields = {6: "<H", 8: "<H", 10: "<H", 16: "<I", 20: "<I", 24: "<I", 28: "<H", 30: "<H", 38: "<I", 42: "<I"}
    for offset in rng.choice(list(fields), rng.integers(1, 3), replace=False):
        form = fields[offset]
        value = [0, 1, 8, 9, 12, 14, 93, 2**31 - 1, 2**32 - 1, int(rng.integers(0, 2**32))][rng.integers(0, 10)]
        struct.pack_into(form, out, start + int(offset), value % 2 ** (8 * struct.calcsize(form)))
    return bytes(out)


def zip_bomb(rng, content):
    """A member of a few hundred megabytes of zeros, well packed."""
    members = _members(content)
    info, _ = members[rng.integers(0, len(members))]
    members[0] = (zipfile.ZipInfo(info.filename), bytes(int(rng.integers(1, 40)) << 20))
    return _zipped(members, zipfile.ZIP_DEFLATED)


def zip_inside(rng, content, change=None):
    """A member's content damaged, in a zip whose checksums fit."""
    members = _members(content)
    k = rng.integers(0, len(members))
    change = change or BYTES[rng.integers(0, len(BYTES))]
    members[k] = (zipfile.ZipInfo(members[k][0].filename), change(rng, members[k][1]))
    return _zipped(members)


def zip_planted(rng, content, mark):
    """A pickle that would make a folder, in the place of a member, of its pickle, or in front of it."""
    members = _members(content)
    names = [i for i, (info, _) in enumerate(members) if info.filename.endswith(("data.pkl", ".npy"))] or range(
        len(members)
    )
    k = list(names)[rng.integers(0, len(names))]
    info, inside = members[k]
    evil = pickle.dumps(Planted(mark), protocol=int(rng.integers(0, 5)))
    if info.filename.endswith(".npy"):
        evil = _npy("|O", (1,), evil)
    elif rng.integers(0, 2):
        evil = evil[:-1] + b"0" + inside[2:]
    members[k] = (zipfile.ZipInfo(info.filename), evil)
    return _zipped(members)


def planted(rng, content, mark):
    """The whole file is a pickle, or an array of objects, that would make a folder."""
    evil = pickle.dumps(Planted(mark), protocol=int(rng.integers(0, 5)))
    return [evil, _npy("|O", (1,), evil), evil + content][rng.integers(0, 3)]


def _npy(kind, shape, data, version=(1, 0)):
    head = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode("latin1", "replace")
    length = struct.pack("<H", len(head) % 65536) if version == (1, 0) else struct.pack("<I", len(head))
    return b"\x93NUMPY" + bytes(version) + length + head + data


def npy_headers(rng, content):
    """An array whose header asks for much, for objects, for structures, or is no header; sealed again."""
    kinds = [
        "<f4",
        "|O",
        "<U1000000",
        "|V2147483647",
        "<M8[s]",
        "<f16",
        "|b1",
        ">f4",
        [("a", "<f4", (10**6,))],
        "<i8",
        "<c16",
    ]
    shapes = [
        (2**33,), (2**62, 4), (0,), (-1,), (), (2**40, 0), (10**30,), "(" * 200, "(1,) * 2", (3, 4), (1.5,), (True,),
        "[1]", "1", (16, 3), "(" + "1," * 3000 + ")", "-" * 5000 + "1",
    ]  # fmt: skip
    made = _npy(
        kinds[rng.integers(0, len(kinds))],
        shapes[rng.integers(0, len(shapes))],
        bytes(int(rng.integers(0, 200))),
        [(1, 0), (2, 0), (3, 0), (9, 9)][rng.integers(0, 4)],
    )
    return zip_inside(rng, content, lambda *_: made)


def npy_about(rng, content):
    """What a sealed file says of itself, as JSON, becomes something else."""
    members = _members(content)
    for k, (info, inside) in enumerate(members):
        if info.filename == "about.npy":
            text = str(np.load(io.BytesIO(inside))).encode()
            text = [values, nested, cut, bits][rng.integers(0, 4)](rng, text)
            buffer = io.BytesIO()
            np.save(buffer, np.array(text.decode("utf-8", "replace")))
            members[k] = (zipfile.ZipInfo(info.filename), buffer.getvalue())
    return _zipped(members)


def npy_values(rng, content):
    """An array of another type or shape, or with values that are none."""
    members = _members(content)
    k = rng.integers(0, len(members))
    array = np.load(io.BytesIO(members[k][1]))
    real = array.dtype.kind == "f"
    ways = [
        lambda a: np.zeros(3) if a.dtype.kind == "U" else a.astype("U8"), lambda a: a[..., None], lambda a: a.ravel(),
        lambda a: np.full_like(a, np.nan) if real else a, lambda a: np.float64(1), lambda a: a[:0] if a.ndim else a,
        lambda a: a.astype("c16") if real else a, lambda a: np.array(["x"]), lambda a: a.astype("f8") if real else a,
        lambda a: np.zeros(a.shape, [("x", "f4")]), lambda a: np.zeros(a.shape, "M8[s]"),
    ]  # fmt: skip
    buffer = io.BytesIO()
    np.save(buffer, ways[rng.integers(0, len(ways))](array))
    members[k] = (zipfile.ZipInfo(members[k][0].filename), buffer.getvalue())
    return _zipped(members)


def resealed(content):
    """With a seal that fits: anybody can make one, so it must protect from nothing but accidents."""
    buffer = io.BytesIO(content)
    try:
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.comment = b"sha256:" + b"0" * 64
    except Exception:  # no zip any more
        return content
    whole = buffer.getvalue()[:-64]
    return whole + hashlib.sha256(whole).hexdigest().encode()


def in_members(rng, content, mark):
    """A member of a file for others, changed as a file of its own kind would be, with all checksums made anew."""
    members = _members(content)
    k = rng.integers(0, len(members))
    name = members[k][0].filename
    kind = {"npz": "sealed", "json": "score", "py": "python"}.get(name.rpartition(".")[2], "picture")
    members[k] = (zipfile.ZipInfo(name), mutated(rng, members[k][1], kind, mark)[0])
    table = next(j for j, (info, _) in enumerate(members) if info.filename == "contents.json")
    with contextlib.suppress(Exception):  # the table itself was the one
        contents = json.loads(members[table][1])
        others = [one for j, one in enumerate(members) if j != table]
        sums = {info.filename: hashlib.sha256(inside).hexdigest() for info, inside in others}
        members[table] = (zipfile.ZipInfo("contents.json"), json.dumps(contents | {"sha256": sums}).encode())
    return resealed(_zipped(members))


ZIP = (zip_names, zip_headers, zip_headers, zip_bomb, zip_inside, zip_inside, zip_planted)
KINDS = {
    "checkpoint": BYTES + ZIP + (planted,),
    "safetensors": BYTES + (planted, nested),
    "sealed": BYTES + ZIP + (planted, npy_headers, npy_headers, npy_about, npy_about, npy_values, npy_values),
    "csv": BYTES + (encoded, cells, cells, cells, nested, repeated),
    "notebook": BYTES + (encoded, nested, values, values, values, in_cells, in_cells, in_cells),
    "score": BYTES + (encoded, nested, values, json_resealed, json_resealed, json_resealed),
    "python": BYTES + (encoded, nested, nested, cells, repeated),
    "picture": BYTES,
    "shared": BYTES + ZIP + (in_members,) * 12,
}
SEALED = ("sealed", "shared")
MARKED = (zip_planted, planted, in_members)  # which plant something that leaves a mark when it runs


def mutated(rng, content, kind, mark):
    """One case: (bytes, name of the mutation). One in four is mutated twice; half of the sealed get a new seal."""
    names = []
    for _ in range(2 if rng.integers(0, 4) == 0 else 1):
        change = KINDS[kind][rng.integers(0, len(KINDS[kind]))]
        names.append(change.__name__)
        try:
            content = change(rng, content, mark) if change in MARKED else change(rng, content)
        except Exception:  # what an earlier mutation has left is none of this kind
            content = bits(rng, content)
    if kind in SEALED and rng.integers(0, 2):
        content = resealed(content)
    return content, "+".join(names)
