"""A task of a Python session as a file: its data, and the text that makes its network.

What is written is loaded again and compared with what was given: the same network from the same seed, weight by weight
and answer by answer, and the same fingerprint.

How it is used: `local_eval.save_task(task, "cells.py")`; `local_eval.grade(..., task=task)` does it by itself.
"""

from __future__ import annotations

import ast
import builtins
import functools
import hashlib
import inspect
import itertools
import linecache
import os
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor

from local_eval.isolation.device import seeded
from local_eval.methods.settings import address, literal, of_a_package
from local_eval.methods.source import globals_of
from local_eval.store.files import write_atomically
from local_eval.tasks.loading import ready, task_module
from local_eval.tasks.names import TaskError
from local_eval.tasks.own_code import PREFIX, Coded
from local_eval.tasks.saved import data_of, digest_of
from local_eval.tasks.task import Task

# What makes a network, as text: for a task's file that other processes and other days can read.
#
# Written are imports of what comes from packages, own modules by their file, and the source of functions, classes and
# lambdas of the session with the plain constants that they use. Whether the text makes the same network is not told
# from the text: task_files.py makes both and compares them.


WAY = "put the network into a file of its own and import it, or write the task as a file (docs/tasks.md)"
FUTURE = "from __future__ import annotations\n"


def net_text(**made: Any) -> str:
    """The lines of a file in which these names, such as make_net, stand for functions that do what these do.

    Raises:
        TaskError: one needs something that text cannot give, which is named.
    """
    text, last = _Text(), []
    for name, one in made.items():
        one = one.function if isinstance(one, Coded) else one
        expression = text.expression(one, name)
        if text.bound.get(name, one) is not one:
            raise TaskError(f"the task cannot be saved: {name} uses another thing named {name}; rename that one")
        last += [] if expression == name else [f"{name} = {expression}\n"]
    return "\n".join([*text.imports, *text.constants, "", "", "\n\n".join([*text.sources, *last])])


class _Text:
    """The parts of the file, each once, in an order in which they can be run."""

    def __init__(self) -> None:
        self.imports: dict[str, None] = {}
        self.constants: dict[str, None] = {}
        self.sources: list[str] = []
        self.bound: dict[str, Any] = {}  # what every name of the file stands for
        self.numbers = itertools.count(1)

    def expression(self, value: Any, name: str) -> str:
        """Text that gives this value, once the parts before it have been run; `name` says in errors what it is."""
        if isinstance(value, functools.partial):
            return self._partial(value, name)
        if (text := literal(value)) is not None:
            return text
        if isinstance(value, ModuleType):
            return self._module(value)
        if (there := address(name, value)) and not _is_a_tasks_file(sys.modules[there[0]]):
            self._bind(there[1], value)
            self.imports[f"from {there[0]} import {there[1]}"] = None
            return there[1]
        if inspect.isclass(value) or isinstance(value, FunctionType):
            return self._defined(value)
        what = "a network" if hasattr(value, "state_dict") else f"a {type(value).__name__}"
        raise TaskError(f"the task cannot be saved: {name} is {what} of this session, which is no text; {WAY}")

    def _partial(self, value: functools.partial, name: str) -> str:
        self.imports["import functools"] = None
        parts = [self.expression(value.func, name)]
        parts += [self.expression(one, f"an argument of {name}") for one in value.args]
        parts += [f"{key}={self.expression(one, key)}" for key, one in value.keywords.items()]
        return f"functools.partial({', '.join(parts)})"

    def _bind(self, name: str, value: Any) -> bool:
        """Is it new that this name stands for this?"""
        if self.bound.get(name, value) is not value and self.bound[name] != value:
            raise TaskError(f"the task cannot be saved: its network uses two things named {name}; give them two names")
        new = name not in self.bound
        self.bound[name] = value
        return new

    def _module(self, module: ModuleType) -> str:
        """A module by its name, which is bound to itself or to its root."""
        name = module.__name__
        if of_a_package(name) and not _is_a_tasks_file(module):
            self.imports[f"import {name}"] = None
            return name
        return self._own(module)

    def _own(self, module: ModuleType) -> str:
        """A module of the user's own, which stays where it is and is held to its present content."""
        file, parts = Path(module.__file__).resolve(), module.__name__.split(".")
        if _is_a_tasks_file(module):
            parts = [file.stem]
        elif parts[0].startswith(PREFIX):
            parts = parts[1:]
        folder = file.parents[len(parts) - 1 + (file.stem == "__init__")]
        self.imports["from local_eval.tasks.saved import own_module"] = None
        given = ", ".join(map(repr, (str(file), ".".join(parts), str(folder), digest_of(file))))
        name = f"_own_{'_'.join(parts)}"
        if self._bind(name, module):
            self.sources.append(f"{name} = own_module({given})\n")
        return name

    def _defined(self, thing: Any) -> str:
        """A function or class that a `def`, `class` or lambda of the user's own made."""
        module = sys.modules.get(thing.__module__ or "")
        file = getattr(module, "__file__", None) or ""
        in_file = module and module.__name__ != "__main__" and file.endswith(".py") and Path(file).is_file()
        if in_file and vars(module).get(thing.__name__) is thing:
            return f"{self._own(module)}.{thing.__name__}"
        text, code, is_lambda = source_of(thing)
        around = _kept(thing)
        name = f"_made_{next(self.numbers)}" if is_lambda else thing.__name__
        if not self._bind(name, thing):
            return name
        alone = compile(FUTURE + text, name, "exec", dont_inherit=True)
        for used in sorted(globals_of(alone) - {thing.__name__} - set(around)):
            self._name(used, _session_of(thing, module))
        if around:
            return self._around(name, text, around, is_lambda)
        self.sources.append(f"{name} = {text}\n" if is_lambda else text)
        return name

    def _around(self, name: str, text: str, kept: dict[str, Any], is_lambda: bool) -> str:
        """A function that keeps variables of the one around it: that one is written, too, with their values."""
        made = f"_around_{next(self.numbers)}"
        body = f"return {text}" if is_lambda else f"{text}\nreturn {name}"
        values = ", ".join(f"{key}={self.expression(value, key)}" for key, value in kept.items())
        self.sources.append(f"def {made}({', '.join(kept)}):\n{textwrap.indent(body, '    ')}\n")
        self.sources.append(f"{name} = {made}({values})\n")
        return name

    def _name(self, name: str, session: dict[str, Any]) -> None:
        """Make a global name of the session one of the file."""
        if name not in session:
            if hasattr(builtins, name):
                return
            raise TaskError(f"the task cannot be saved: its network uses {name}, which is not defined; {WAY}")
        value = session[name]
        if name.startswith("__") and name.endswith("__"):
            return
        if name in self.bound and self.bound[name] is value:
            return
        if (text := literal(value)) is not None:
            if self._bind(name, value):
                self.constants[f"{name} = {text}"] = None
            return
        found = self.expression(value, name)
        if found != name and self._bind(name, value):
            self.sources.append(f"{name} = {found}\n")


