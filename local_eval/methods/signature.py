"""The four parameters of `unlearning`, read from its `def` in the source, behind decorators and wrappers too.

Official driver and grader hand the four over by place, so `unlearning(net, forget_loader, retain_loader, val_loader)`
would run, and do the opposite of what is meant. What counts is the function that does the work, behind decorators,
partials and other wrappers and what its names mean (other_projects.py).

How it is used: `check_signature(function, path, tree)` in methods/contract.py; runs/check.py reports
what it returns.
"""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType

from local_eval.methods.other_projects import (
    ARGUMENTS,
    EITHER,
    is_data,
    lines_for,
    means_all_training,
    means_another_thing,
    means_several,
    meant,
    meant_in_short,
)
from local_eval.methods.source import NOT_PYTHON, SubmissionError

# Which functions the four arguments of `unlearning` reach, and under which names.
#
# `unlearning` may be a wrapper around the function that does the work: a decorator's without functools.wraps, a
# partial, a lambda, an object with __call__, `def unlearning(*args): return scrub(*args)`. Only the names of the
# function inside say what its author takes for what. Objects are looked at as they are after the import, their bodies
# as text; nothing is run.


DEEPEST = 8  # functions within functions that are followed
OTHER = None  # stands for a value that is none of the four
NOTHING = object()  # a value that cannot be told
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True)
class Arrival:
    """Names of one function that hold some of the four arguments."""

    function: str  # as it is called
    line: int
    code: CodeType
    places: dict[str, int]  # name -> which of the four it holds, from 0
    sure: bool  # nobody before has said by a name which is which
    defaults: dict[str, object]  # of its parameters


@dataclass(frozen=True)
class Handed:
    """What a call hands over: for each argument the place among the four, or OTHER."""

    by_place: tuple[int | None, ...] = ()
    by_name: dict[str, int | None] = field(default_factory=dict)

    def after(self, *first: int | None) -> Handed:
        """The same with more in front: a method's object, what a partial holds."""
        return Handed((*first, *self.by_place), self.by_name)

    def holds_both_sets(self) -> bool:
        """Are retain and forget loader among it? Then a name for the one cannot well be the other."""
        return {1, 2} <= {*self.by_place, *self.by_name.values()}


@dataclass(frozen=True)
class _Instance:
    """Stands for an object that the code would make of a class."""

    kind: type


def arrivals(function: Callable) -> Iterator[Arrival]:
    """From the outermost function inwards."""
    yield from _followed(function, Handed((0, 1, 2, 3)), True, ())


def _followed(value: object, handed: Handed, sure: bool, passed: tuple[CodeType, ...]) -> Iterator[Arrival]:
    if isinstance(value, functools.partial):
        held = dict.fromkeys(value.keywords, OTHER)
        inner = Handed(handed.by_place, {**held, **handed.by_name}).after(*[OTHER] * len(value.args))
        yield from _followed(value.func, inner, sure, passed)
    elif isinstance(value, MethodType):
        yield from _in_function(value.__func__, handed.after(OTHER), sure, passed, value.__self__)
    elif isinstance(value, FunctionType):
        yield from _in_function(value, handed, sure, passed, NOTHING)
    elif isinstance(value, type):
        if isinstance(made := vars(value).get("__init__"), FunctionType):
            yield from _in_function(made, handed.after(OTHER), sure, passed, _Instance(value))
    elif hasattr(value, "__wrapped__"):
        yield from _followed(value.__wrapped__, handed, sure, passed)
    elif isinstance(called := inspect.getattr_static(type(value), "__call__", None), FunctionType):
        yield from _in_function(called, handed.after(OTHER), sure, passed, value)


