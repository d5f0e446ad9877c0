"""Change constants of a submission without copying its file: `fanchuan[EPOCHS=9]`, or --set EPOCHS=9.

How it is used: `literal(value)` and `address(name, value)` in from_python.py.
"""

from __future__ import annotations

import ast
import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from local_eval.methods.identity import library_folders
from local_eval.methods.source import NOT_PYTHON
from local_eval.store.errors import InputError

# Change constants of a submission without copying its file: `fanchuan[EPOCHS=9]`, or --set EPOCHS=9.
#
# A constant is a name in capitals that is assigned at the top level. The value is changed in the source text, so what
# is computed from it follows, an exported notebook shows it, and a run's identity knows it. Values are literals of
# Python and must be of the constant's kind.


Settings = tuple[tuple[str, str], ...]  # constant and literal, as written
UNKNOWN = object()  # a value that is not known without running the file


class SettingError(InputError):
    """A constant cannot be set so; the message names it and what would fit."""


def split_name(name: str) -> tuple[str, Settings]:
    """The name or path of a submission, and its settings: 'fanchuan[EPOCHS=9]' -> ('fanchuan', (('EPOCHS', '9'),)).

    Raises:
        SettingError: the brackets hold something else than NAME=LITERAL, ...
    """
    found = re.fullmatch(r"(.+?)\[(.*)\]", name, re.DOTALL)
    if not found:
        return name, ()
    try:
        call = ast.parse(f"_({found[2]})", mode="eval").body
        if call.args or any(k.arg is None for k in call.keywords):
            raise ValueError("no name before =")
        return found[1], tuple((k.arg, _literal(k.value)) for k in call.keywords)
    except (*NOT_PYTHON, AttributeError) as error:
        text = f"{name}: the brackets must hold NAME=VALUE, such as [EPOCHS=3,LR=1e-2] ({error})"
        raise SettingError(text) from None


def _literal(node: ast.expr) -> str:
    ast.literal_eval(node)
    return ast.unparse(node)


def with_settings(name: str, pairs: Sequence[str]) -> str:
    """The name of a submission with settings from the command line, each 'NAME=VALUE'; raises SettingError."""
    stem, settings = split_name(name)
    changed = dict(settings)
    for pair in pairs:
        constant, equals, value = pair.partition("=")
        if not equals or not constant.strip().isidentifier():
            raise SettingError(f"--set {pair}: give NAME=VALUE, such as --set EPOCHS=3")
        try:
            changed[constant.strip()] = _literal(ast.parse(value.strip(), mode="eval").body)
        except NOT_PYTHON:
            text = f"--set {pair}: {value.strip()!r} is no literal of Python"
            raise SettingError(f"{text}; a text needs quotes: --set \"NAME='text'\"") from None
    return label(stem, tuple(changed.items()))


def with_values(name: str, values: Mapping[str, object]) -> str:
    """The same from Python, where values are no texts; numpy's single numbers are taken. Raises SettingError."""
    stem, settings = split_name(name)
    changed = dict(settings)
    for constant, value in values.items():
        value = value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0 else value
        text = literal(value)
        if not isinstance(constant, str) or not constant.isidentifier():
            raise SettingError(f"settings: {constant!r} is no name of a constant; give them as {{'EPOCHS': 3}}")
        if text is None or type(value).__module__ == "torch":
            kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            text = f"settings: {constant} is {_short(value)} ({kind}), which a file cannot hold as a literal of Python"
            raise SettingError(f"{text}; give a finite number, a text, True, None, or a list, tuple or dict of these")
        changed[constant] = text
    return label(stem, tuple(changed.items()))


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def label(name: str, settings: Settings) -> str:
    """How a submission with settings is shown, and named again."""
    inside = ",".join(f"{constant}={value}" for constant, value in settings)
    return f"{name}[{inside}]" if settings else name


def constants(tree: ast.Module) -> dict[str, list[ast.expr]]:
    """The constants of a file: every value that is assigned to a name in capitals at the top level, in order."""
    found: dict[str, list[ast.expr]] = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) and node.value is not None else targets
        if len(targets) == 1 and isinstance(targets[0], ast.Name) and targets[0].id.isupper():
            found.setdefault(targets[0].id, []).append(node.value)
    return found