def _is_a_tasks_file(module: ModuleType) -> bool:
    """loading.py imports task files by a name of its own, by which nobody else can."""
    stem = Path(getattr(module, "__file__", None) or "").stem
    return module.__name__ == f"task_{stem}"


def _kept(thing: Any) -> dict[str, Any]:
    """The variables of the function around it that a function keeps, by name."""
    if inspect.isclass(thing):
        return {}
    made = inspect.unwrap(thing)  # what a decorator keeps is written with the decorator
    try:
        return {name: cell.cell_contents for name, cell in zip(made.__code__.co_freevars, made.__closure__ or ())}
    except ValueError:
        raise TaskError(f"the task cannot be saved: {thing.__name__} keeps a variable without a value; {WAY}") from None


def _session_of(thing: Any, module: ModuleType | None) -> dict[str, Any]:
    """The global names that a function or class sees."""
    if isinstance(thing, FunctionType):
        return inspect.unwrap(thing).__globals__
    family = [one for one in thing.__mro__ if one.__module__ == thing.__module__]
    methods = [m for one in family for m in vars(one).values() if isinstance(m, FunctionType)]
    return methods[0].__globals__ if methods else vars(module or sys.modules["__main__"])


def source_of(thing: Any) -> tuple[str, CodeType | None, bool]:
    """The text of a function, class or lambda; its code, where there is one; and whether it is a lambda."""
    code = _code_in(thing)
    try:
        lines = linecache.getlines(code.co_filename) if code else _lines_of_class(thing)
        tree = ast.parse("".join(lines))
    except (OSError, TypeError, SyntaxError):
        lines, tree = [], ast.Module([], [])
    is_lambda = getattr(thing, "__name__", "") == "<lambda>"
    if is_lambda:
        found = _lambdas(tree, code, "".join(lines))
    else:
        kinds = (ast.ClassDef,) if inspect.isclass(thing) else (ast.FunctionDef,)
        nodes = [n for n in ast.walk(tree) if isinstance(n, kinds) and n.name == thing.__name__]
        nodes = [n for n in nodes if code is None or _first(n) <= code.co_firstlineno <= n.end_lineno]
        found = [textwrap.dedent("".join(lines[_first(n) - 1 : n.end_lineno])).rstrip() + "\n" for n in nodes[-1:]]
    if len(set(found)) != 1:
        what = "a lambda" if is_lambda else thing.__name__
        raise TaskError(f"the task cannot be saved: the source of {what} cannot be had; {WAY}")
    return found[0], code, is_lambda


def _lines_of_class(thing: type) -> list[str]:
    """The lines around a class without a method, which alone says where it stands. Raises OSError."""
    try:
        return inspect.findsource(thing)[0]
    except (OSError, TypeError):
        cells = [entry[2] for entry in linecache.cache.values() if len(entry) == 4 and entry[1] is None]  # notebooks'
        there = [cell for cell in cells if any(line.startswith(f"class {thing.__name__}") for line in cell)]
        return there[-1] if there else []


def _first(node: ast.stmt) -> int:
    return min([node.lineno, *(d.lineno for d in node.decorator_list)])


