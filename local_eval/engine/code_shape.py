"""What a piece of Python does, as a text that comments, docstrings and places do not change.

How it is used: by runs/identity.py, to tell whether a submission has changed, and by tasks/own_code.py for a task.
"""

from __future__ import annotations

import ast

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_shape(tree: ast.AST) -> str:
    """A text that two sources share if they do the same: the syntax tree without docstrings and places."""
    return _shape(tree)


def _shape(node: object) -> str:
    if isinstance(node, list):
        return f"[{','.join(map(_shape, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = []
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            value = value[1:]
        # absent fields are left out, so that a newer Python's additional ones do not change old hashes
        if name != "type_comment" and value is not None and value != []:
            parts.append(f"{name}={_shape(value)}")
    return f"{type(node).__name__}({','.join(parts)})"