def changed_source(source: str, settings: Settings, where: str) -> str:
    """The source text with these constants changed; lines keep their numbers.

    Raises:
        SettingError: no such constant, or a value of another kind; the message lists what there is.
    """
    known = constants(ast.parse(source)) if settings else {}
    places = []
    for constant, value in settings:
        if constant not in known:
            there = ", ".join(f"{n} = {ast.unparse(v[-1])}" for n, v in known.items()) or "none"
            near = difflib.get_close_matches(constant.upper(), known, n=3)
            meant = f"did you mean {' or '.join(near)}? " if near else ""
            raise SettingError(f"{where}: no constant {constant}; {meant}its constants in capitals: {there}")
        _check_kind(constant, known[constant][-1], value, known, where)
        places += [(node, value) for node in known[constant]]
    content, starts = source.encode(), _line_starts(source.encode())
    for node, value in sorted(places, key=lambda place: (-place[0].lineno, -place[0].col_offset)):
        first = starts[node.lineno - 1] + node.col_offset
        last = starts[node.end_lineno - 1] + node.end_col_offset
        lost = content[first:last].count(b"\n")
        new = f"({value}{chr(10) * lost})" if lost else value
        content = content[:first] + new.encode() + content[last:]
    return content.decode()


def _line_starts(content: bytes) -> list[int]:
    starts = [0]
    for line in content.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def _check_kind(constant: str, node: ast.expr, value: str, known: dict[str, list[ast.expr]], where: str) -> None:
    old, new = value_of(node, known), ast.literal_eval(value)
    if old is UNKNOWN or old is None or type(old) is type(new):
        return
    if type(old) is float and type(new) is int or isinstance(old, tuple | list) and isinstance(new, tuple | list):
        return
    kind = {"str": "a text", "int": "an integer", "float": "a number", "bool": "True or False"}.get(type(old).__name__)
    old = f"{constant} is {ast.unparse(node)}, {kind or type(old).__name__}"
    raise SettingError(f"{where}: {old}; {value} does not fit")


def value_of(node: ast.expr, known: dict[str, list[ast.expr]]) -> object:
    """What an expression of literals and other constants gives; UNKNOWN for anything that would have to be run."""
    allowed = (ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Tuple, ast.List, ast.Dict)
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id not in known:
            return UNKNOWN
        if not isinstance(part, allowed + (ast.Name, ast.expr_context)):
            return UNKNOWN
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    values = {name: value_of(known[name][-1], {k: v for k, v in known.items() if k != name}) for name in names}
    if any(value is UNKNOWN for value in values.values()):
        return UNKNOWN
    try:
        return eval(compile(ast.Expression(node), "<constant>", "eval"), {"__builtins__": {}}, values)
    except Exception:  # whatever arithmetic can raise: then the file cannot be imported either
        return UNKNOWN


def literal(value: object) -> str | None:
    """A text that gives this value again; None if there is none that can be trusted."""
    if type(value).__module__ == "torch" and type(value).__name__ in ("device", "dtype"):
        text = f'device("{value}")' if type(value).__name__ == "device" else str(value).removeprefix("torch.")
        return f'__import__("torch").{text}'
    text = repr(value)
    try:
        again = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return text if type(again) is type(value) and repr(again) == text and _plain(value) else None


def _plain(value: object) -> bool:
    """Is it of Python's own types all through? numpy's numbers and enums print like plain ones in places."""
    if isinstance(value, dict):
        return type(value) is dict and all(map(_plain, [*value, *value.values()]))
    if isinstance(value, list | tuple):
        return type(value) in (list, tuple) and all(map(_plain, value))
    return type(value) in (int, float, complex, str, bytes, bool, type(None), type(...))


def of_a_package(name: str) -> bool:
    """Does a module, loaded here, come from a package, the standard library or `common`?"""
    if name.split(".")[0] == "__main__":  # which may be a launcher's file
        return False
    root = sys.modules.get(name.split(".")[0])
    file = getattr(root, "__file__", None) or next(iter(getattr(root, "__path__", ())), None)
    if name.split(".")[0] in {*sys.stdlib_module_names, "common"}:
        return True
    return file is not None and str(Path(file).resolve()).startswith(library_folders())


def address(name: str, value: object) -> tuple[str, str] | None:
    """The package's module and the name in it by which a thing can be imported."""
    own = getattr(value, "__module__", None), getattr(value, "__name__", None)
    places = [own] if all(isinstance(part, str) for part in own) else []
    places += [(m, name) for m in sorted(sys.modules, key=lambda m: (m.count("."), m)) if "._" not in f".{m}"]
    for module, there in places:
        found = sys.modules.get(module)
        if isinstance(found, ModuleType) and vars(found).get(there, places) is value and of_a_package(module):
            return module, there
    return None