def _in_function(
    function: FunctionType, handed: Handed, sure: bool, passed: tuple[CodeType, ...], owner: object
) -> Iterator[Arrival]:
    code = function.__code__
    if code in passed or len(passed) > DEEPEST:
        return
    try:
        bound = inspect.signature(function, follow_wrapped=False).bind(*handed.by_place, **handed.by_name)
    except TypeError:  # an error of its own, told when it comes to the call
        return
    node, body = definition_of(code), _Body(function, bound, owner)
    if node is not None:
        body.read(node)
    defaults = {p.name: p.default for p in bound.signature.parameters.values() if p.default is not p.empty}
    yield Arrival(function.__qualname__, code.co_firstlineno, code, body.places, sure, defaults)
    sure = sure and not body.says_which()
    followed = False
    for callee, arguments in body.calls(node) if node is not None else ():
        for arrival in _followed(callee, arguments, sure, (*passed, code)):
            followed = True
            yield arrival
    if not followed and hasattr(function, "__wrapped__"):
        yield from _followed(function.__wrapped__, handed, sure, (*passed, code))


@lru_cache(maxsize=8)
def _functions_in(text: str) -> tuple[ast.AST, ...]:
    try:
        return tuple(node for node in ast.walk(ast.parse(text)) if isinstance(node, FUNCTIONS))
    except NOT_PYTHON:
        return ()


def definition_of(code: CodeType) -> ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | None:
    """The text of a function as a syntax tree; None where it cannot be had, as for a library's in C."""
    for node in _functions_in("".join(linecache.getlines(code.co_filename))):
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        arguments = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
        there = (code.co_firstlineno, code.co_name, list(code.co_varnames[: code.co_argcount]))
        if (first, getattr(node, "name", "<lambda>"), arguments) == there:
            return node
    return None