def _code_in(thing: Any) -> CodeType | None:
    """The code of a function, or that of any method that stands in a class."""
    if isinstance(thing, FunctionType):
        return inspect.unwrap(thing).__code__
    methods = (inspect.unwrap(m) for m in vars(thing).values() if isinstance(m, FunctionType))
    return next((m.__code__ for m in methods if m.__code__.co_qualname.startswith(f"{thing.__qualname__}.")), None)


def _lambdas(tree: ast.Module, code: CodeType, source: str) -> list[str]:
    """The text of the lambda that this code is: the smallest one at its line around all of its instructions."""
    there = [n for n in ast.walk(tree) if isinstance(n, ast.Lambda) and n.lineno == code.co_firstlineno]
    there = [n for n in there if all(_within(place, n.body) for place in code.co_positions())]
    texts = [ast.get_source_segment(source, n) for n in there]
    return [f"({min(texts, key=len)})"] if texts else []


def _within(place: tuple[int | None, ...], node: ast.expr) -> bool:
    """Does an instruction stand in an expression? Those without a place, and of no width, do."""
    line, last, start, end = place
    if None in place or (line, start) == (last, end):
        return True
    return (node.lineno, node.col_offset) <= (line, start) and (last, end) <= (node.end_lineno, node.end_col_offset)


MARK = "written by local_eval.save_task"
HEAD = f'''"""The task {{name}}, {MARK}. Its data is in the .npz file of the same name: keep both together."""

from __future__ import annotations

from local_eval.tasks.saved import saved_task
'''
TAIL = '''

def task():
    """The four splits, the recipe and this network."""
    return saved_task(__file__, {functions})
'''
SEED = 12


def save_task(task: Task, path: str | os.PathLike) -> Path:
    """Write a task to `path`, which ends in .py, and its data beside it; returns the path, which --task takes.

    Raises:
        TaskError: its network is more than text, or the file is there and is not one that this has written.
        OutputError: the folder cannot be written.
    """
    path = Path(path)
    if path.suffix != ".py":
        raise TaskError(f"{path}: a task's file ends in .py")
    for file in (path, path.with_suffix(".npz")):
        if file.exists() and not (path.is_file() and MARK in path.read_text(encoding="utf-8", errors="replace")):
            raise TaskError(f"{file} is there and was not written by save_task; give another name")
    task = ready(task, Path.cwd() / task.name, Path(task.name))
    text, data = _text_of(task), data_of(task)
    return _written(task, path, text, data)


def keep_task(task: Task, folder: Path) -> Path:
    """Write a task to a folder of its own in `folder`, named after its content, unless it is there; returns the path.

    Raises:
        TaskError, OutputError: as `save_task`.
    """
    task = ready(task, Path.cwd() / task.name, Path(task.name))
    text, data = _text_of(task), data_of(task)
    name = hashlib.sha256(text.encode() + data).hexdigest()[:12]
    path = folder / name / f"{task.name}.py"
    if path.is_file() and path.with_suffix(".npz").is_file() and path.read_text(encoding="utf-8") == text:
        return path.resolve()
    return _written(task, path, text, data)


def _text_of(task: Task) -> str:
    functions = {"make_net": task.make_net} | ({"train": task.train} if task.train is not None else {})
    return HEAD.format(name=task.name) + net_text(**functions) + TAIL.format(functions=", ".join(functions))


def _written(task: Task, path: Path, text: str, data: bytes) -> Path:
    write_atomically(path.with_suffix(".npz"), data)
    write_atomically(path, text.encode())
    try:
        again = task_module(path.resolve()).task()
        _compare(task, again)
    except BaseException as error:
        path.unlink()  # a file that makes another task would be worse than none
        path.with_suffix(".npz").unlink()
        if isinstance(error, TaskError) or not isinstance(error, Exception):
            raise
        reported = f"its network, written out, does not work ({type(error).__name__}: {str(error)[:200]})"
        raise TaskError(f"{task.name}: {reported}; write the task as a file (docs/tasks.md)") from error
    return path.resolve()


def _compare(task: Task, again: Task) -> None:
    """Raise TaskError unless both are one task."""
    images = task.retain.pixels(slice(0, 2)).cpu()
    one, other = (_drawn(each, images) for each in (task, again))
    same = one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    if not same or _without_code(again).fingerprint() != _without_code(task).fingerprint():
        raise TaskError(
            f"{task.name}: its network, written out, is another one: something that makes it has changed since it was "
            "defined, or is drawn anew each time. Define it again, or write the task as a file (docs/tasks.md)"
        )


def _without_code(task: Task) -> Task:
    """The task without what its fingerprint has of texts, which are other ones in a file."""
    make_net = task.make_net.function if isinstance(task.make_net, Coded) else task.make_net
    return replace(task, make_net=make_net, train=None, network="")


def _drawn(task: Task, images: Tensor) -> dict[str, Tensor]:
    """Weights and buffers of the network of one seed, and what it answers."""
    with seeded(SEED), torch.no_grad():
        net = task.make_net()
        state = {f"state {key}": value.clone() for key, value in net.state_dict().items()}
        return state | {"answer": torch.nan_to_num(net.eval()(images))}
