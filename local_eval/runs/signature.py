"""The four parameters of `unlearning`, by place. A name that is known for another place is refused.

Official driver and grader hand the four over by place, so `unlearning(net, forget_loader, retain_loader, val_loader)`
would run, and do the opposite of what is meant. What counts is the function that does the work, behind decorators,
partials and other wrappers (forwarding.py), and what its names mean (meaning.py).

How it is used: `check_signature(function, path, tree)` in runs/contract.py; what it returns is told by runs/check.py.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from pathlib import Path

from local_eval.runs.adapters import lines_for
from local_eval.runs.forwarding import Arrival, arrivals, definition_of
from local_eval.runs.meaning import (
    ARGUMENTS,
    EITHER,
    is_data,
    means_all_training,
    means_another_thing,
    means_several,
    meant,
    meant_in_short,
)
from local_eval.runs.refusal import SubmissionError

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
        if told := fault or note:
            notes.append(told if own else f"in {arrival.function}, which unlearning calls, {told}")
    return notes


def _on_hidden(reached: list[Arrival], tree: ast.Module | None) -> list[str]:
    """Notes on a `def unlearning` that what stands in its place may call in a way that cannot be followed."""
    found = [n for n in (tree.body if tree else ()) if isinstance(n, ast.FunctionDef) and n.name == "unlearning"]
    shapes = {ast.dump(node.args) for a in reached if (node := definition_of(a.code)) is not None}
    notes = []
    for node in (n for n in found[-1:] if ast.dump(n.args) not in shapes):
        names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
        faults = [misplaced(name, place)[0] for place, name in enumerate(names[: len(ARGUMENTS)])]
        if told := next(filter(None, faults), ""):
            text = "what its decorator, or what stands in its place, hands on cannot be followed; by place, "
            notes.append(f"line {node.lineno}, def unlearning({', '.join(names)}): {text}{told}")
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