class _Body:
    """A function's text, with what its names hold."""

    def __init__(self, function: FunctionType, bound: inspect.BoundArguments, owner: object):
        self.function, self.places = function, {}
        self.lists: dict[str, tuple[int | None, ...]] = {}  # *args and what is made of it
        self.by_name: dict[str, dict[str, int | None]] = {}  # **kwargs
        self.made: dict[str, ast.expr] = {}  # local names that are assigned once
        self.owner = dict.fromkeys(function.__code__.co_varnames[:1], owner) if owner is not NOTHING else {}
        for name, value in bound.arguments.items():
            kind = bound.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                self.lists[name] = value
            elif kind is inspect.Parameter.VAR_KEYWORD:
                self.by_name[name] = value
            elif value is not OTHER:
                self.places[name] = value
        self.parameters = set(bound.signature.parameters)

    def says_which(self) -> bool:
        """Does a name of this function say which set is which, right or wrong?"""
        return any(_says(name) for name, place in self.places.items() if place in (1, 2))

    def read(self, node: ast.AST) -> None:
        """Follow assignments: unpacked *args, new names for what is handed over, names that come to hold others."""
        assigned: dict[str, int] = {}
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                assigned[part.id] = assigned.get(part.id, 0) + 1
        reported = self.says_which()
        for name in set(assigned) & set(self.places):
            if not self._stays(node, name):
                del self.places[name]
        for part in ast.walk(node):
            if isinstance(part, ast.Assign) and len(part.targets) == 1:
                self._assign(part.targets[0], part.value, assigned, reported)

    def _stays(self, node: ast.AST, name: str) -> bool:
        """Is it assigned only what is made of itself, as in `loader = DataLoader(loader.dataset)`?"""
        assignments = [part for part in ast.walk(node) if isinstance(part, ast.Assign)]
        values = [part.value for part in assignments if name in _names(part.targets)]
        others = set(self.places) - {name}
        return bool(values) and all(name in (found := _names([v])) and not found & others for v in values)

    def _assign(self, target: ast.expr, value: ast.expr, assigned: dict[str, int], reported: bool) -> None:
        if isinstance(target, ast.Name) and assigned[target.id] == 1:
            if (several := self._several(value)) is not None:
                self.lists[target.id] = several
            elif (place := self._place(value)) is not OTHER and not reported:
                self.places[target.id] = place
            self.made.setdefault(target.id, value)
        elif isinstance(target, ast.Tuple | ast.List):
            values = self._several(value)
            if values is None and isinstance(value, ast.Tuple | ast.List) and not reported:
                values = tuple(self._place(v) for v in value.elts)
            for name, place in _unpacked(target.elts, values or ()):
                if place is not OTHER and assigned[name] == 1:
                    self.places[name] = place

    def _several(self, value: ast.expr) -> tuple[int | None, ...] | None:
        """What *args, or a part of it, holds."""
        if isinstance(value, ast.Name):
            return self.lists.get(value.id)
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in ("list", "tuple"):
            return self._several(value.args[0]) if len(value.args) == 1 else None
        if isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Slice):
            whole, ends = self._several(value.value), (value.slice.lower, value.slice.upper, value.slice.step)
            if whole is not None and all(end is None or _number(end) is not None for end in ends):
                return whole[slice(*(None if end is None else _number(end) for end in ends))]
        return None

    def _place(self, value: ast.expr) -> int | None:
        """Which of the four an expression is."""
        if isinstance(value, ast.Name):
            return self.places.get(value.id, OTHER)
        if isinstance(value, ast.Subscript):
            whole, index = self._several(value.value), _number(value.slice)
            if whole is not None and index is not None and -len(whole) <= index < len(whole):
                return whole[index]
            if isinstance(value.value, ast.Name) and isinstance(value.slice, ast.Constant):
                return self.by_name.get(value.value.id, {}).get(value.slice.value, OTHER)
        return OTHER

    def calls(self, node: ast.AST) -> Iterator[tuple[object, Handed]]:
        """The calls that hand both sets on, with what is called where that can be told."""
        for call in (part for part in ast.walk(node) if isinstance(part, ast.Call)):
            handed = self._handed(call)
            if handed is not None and handed.holds_both_sets():
                callee = self._value(call.func)
                if callee is not NOTHING:
                    yield callee, handed

    def _handed(self, call: ast.Call) -> Handed | None:
        by_place, by_name = [], {}
        for argument in call.args:
            if isinstance(argument, ast.Starred):
                if (several := self._several(argument.value)) is None:
                    return None
                by_place += several
            else:
                by_place.append(self._place(argument))
        for keyword in call.keywords:
            if keyword.arg is not None:
                by_name[keyword.arg] = self._place(keyword.value)
            elif isinstance(keyword.value, ast.Name):
                by_name |= self.by_name.get(keyword.value.id, {})
        return Handed(tuple(by_place), by_name)

    def _value(self, expression: ast.expr) -> object:
        """The object that an expression names, without running anything."""
        if isinstance(expression, ast.Name):
            return self._named(expression.id)
        if isinstance(expression, ast.Attribute):
            return _attribute(self._value(expression.value), expression.attr)
        if isinstance(expression, ast.Call):
            kind = self._value(expression.func)
            return _Instance(kind) if isinstance(kind, type) else NOTHING
        if isinstance(expression, ast.Subscript) and isinstance(expression.slice, ast.Constant):
            holder = self._value(expression.value)
            if type(holder) is dict:
                return holder.get(expression.slice.value, NOTHING)
        return NOTHING

    def _named(self, name: str) -> object:
        code = self.function.__code__
        if name in self.owner:
            return self.owner[name]
        if name in self.parameters:
            return NOTHING
        if name in self.made:
            value = self.made.pop(name)  # while it is looked at: `f = g(f)` would never end
            found = self._value(value)
            self.made[name] = value
            return found
        if name in code.co_freevars:
            try:
                return self.function.__closure__[code.co_freevars.index(name)].cell_contents
            except ValueError:  # not filled yet
                return NOTHING
        return self.function.__globals__.get(name, NOTHING)


def _attribute(holder: object, name: str) -> object:
    """holder.name, where finding it runs no code: no property, no __getattr__."""
    if holder is NOTHING:
        return NOTHING
    kind = holder.kind if isinstance(holder, _Instance) else holder
    found = inspect.getattr_static(kind, name, NOTHING)
    if isinstance(found, staticmethod):
        return found.__func__
    if isinstance(found, classmethod):
        return MethodType(found.__func__, kind if isinstance(kind, type) else type(kind))
    if isinstance(found, FunctionType) and not isinstance(holder, type | ModuleType) and name not in _own(holder):
        return MethodType(found, holder)
    return NOTHING if isinstance(found, property) else found


