"""Write a function of a notebook or a script out as a submission's file, if nothing but text makes it what it is.

Written are its source, the functions of the same session that it calls, imports of what comes from packages, and plain
constants (numbers, texts, lists of them, torch's devices and dtypes) with the values that they have now. That what is
written compiles to what was given is checked, function by function. Everything else is refused by name.

How it is used: `write_out(function, folder)` in api.py.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType

from local_eval.engine.files import write_atomically
from local_eval.runs.callables import WAY, check_kind
from local_eval.runs.codes import all_codes, codes_in, globals_of, is_at, same_code, same_names
from local_eval.runs.refusal import SubmissionError
from local_eval.runs.spelled import address, literal, of_a_package
from local_eval.runs.statements import AWAITING

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
