"""Code of a task's owner: modules beside its file, and functions that a fingerprint follows by what they do.

Two functions are the same if what they do is: their own source, as it compiles, and what they reach by name in their
file and in the files beside it. Comments and docstrings do not count, nor does what is installed.

How it is used: `Coded.of(train, "cells.py: Task.train")`; it is called as the function is.
"""

from __future__ import annotations

import ast
import builtins
import functools
import hashlib
import importlib.util
import inspect
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from local_eval.tasks.names import TaskError

# What a piece of Python does, as a text that comments, docstrings and places do not change.


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


# Modules beside a task's file: `from my_net import Net` finds my_net.py in the file's own folder.
#
# Such a module is known to Python under a name of its folder's own. So two tasks in different folders may each have a
# my_net.py, and no submission meets either. `import` in the task's file, and in the modules that it takes from its
# folder, looks there first; the standard library and this kit cannot be hidden. It is not put on sys.path.


PREFIX = "task_folder_"  # box.py sends modules whose names begin with task_ along
KIT = Path(__file__).parents[2]  # what lies there is found as ever


def builtins_for(folder: Path) -> dict[str, object]:
    """Python's builtins, for code of this folder: its `import` looks there first."""
    return vars(builtins) | {"__import__": partial(_import, folder)}


def forget_modules_of(folder: Path) -> None:
    """The folder's modules are read anew by the next import: they may have been edited."""
    name = _package(folder)
    for known in [known for known in sys.modules if known == name or known.startswith(f"{name}.")]:
        del sys.modules[known]


def module_in(folder: Path, name: str) -> ModuleType:
    """The module of this name that lies in a folder, as code of the folder would import it. Raises ImportError."""
    return _import(folder, name, fromlist=("__name__",))


def is_own(path: Path) -> bool:
    """Does a file belong to a person, not to the kit?"""
    return not path.is_relative_to(KIT / "local_eval")


def _package(folder: Path) -> str:
    return PREFIX + hashlib.sha256(str(folder).encode()).hexdigest()[:12]


def _import(
    folder: Path,
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] = (),
    level: int = 0,
) -> ModuleType:
    """As builtins.__import__, which `import` calls."""
    top = name.partition(".")[0]
    if level or not _lies_in(folder, top):
        return builtins.__import__(name, globals, locals, fromlist, level)
    package = _package(folder)
    if package not in sys.modules:
        sys.modules[package] = ModuleType(package)
        sys.modules[package].__path__ = [str(folder)]
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    found = builtins.__import__(f"{package}.{name}", globals, locals, fromlist, 0)
    return found if fromlist else sys.modules[f"{package}.{top}"]


def _lies_in(folder: Path, top: str) -> bool:
    """Is a top-level module this folder's?"""
    if top in sys.stdlib_module_names or top in ("local_eval", "__main__") or folder == KIT:
        return False
    if (folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file():
        return True
    return (folder / top).is_dir() and top not in sys.modules and importlib.util.find_spec(top) is None


class _Finder:
    """Finds modules under their folder's name, and has their imports look there too."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(PREFIX) or path is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Runs a module of a task's folder."""

    def exec_module(self, module: ModuleType) -> None:
        package = sys.modules[module.__name__.partition(".")[0]]
        module.__builtins__ = builtins_for(Path(package.__path__[0]))
        super().exec_module(module)


PLAIN = (bool, int, float, complex, str, bytes, type(None))
WAY = "give a function that a def in a .py file makes"


@dataclass(frozen=True)
class Coded:
    """A function together with a short hash of its code, which goes with it to machines that have not its file."""

    function: Callable
    code: str

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.function(*arguments, **named)

    @classmethod
    def of(cls, function: Callable, where: str) -> Coded:
        """The function with its hash, unless it has one; raises TaskError, naming `where`, if its code is not known."""
        if isinstance(function, cls):
            return function
        if not callable(function):
            raise TaskError(f"{where} is {function!r}, no function; {WAY}")
        try:
            return cls(function, hashlib.sha256(_text(function).encode(errors="surrogatepass")).hexdigest()[:12])
        except (_Unknown, RecursionError, ValueError) as error:
            raise TaskError(f"{where} cannot be followed, so that nobody could tell when it changes: {error}") from None


class _Unknown(Exception):
    """Why the code of a function is not known."""


def _text(function: Any) -> str:
    """A text that changes with what a function does. Raises _Unknown."""
    if isinstance(function, functools.partial):
        return f"partial({_text(function.func)}, {_value(function.args)}, {_value(function.keywords)})"
    if inspect.ismethod(function):
        owner = function.__self__
        return f"method({_text(function.__func__)}, {_text(type(owner))}, {_value(getattr(owner, '__dict__', {}))})"
    if not (inspect.isfunction(function) or inspect.isclass(function)):
        return f"object({_text(type(function))}, {_value(getattr(function, '__dict__', {}))})"
    function = inspect.unwrap(function)
    kept = dict(inspect.getclosurevars(function).nonlocals) if inspect.isfunction(function) else {}
    if inspect.isfunction(function):
        kept |= {"defaults": (function.__defaults__, function.__kwdefaults__)}
    return f"{_source(function)} with {_value(kept)}"


def _value(value: Any) -> str:
    """Plain values as they are written, functions by their code; raises _Unknown for what has neither."""
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(_value, value))})"
    if isinstance(value, dict):
        return f"dict({', '.join(f'{_value(k)}: {_value(v)}' for k, v in value.items())})"
    if inspect.isfunction(value) or inspect.isclass(value) or isinstance(value, functools.partial):
        return _text(value)
    if inspect.ismodule(value):
        return value.__name__
    raise _Unknown(f"it keeps a {type(value).__name__}; {WAY}, and let it make what it needs itself")


