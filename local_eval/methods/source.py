"""A submission's source as text: its statements, its compiled code, and the error that all who read it raise.

How it is used: `same_code(one, other)` in from_python.py.
"""

from __future__ import annotations

import ast
import dis
import inspect
from collections.abc import Iterator
from types import CodeType

from local_eval.store.errors import InputError

# What Python's parser and compiler raise for what is not Python; the last two where it nests too deeply for them
NOT_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)


class SubmissionError(InputError):
    """The submission breaks the contract; the message says where and what to change."""


# A top-level statement by the names that it makes, changes and needs.


DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)
ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)
AWAITING = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # cells may


class Statement:
    """A top-level statement: what it makes, changes and needs."""

    def __init__(self, node: ast.stmt):
        self.node = node
        code = compile(ast.Module([node], []), "cell", "exec", AWAITING, dont_inherit=True)
        self.makes = {i.argval for i in dis.get_instructions(code) if i.opname in ("STORE_NAME", "STORE_GLOBAL")}
        self.needs = _loaded(code)
        self.changes = stored(node)
        self.calls_of = _called_of(node)
        self.first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        self.runs = _is_plain(node)  # may be run where the submission is imported

    def shown(self, lines: list[str]) -> str:
        """Its beginning, as text."""
        start = self.node.col_offset if self.first == self.node.lineno else 0
        return f"`{lines[self.first - 1].encode()[start:].decode().strip()[:60]}`"

    def touches(self, names: set[str]) -> set[str]:
        """Those of the names that it makes or changes."""
        return (self.makes | self.changes | self.calls_of) & names


def _loaded(code: CodeType) -> set[str]:
    """Global names that code needs, that of its functions included."""
    names = {
        i.argval
        for i in dis.get_instructions(code)
        if i.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL")
    }
    return names.union(*(_loaded(c) for c in code.co_consts if isinstance(c, CodeType)))


def stored(node: ast.stmt) -> set[str]:
    """Names of which something is assigned: `cfg` in cfg.lr = 3 and in cfg['lr'] = 3, functions' insides apart."""
    found, waiting = set(), [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, (*DEFINITIONS, ast.Lambda)):
            continue
        if isinstance(part, (ast.Attribute, ast.Subscript)) and isinstance(part.ctx, (ast.Store, ast.Del)):
            found |= _root(part)
        waiting += ast.iter_child_nodes(part)
    return found


def _called_of(node: ast.stmt) -> set[str]:
    """`cfg` if the statement is cfg.update(lr=3): it may change what `cfg` holds."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        return _root(node.value.func)
    return set()


def _root(node: ast.expr) -> set[str]:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _is_plain(node: ast.stmt) -> bool:
    """May it run at import: a definition, an import, an assignment, a call of a method, or a choice among these?"""
    if isinstance(node, ast.If):
        return all(map(_is_plain, node.body + node.orelse))
    if isinstance(node, ast.Try):
        handled = [statement for handler in node.handlers for statement in handler.body]
        return all(map(_is_plain, node.body + handled + node.orelse + node.finalbody))
    return bool(_called_of(node)) or isinstance(node, (*DEFINITIONS, *IMPORTS, *ASSIGNMENTS, ast.Pass, ast.Raise))


NAMES = ("co_names", "co_varnames", "co_freevars", "co_argcount", "co_posonlyargcount", "co_kwonlyargcount")
STEPS = ("co_code", "co_exceptiontable")


def same_code(one: CodeType, other: CodeType) -> bool:
    """Do two code objects do the same, step by step? Line numbers and file names do not count."""
    return _same(one, other, NAMES + STEPS)


def same_names(one: CodeType, other: CodeType) -> bool:
    """Do two code objects have the same names and constants, all through?"""
    return _same(one, other, NAMES)


def same_value(one: object, other: object) -> bool:
    """Are two plain values the same, of the same type?"""
    return type(one) is type(other) and repr(one) == repr(other)


def _same(one: object, other: object, compared: tuple[str, ...]) -> bool:
    if not isinstance(one, CodeType) or not isinstance(other, CodeType):
        return same_value(one, other)
    if any(getattr(one, name) != getattr(other, name) for name in compared):
        return False
    if (one.co_flags ^ other.co_flags) & ~inspect.CO_NESTED:  # where a function stands makes no difference
        return False
    pairs = list(zip(one.co_consts, other.co_consts))
    return len(one.co_consts) == len(other.co_consts) and all(_same(a, b, compared) for a, b in pairs)


def codes_in(code: CodeType) -> dict[str, CodeType]:
    """The code of the functions and classes that stand directly in it, the last of every name."""
    return {inside.co_name: inside for inside in code.co_consts if isinstance(inside, CodeType)}


def all_codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and all that stand in it."""
    yield code
    for inside in code.co_consts:
        if isinstance(inside, CodeType):
            yield from all_codes(inside)


def is_at(one: CodeType, other: CodeType) -> bool:
    """Do they stand at the same line, under the same name?"""
    return (one.co_firstlineno, one.co_qualname) == (other.co_firstlineno, other.co_qualname)


def globals_of(code: CodeType) -> set[str]:
    """Global names that a function's code reads or sets, that of functions and classes inside it included."""
    steps = [(i.opname, i.argval) for i in dis.get_instructions(code)]
    names = {name for step, name in steps if step.endswith("_GLOBAL")}
    made = {name for step, name in steps if step == "STORE_NAME"}  # in the body of a class
    names |= {name for step, name in steps if step == "LOAD_NAME"} - made - {"__name__"}
    return names.union(*(globals_of(inside) for inside in code.co_consts if isinstance(inside, CodeType)))