def _own(holder: object) -> dict:
    """What was assigned to an object itself: a function there is no method."""
    return {} if isinstance(holder, _Instance) else getattr(holder, "__dict__", {})


def _unpacked(targets: list[ast.expr], values: tuple[int | None, ...]) -> Iterator[tuple[str, int | None]]:
    """Names with what they get, as in `net, *sets = args`."""
    star = next((k for k, target in enumerate(targets) if isinstance(target, ast.Starred)), None)
    if star is None and len(targets) != len(values):
        return
    behind = 0 if star is None else len(targets) - star - 1
    ends = [*zip(targets[:star], values), *zip(targets[len(targets) - behind :], values[len(values) - behind :])]
    for target, value in ends:
        if isinstance(target, ast.Name):
            yield target.id, value


def _number(node: ast.expr) -> int | None:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return None
    return value if type(value) is int else None


def _names(nodes: list[ast.expr]) -> set[str]:
    return {part.id for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name)}


def _says(name: str) -> bool:
    return bool(meant(name) or meant_in_short(name))


SIGNATURE = f"unlearning({', '.join(ARGUMENTS)})"
BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
VARIOUS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
EMPTY = inspect.Parameter.empty
ORDINALS = ("first", "second", "third", "fourth")


class SignatureError(SubmissionError):
    """`unlearning` is there, but the four arguments would not arrive as they are meant."""


def check_signature(function: Callable, path: Path, tree: ast.Module | None = None) -> list[str]:
    """What is to be told about names that may mean another set than the one that they get.

    Args:
        function: `unlearning`, as the file's import has left it.
        path: its file, for messages.
        tree: of the file; the `def` in it is looked at too where a wrapper hides what it does with it.

    Raises:
        SignatureError: the four arguments, handed over by place, would not arrive as they are meant.
    """
    signature = _signature(function, path)
    found = f"{path}: unlearning{signature}"
    try:
        signature.bind(*ARGUMENTS)
    except TypeError as error:
        raise SignatureError(f"{found} cannot be called as {SIGNATURE}, by place: {error}") from error
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        kind = "is async" if inspect.iscoroutinefunction(function) else "holds a yield"
        raise SubmissionError(f"{path}: unlearning() {kind}, so calling it runs nothing; make it a plain function")
    notes = _on_parameters(signature, found)
    reached = list(arrivals(function))
    for arrival in reached:
        notes += _on_arrival(arrival, path)
    notes += _on_hidden(reached, tree)
    return list(dict.fromkeys(notes))


def _signature(function: Callable, path: Path) -> inspect.Signature:
    """The parameters that are handed the four: a wrapper's own, not those of what it wraps. Raises SignatureError."""
    for follow in (False, True):  # what functools.lru_cache makes has none but those of the function inside
        try:
            return inspect.signature(function, follow_wrapped=follow)
        except ValueError:
            continue
    raise SignatureError(f"{path}: unlearning is {function!r}, whose parameters cannot be read; write def {SIGNATURE}")


def _on_parameters(signature: inspect.Signature, found: str) -> list[str]:
    """Notes on the outermost function's parameters. Raises SignatureError."""
    notes = []
    parameters = [p for p in signature.parameters.values() if p.kind not in VARIOUS]
    handed = [p for p in parameters if p.kind in BY_PLACE][: len(ARGUMENTS)]
    taken = {k for k, parameter in enumerate(handed) if k in meant(parameter.name)}
    for place, parameter in enumerate(parameters):
        if parameter in handed:
            fault, note = misplaced(parameter.name, place, parameter.default)
        else:
            fault, note = _on_more(parameter, taken)
        if fault:
            raise SignatureError(f"{found}: {fault}; write def {SIGNATURE}")
        notes += [note] if note else []
    return notes


