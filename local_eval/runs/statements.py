"""A top-level statement by the names that it makes, changes and needs.

How it is used: `Statement(node)` in runs/notebooks.py.
"""

from __future__ import annotations

import ast
import dis
from types import CodeType

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
