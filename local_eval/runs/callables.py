"""A function from Python as a submission: the file that it comes from, or a file that is written out for it.

Never a pickle: what is graded is always a text that can be read and exported. A function stands alone as a file where
nothing but its source, importable things and plain constants make it what it is (written_out.py).

How it is used: `path_of(function, folder)` in api.py.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from local_eval.runs.codes import codes_in, same_code, same_value
from local_eval.runs.refusal import SubmissionError
from local_eval.runs.submissions import parse_source

WAY = 'write it into a file (in a notebook, `%%writefile my_method.py` above the cell), and grade("my_method.py")'


def file_of(function: Any) -> Path | None:
    """The file whose `unlearning` this function is; None for functions of notebooks, scripts and other names.

    Raises:
        SubmissionError: the file, or the module that was made of it, has changed since it was imported.
    """
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    file = getattr(module, "__file__", None) or ""
    if module is None or module.__name__ == "__main__" or not file.endswith(".py"):
        return None
    if vars(module).get("unlearning") is not function or not Path(file).is_file():
        return None
    if changed := changes(module, Path(file)):
        text = f"{module.__name__} holds another {', '.join(changed[:4])} than its file {file}"
        raise SubmissionError(f'{text}; importlib.reload it, or give the file itself: grade("{file}")')
    return Path(file).resolve()


def check_kind(function: Any) -> None:
    """Raise SubmissionError unless this is a function that a `def` made."""
    if isinstance(function, functools.partial):
        what = "a functools.partial"
    elif inspect.isclass(function):
        what = "a class"
    elif inspect.ismethod(function):
        what = "a method, which keeps its object"
    elif not inspect.isfunction(function):
        what = f"a {type(function).__name__}, no function that a def made"
    elif function.__name__ == "<lambda>":
        what = "a lambda"
    elif hasattr(function, "__wrapped__"):
        what = f"{function.__name__} in a decorator's wrapper"
    elif function.__closure__:
        kept = ", ".join(function.__code__.co_freevars)
        what = f"{function.__name__}, which keeps {kept} of the function around it"
    else:
        return
    raise SubmissionError(f"{what}, cannot be written out as a file; {WAY}")


def changes(module: ModuleType, file: Path) -> list[str]:
    """Functions and plain constants in which a module differs from what its file says now."""
    tree, last = parse_source(file), {}
    for node in tree.body:
        for name in _bound(node):
            last[name] = node
    codes = codes_in(compile(tree, str(file), "exec", dont_inherit=True))
    return [name for name, node in last.items() if _differs(node, codes.get(name), vars(module).get(name))]


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return [node.name]
    return [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store | ast.Del)]


def _differs(node: ast.stmt, code: CodeType | None, value: object) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        function = inspect.unwrap(value) if callable(value) else value
        if not inspect.isfunction(function):
            return not node.decorator_list
        wrapped_by_itself = node.decorator_list and function is value  # what a decorator made of it cannot be told
        return not wrapped_by_itself and (code is None or not same_code(code, function.__code__))
    if isinstance(node, ast.ClassDef):
        own, inside = vars(value) if inspect.isclass(value) else {}, codes_in(code) if code else {}
        functions = [n for n in node.body if isinstance(n, ast.FunctionDef) and not n.decorator_list]
        return any(_differs(n, inside.get(n.name), own.get(n.name)) for n in functions)
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        try:
            return not same_value(ast.literal_eval(node.value), value)
        except (ValueError, TypeError, SyntaxError):  # computed: it cannot be told without running it
            return False
    return False
