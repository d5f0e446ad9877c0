"""Whom an entry resembles: the shipped methods, and what others have handed in.

A file is read as the tokens of its syntax tree. What a copyist changes at no cost is left out: names, numbers, texts,
comments, docstrings, annotations, imports, the order of functions. What a call of a library is made of stays. Some
tokens in a row are a shingle. Shingles that three or more of the shipped methods have, and those of what the starter
kit gives away, are everybody's and do not count. What remains of two files is compared by the share of the smaller one
that the other has, too: so a copy that hides in a longer file shows.

It proves nothing, and a method may be written down anew so that none of it shows. It says what to read side by side.
Nor does it run anything: it also names what keeps a reader from understanding a file, such as code in texts.

How to try it: python -m local_eval.host.similarity mine.py
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from local_eval.methods.submission import SUBMISSIONS, Submission, submission_names, submission_path

LONG, SHORT = 8, 5  # tokens of a shingle, within a function and within a statement
COMMON = 3  # shipped methods that have a shingle which is everybody's
FEWEST = 30  # shingles of its own; a file with fewer resembles nothing that could be told
SHARED = 1 / 3  # of the smaller one's shingles, from which on two files are flagged; see tests/host/test_similarity.py
LONG_TEXT, LONG_LIST = 1000, 200  # characters, elements: stored weights have more
RUNS_TEXT = {"exec", "eval", "compile", "__import__"}  # functions of Python; net.eval() is none of them
UNPACKS = {"loads", "b64decode", "a85decode", "b85decode", "decompress", "fromhex", "import_module"}
LOOKS_ABOUT = {
    "gc", "ctypes", "inspect", "importlib", "marshal", "pickle", "base64", "zlib", "socket", "mmap", "local_eval",
}  # fmt: skip
GIVEN_AWAY = ("_template", "baseline_finetune")  # in the starter kit

Shingles = frozenset[int]


@dataclass(frozen=True)
class Likeness:
    """An entry beside another file: the share of the smaller one's shingles that both have, and how many that are."""

    other: str
    share: float
    shingles: int

    @property
    def is_flagged(self) -> bool:
        """Should somebody read the two side by side?"""
        return self.share >= SHARED and self.shingles >= FEWEST


def resemblances(source: str, others: Mapping[str, str]) -> list[Likeness]:
    """An entry's source beside all shipped methods and `others`, sources by name; the most alike first."""
    ours = own_shingles(source)
    found = [_alike(name, ours, theirs) for name, theirs in shipped_shingles().items()]
    found += [_alike(name, ours, own_shingles(text)) for name, text in others.items()]
    return sorted((one for one in found if one.share > 0), key=lambda one: (-one.share, one.other))


def _alike(name: str, ours: Shingles, theirs: Shingles) -> Likeness:
    both, smaller = len(ours & theirs), min(len(ours), len(theirs))
    return Likeness(name, both / smaller if smaller else 0.0, both)


def own_shingles(source: str) -> Shingles:
    """The shingles of a source that are not everybody's; none of one that nests too deeply to be read."""
    try:
        return shingles(source) - everybodys()
    except RecursionError:  # a file that cannot be compared must not keep others from being judged
        return frozenset()


@lru_cache(maxsize=1)
def shipped_shingles() -> dict[str, Shingles]:
    """Those of the kit's methods, by name; what is given away resembles itself and is left out."""
    return {name: own_shingles(text) for name, text in _shipped().items() if name not in GIVEN_AWAY}


@lru_cache(maxsize=1)
def everybodys() -> Shingles:
    """What several shipped methods have, and what the starter kit gives away."""
    counts = Counter(one for text in _shipped().values() for one in shingles(text))
    given = [shingles(submission_path(str(SUBMISSIONS / f"{name}.py")).read_text()) for name in GIVEN_AWAY]
    return frozenset(one for one, count in counts.items() if count >= COMMON).union(*given)


@lru_cache(maxsize=1)
def _shipped() -> dict[str, str]:
    return {name: Submission.find(name).source() for name in submission_names()}