def _source(function: Callable) -> str:
    """The shape of a function's or class's source and of all that it reaches in its file."""
    try:
        file = inspect.getsourcefile(function)
        if file and os.path.isfile(file) and file.endswith(".py"):
            name = function.__qualname__.partition(".")[0]
            line = function.__code__.co_firstlineno if name == "<lambda>" else None
            return reached(Path(file), name, line)
        return code_shape(ast.parse(textwrap.dedent(inspect.getsource(function))))  # in a notebook: its own text alone
    except (OSError, TypeError, SyntaxError, ValueError) as error:
        raise _Unknown(f"its source is not to be had ({error}); {WAY}") from None


def reached(file: Path, name: str, line: int | None = None) -> str:
    """The shape of what a name at the top level of a file stands for, with all that it reaches by name.

    Args:
        line: where it stands, for what has no name.
    Raises:
        SyntaxError, ValueError, OSError: the file is not Python, or has no such name.
    """
    if line is not None:
        at = [node for node in _statements(file, None) if node.lineno <= line <= node.end_lineno]
        name = next((bound for node in at for bound in sorted(_bound(node))), name)
    if not _statements(file, name):
        raise ValueError(f"{file} has no {name} at its top level")
    done: set[tuple[Path, str | None]] = set()
    waiting: list[tuple[Path, str | None]] = [(file, name)]
    shapes = []
    while waiting:
        place = waiting.pop()
        if place in done:
            continue
        done.add(place)
        for node in _statements(place[0], place[1]):
            shapes.append(f"{place[0].name}: {code_shape(node)}")
            waiting += _leads_to(node, place[0])
    return "\n".join(sorted(set(shapes)))


@functools.lru_cache(maxsize=64)
def _tree(file: Path, changed_ns: int) -> ast.Module:
    return ast.parse(file.read_bytes(), filename=str(file))


def _statements(file: Path, name: str | None) -> list[ast.stmt]:
    """Those at the top level of a file that give a name its value; all for None."""
    body = _tree(file, file.stat().st_mtime_ns).body
    return [node for node in body if name is None or name in _bound(node)]


def _bound(node: ast.stmt) -> set[str]:
    """The names that a statement at the top level gives a value, or whose attributes and items it does."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name | ast.Attribute | ast.Subscript) and isinstance(part.ctx, ast.Store | ast.Del):
            while isinstance(part, ast.Attribute | ast.Subscript):
                part = part.value
            found |= {part.id} if isinstance(part, ast.Name) else set()
        elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(part.name)
        elif isinstance(part, ast.alias):
            found.add((part.asname or part.name).partition(".")[0])
    return found


def _leads_to(node: ast.stmt, file: Path) -> Iterator[tuple[Path, str | None]]:
    """The names of its file that a statement uses, and the files beside it that it imports, by name or whole."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            yield file, part.id
        elif isinstance(part, ast.Import):
            for alias in part.names:
                yield from ((found, None) for found in _beside(file, alias.name))
        elif isinstance(part, ast.ImportFrom) and part.module:
            for found in _beside(file, part.module):
                yield from ((found, None if alias.name == "*" else alias.name) for alias in part.names)
            for alias in part.names:
                yield from ((found, None) for found in _beside(file, f"{part.module}.{alias.name}"))


def _beside(file: Path, module: str) -> list[Path]:
    """The file of a module that lies in the folder of the file that imports it, if it does."""
    place = file.parent.joinpath(*module.split("."))
    return [found for found in (place.with_suffix(".py"), place / "__init__.py") if found.is_file()]
