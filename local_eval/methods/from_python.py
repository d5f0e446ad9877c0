"""A function from Python as a submission: by the file that it comes from, or by a file that is written out for it.

Written are its source, the functions of the same session that it calls, imports of what comes from packages, and plain
constants (numbers, texts, lists of them, torch's devices and dtypes) with the values that they have now. That what is
written compiles to what was given is checked, function by function. Everything else is refused by name.

How it is used: `write_out(function, folder)` in api.py.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import functools
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from local_eval.methods.settings import address, literal, of_a_package
from local_eval.methods.source import (
    AWAITING,
    SubmissionError,
    all_codes,
    codes_in,
    globals_of,
    is_at,
    same_code,
    same_names,
    same_value,
)
from local_eval.methods.submission import parse_source
from local_eval.store.files import write_atomically

# A function from Python as a submission: the file that it comes from, or a file that is written out for it.
#
# Never a pickle: what is graded is always a text that can be read and exported. A function stands alone as a file
# where nothing but its source, importable things and plain constants make it what it is.


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


NAME = "unlearning"
JUPYTERS = {"display", "get_ipython"}  # IPython puts them among the builtins
BY_NAME = {"globals", "eval", "exec"}  # what these reach is not seen in the code
FLAGS = {name: getattr(__future__, name).compiler_flag for name in __future__.all_feature_names}


def write_out(function: Callable, folder: Path) -> Path:
    """Write the file `<folder>/<hash>/<the function's name>.py` and return its path.

    Raises:
        SubmissionError: more than text makes the function what it is; the message says what, and the way that works.
        OutputError: the folder cannot be written.
    """
    check_kind(function)
    text = _Written(function).text()
    path = folder / hashlib.sha256(text.encode()).hexdigest()[:12] / f"{function.__name__}.py"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text.encode())
    return path.resolve()


class _Written:
    """The text of a file that does what a function does."""

    def __init__(self, function: FunctionType):
        self.root = function
        self.session = function.__globals__
        self.futures: set[str] = set()
        self.imports: dict[str, None] = {}  # in order, each once
        self.constants: dict[str, str] = {}
        self.bound: dict[str, object] = {}  # what every global name of the file stands for
        self.sources: list[str] = []

    def text(self) -> str:
        self._function(self.root)
        last = []
        if self.root.__name__ != NAME:
            if NAME in self.bound:
                raise self._refused(f"it calls another function named {NAME}", "rename that one")
            last = [f"{NAME} = {self.root.__name__}\n"]
        futures = [f"from __future__ import {name}" for name in sorted(self.futures)]
        constants = [f"{name} = {value}" for name, value in self.constants.items()]
        head = [f'"""Written out from the function {self.root.__name__} of a Python session."""', *futures]
        return "\n".join([*head, *self.imports, *constants, "", "", "\n\n".join([*self.sources, *last])])

    def _refused(self, what: str, remedy: str = "") -> SubmissionError:
        return SubmissionError(f"{self.root.__name__} cannot be written out: {what}; {remedy or WAY}")

    def _function(self, function: FunctionType) -> None:
        name = function.__name__
        self._bind(name, function)
        check_kind(function)
        node, text = self._source(function)
        self.futures |= {feature for feature, flag in FLAGS.items() if function.__code__.co_flags & flag}
        if changed := sorted(set(_stored_globals(node))):
            raise self._refused(f"{name} sets the global {changed[0]}", "keep it inside the function")
        evaluated = [*self._defaults(function, node), *self._annotations(function, node)]
        names = {n.id for part in evaluated for n in ast.walk(part) if isinstance(n, ast.Name)}
        for used in sorted(names | globals_of(function.__code__)):
            self._name(used, node)
        self.sources.append(text)

    def _bind(self, name: str, value: object) -> bool:
        """Is it new that this name stands for this? Refused if it stands for something else already."""
        if self.bound.get(name, value) is not value:
            raise self._refused(f"it uses two things named {name}", "give them two names")
        new = name not in self.bound
        self.bound[name] = value
        return new

    def _source(self, function: FunctionType) -> tuple[ast.FunctionDef, str]:
        """A function's definition and its text, if that is what the function does."""
        name, code, found = function.__name__, function.__code__, False
        flags = sum(flag for flag in FLAGS.values() if code.co_flags & flag)
        try:
            cell = compile("".join(inspect.findsource(function)[0]), name, "exec", flags | AWAITING, dont_inherit=True)
            text = textwrap.dedent(inspect.getsource(function)).rstrip() + "\n"
            (node,) = ast.parse(text).body
            alone = codes_in(compile(text, name, "exec", flags, dont_inherit=True)).get(name)
            # An import in the cell changes how calls are compiled, so what must be equal is compiled with its cell
            found = any(is_at(code, other) and same_code(code, other) for other in all_codes(cell))
            found = found and alone is not None and same_names(code, alone)
        except (OSError, TypeError, ValueError, SyntaxError):
            raise self._refused(f"the source of {name} cannot be had") from None
        if not found:
            raise self._refused(f"the source of {name} is not what was defined", "define it again, then grade it")
        if node.decorator_list or function.__dict__:
            raise self._refused(f"{name} has a decorator or attributes")
        return node, text

    def _defaults(self, function: FunctionType, node: ast.FunctionDef) -> Iterator[ast.expr]:
        """The expressions of the defaults, if they still give the values that they gave."""
        arguments = node.args
        pairs = list(zip(arguments.defaults, function.__defaults__ or ()))
        for argument, expression in zip(arguments.kwonlyargs, arguments.kw_defaults):
            if expression is not None:
                pairs.append((expression, (function.__kwdefaults__ or {}).get(argument.arg)))
        given = len(function.__defaults__ or ()) + len(function.__kwdefaults__ or {})
        written = len(arguments.defaults) + sum(e is not None for e in arguments.kw_defaults)
        for expression, value in pairs:
            if given != written or not self._gives(expression, value):
                text = f"a default of {function.__name__} is {ast.unparse(expression)}, whose value then cannot be told"
                raise self._refused(text, "write the value itself")
            yield expression

    def _gives(self, expression: ast.expr, value: object) -> bool:
        try:
            now = ast.literal_eval(expression)
        except ValueError:
            if any(not isinstance(n, ast.Name | ast.Attribute | ast.expr_context) for n in ast.walk(expression)):
                return False
            try:
                now = eval(compile(ast.Expression(expression), "<default>", "eval"), self.session)
            except (NameError, AttributeError):
                return False
        return now is value or (type(now) is type(value) and literal(value) == repr(now))

    @staticmethod
    def _annotations(function: FunctionType, node: ast.FunctionDef) -> list[ast.expr]:
        if function.__code__.co_flags & FLAGS["annotations"]:
            return []
        parts = [n.annotation for n in ast.walk(node.args) if isinstance(n, ast.arg) and n.annotation is not None]
        return parts + ([node.returns] if node.returns is not None else [])

    def _name(self, name: str, node: ast.FunctionDef) -> None:
        """Write what a global name stands for, if it can be written."""
        if name in self.session and not name.startswith("__"):
            value = self.session[name]
            new = self._bind(name, value)
            if isinstance(value, ModuleType):
                self._module(name, value, node)
            elif new:
                self._value(name, value)
        elif name.startswith("__") and name in self.session:
            raise self._refused(f"it uses {name} of this session")
        elif name in BY_NAME:
            raise self._refused(f"it calls {name}()", "name what it uses")
        elif name in JUPYTERS or not hasattr(builtins, name):
            where = "exists in a notebook only" if name in JUPYTERS else "is not defined here"
            raise self._refused(f"it uses {name}, which {where}", "define it or leave it out")

    def _value(self, name: str, value: object) -> None:
        if isinstance(value, FunctionType) and value.__globals__ is self.session:
            if value.__name__ == name or value.__name__ not in self.bound:
                self._function(value)
            self._bind(value.__name__, value)
            if value.__name__ != name:
                self.sources.append(f"{name} = {value.__name__}\n")
        elif (text := literal(value)) is not None:
            self.constants[name] = text
        elif there := address(name, value):
            self.imports[f"from {there[0]} import {there[1]}" + _renamed(there[1], name)] = None
        elif inspect.isclass(value) or inspect.isfunction(value):
            module = None if value.__module__ == "__main__" else sys.modules.get(value.__module__ or "")
            file = getattr(module, "__file__", None) or "this session"
            raise self._refused(f"it uses {name}, {'a class' if inspect.isclass(value) else 'a function'} of {file}")
        else:
            what = f"a {type(value).__name__} of this session"
            raise self._refused(f"it uses {name}, {what}", f"make {name} inside the function, or {WAY}")

    def _module(self, name: str, module: ModuleType, node: ast.FunctionDef) -> None:
        if not of_a_package(module.__name__):
            file = getattr(module, "__file__", None)
            raise self._refused(f"it uses {name}, the module {file or module.__name__}", "copy what it uses")
        self.imports[f"import {module.__name__}" + _renamed(module.__name__, name, " as ")] = None
        for part in ast.walk(node):  # `import xml` does not load xml.etree, which somebody has imported
            chain = ast.unparse(part).split(".") if isinstance(part, ast.Attribute) else []
            for end in range(2, len(chain) + 1):
                inner = ".".join([module.__name__, *chain[1:end]])
                if chain[0] == name and inner in sys.modules and "." not in name:
                    self.imports[f"import {inner}" + ("" if inner.split(".")[0] == name else " as _")] = None


def _stored_globals(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Global):
            yield from part.names


def _renamed(there: str, here: str, word: str = " as ") -> str:
    return "" if there == here else f"{word}{here}"