def shingles(source: str) -> Shingles:
    """Hashes of eight tokens in a row within a function, and of five in a row within a statement of one line.

    The first know how a method goes on, the second survive it when statements are put in between.
    """
    tree = ast.parse(source)
    own = _made_here(tree)
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and not isinstance(node, ast.Import | ast.ImportFrom):
            alone = tuple(_tokens(node, own, whole=False))
            found.update(hash(("alone", *alone[k : k + SHORT])) for k in range(len(alone) - SHORT + 1))
    for node in tree.body:
        whole = tuple(_tokens(node, own, whole=True))
        found.update(hash(whole[k : k + LONG]) for k in range(len(whole) - LONG + 1))
    return frozenset(found)


def _made_here(tree: ast.Module) -> set[str]:
    """Names of functions, classes and attributes that the file makes: a copyist may call them otherwise."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    found = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
    return found | {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}


LEFT_OUT = {"annotation", "returns", "ctx", "type_comment", "type_params", "decorator_list"}


def _tokens(node: ast.AST, own: set[str], whole: bool) -> Iterator[str]:
    """A node and what is below it, in the order of the text; statements below it only if it is to be `whole`."""
    yield _token(node, own)
    for name, value in ast.iter_fields(node):
        if name in LEFT_OUT:
            continue
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, ast.AST) and (whole or not isinstance(one, ast.stmt)) and not _is_docstring(one):
                yield from _tokens(one, own, whole)


def _is_docstring(node: ast.AST) -> bool:
    """A text that stands alone does nothing."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _token(node: ast.AST, own: set[str]) -> str:
    if isinstance(node, ast.Attribute):
        return "own" if node.attr in own else f".{node.attr}"
    if isinstance(node, ast.Constant):
        return "number" if isinstance(node.value, int | float | complex) else type(node.value).__name__
    return type(node).__name__


def hides(source: str) -> list[str]:
    """What in a source keeps a reader from seeing what it does, or looks where a method has nothing to look for."""
    found = [] if own_shingles(source) or len(source) < LONG_TEXT else ["nothing in it can be compared"]
    for node in ast.walk(ast.parse(source)):
        for what in _hidden(node):
            found.append(f"line {getattr(node, 'lineno', '?')}: {what}")
    return list(dict.fromkeys(found))


def _hidden(node: ast.AST) -> Iterable[str]:
    if isinstance(node, ast.Call):
        of_python, of_module = getattr(node.func, "id", ""), getattr(node.func, "attr", "")
        name = of_python if of_python in RUNS_TEXT else of_module if of_module in UNPACKS else ""
        yield from [f"calls {name}"] if name else []
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        yield from (f"imports {name}" for name in names if name.split(".")[0] in LOOKS_ABOUT)
    if isinstance(node, ast.Attribute) and node.attr in ("__globals__", "f_back", "__subclasses__"):
        yield f"looks at {node.attr}"
    if isinstance(node, ast.Attribute) and node.attr == "modules" and getattr(node.value, "id", "") == "sys":
        yield "looks at sys.modules"
    if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and len(node.value) > LONG_TEXT:
        yield from [] if _is_text(node.value) else [f"has a text of {len(node.value)} characters that is no prose"]
    if isinstance(node, ast.List | ast.Tuple | ast.Dict | ast.Set):
        count = len(node.keys if isinstance(node, ast.Dict) else node.elts)
        yield from [f"has a list of {count} values"] if count > LONG_LIST else []


def _is_text(value: str | bytes) -> bool:
    """Prose has a space in every few letters."""
    return isinstance(value, str) and value.count(" ") > len(value) / 20


def main(path: str) -> None:
    """Print whom a file resembles."""
    source = Submission.find(path).source()
    for one in resemblances(source, {}):
        print(f"{one.other:<24}{one.share:6.0%}  {one.shingles:5d} shingles{'  flagged' if one.is_flagged else ''}")
    print("\n".join(hides(source)))


if __name__ == "__main__":
    main(str(Path(sys.argv[1])))