def misplaced(name: str, place: int, default: object = EMPTY) -> tuple[str, str]:
    """What is wrong with a name that holds the argument of this place, from 0; and what may be wrong."""
    if not meant(name) and default is not None and default is not EMPTY:
        return f"`{name}={default!r}` would be handed {ARGUMENTS[place]}", ""
    known, handed = meant(name) or (meant_in_short(name) if place else []), ARGUMENTS[place]
    if place == 2 and EITHER & {name.lower(), *name.lower().split("_")}:
        return "", f"`{name}` is handed the forget set; if it means the remaining examples, it is in the wrong place"
    if known and place not in known:
        return f"`{name}` is named like the {ORDINALS[known[0]]} argument, but would be handed {handed}", ""
    if known:
        return "", ""
    if means_several(name):
        return f"`{name}` is named for several loaders, but would be handed {handed}", ""
    if means_another_thing(name) and (place or name.lower() not in ("student", "teacher", "m")):
        return f"`{name}` is named for another thing, but would be handed {handed}", ""
    if means_all_training(name):
        if place != 1:
            return f"`{name}` is named for the training data, but would be handed {handed}", ""
        return "", f"`{name}` is handed the retain set: the training data without the examples to forget"
    return "", ""


def _on_more(parameter: inspect.Parameter, taken: set[int]) -> tuple[str, str]:
    """As `misplaced`, beside the four: it may be a setting, such as forget_epochs=3, but no loader."""
    name, known = parameter.name, meant(parameter.name)
    if not is_data(name) or not (known or means_all_training(name)):
        return "", ""
    if missing := [k for k in known if k not in taken]:
        return f"`{name}` is named like the {ORDINALS[missing[0]]} argument, but would be handed nothing", ""
    if parameter.default is None or parameter.default is EMPTY:
        return "", f"`{name}` is handed nothing: there are four arguments, and no other loader"
    return "", ""


def _on_arrival(arrival: Arrival, path: Path) -> list[str]:
    """Notes on the names of a function that is reached. Raises SignatureError if they surely mean other sets."""
    notes = []
    own = arrival.function.rpartition(".")[2] == "unlearning"
    for name, place in arrival.places.items():
        fault, note = misplaced(name, place, arrival.defaults.get(name, EMPTY))
        if fault and (arrival.sure or own):
            where = f"{path}: {arrival.function}, the function behind unlearning (line {arrival.line})"
            raise SignatureError(f"{where}: {fault}; write def {SIGNATURE}")
        if reported := fault or note:
            notes.append(reported if own else f"in {arrival.function}, which unlearning calls, {reported}")
    return notes


def _on_hidden(reached: list[Arrival], tree: ast.Module | None) -> list[str]:
    """Notes on a `def unlearning` that what stands in its place may call in a way that cannot be followed."""
    found = [n for n in (tree.body if tree else ()) if isinstance(n, ast.FunctionDef) and n.name == "unlearning"]
    shapes = {ast.dump(node.args) for a in reached if (node := definition_of(a.code)) is not None}
    notes = []
    for node in (n for n in found[-1:] if ast.dump(n.args) not in shapes):
        names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
        faults = [misplaced(name, place)[0] for place, name in enumerate(names[: len(ARGUMENTS)])]
        if reported := next(filter(None, faults), ""):
            text = "what its decorator, or what stands in its place, hands on cannot be followed; by place, "
            notes.append(f"line {node.lineno}, def unlearning({', '.join(names)}): {text}{reported}")
    return notes


def functions_named(tree: ast.Module) -> str:
    """What to do where `unlearning` is missing."""
    names = [n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    if lines := lines_for(tree):
        return lines
    inside = [n.name for c in tree.body if isinstance(c, ast.ClassDef) for n in c.body if hasattr(n, "name")]
    if "unlearning" in inside:
        return "it is a method of a class; define a function at the top level"
    there = f" (its functions: {', '.join(names[:6])})" if names else ""
    return f"define it at the top level{there}"
