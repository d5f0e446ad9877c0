"""The four parameters of `unlearning`, by place. A name that is known for another place is refused.

Official driver and grader hand the four over by place, so `unlearning(net, forget_loader, retain_loader, val_loader)`
would run, and do the opposite of what is meant.

How it is used: `check_signature(function, path)` in runs/contract.py.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path

from local_eval.runs.refusal import SubmissionError

ARGUMENTS = ("net", "retain_loader", "forget_loader", "val_loader")
SIGNATURE = f"unlearning({', '.join(ARGUMENTS)})"
WORDS = (
    {"net", "model", "network"},
    {"retain", "retained", "remain", "remaining", "keep", "kept"},
    {"forget", "forgotten", "unlearn", "erase"},
    {"val", "valid", "validation"},
)  # that a parameter's name may hold, in the order of the arguments
SHORT = {"r": 1, "dr": 1, "rl": 1, "f": 2, "df": 2, "fl": 2, "v": 3, "dv": 3, "vl": 3}  # as whole names of loaders
BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
VARIOUS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
DATA = re.compile(r"_?(data)?(loader|set|dl)$")
ORDINALS = ("first", "second", "third", "fourth")


def check_signature(function: Callable, path: Path) -> None:
    """Raise SubmissionError if the four arguments, handed over by place, would not arrive as they are meant."""
    signature = inspect.signature(function)
    found = f"{path}: unlearning{signature}"
    try:
        signature.bind(*ARGUMENTS)
    except TypeError as error:
        raise SubmissionError(f"{found} cannot be called as {SIGNATURE}, by place: {error}") from error
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        kind = "is async" if inspect.iscoroutinefunction(function) else "holds a yield"
        raise SubmissionError(f"{path}: unlearning() {kind}, so calling it runs nothing; make it a plain function")
    parameters = [p for p in signature.parameters.values() if p.kind not in VARIOUS]
    handed = [p for p in parameters if p.kind in BY_PLACE][: len(ARGUMENTS)]
    taken = {k for k, parameter in enumerate(handed) if k in _meant(parameter.name)}
    for place, parameter in enumerate(parameters):
        given = parameter.kind in BY_PLACE and place < len(ARGUMENTS)
        fault = _fault(parameter, place) if given else _fault_of_more(parameter, taken)
        if fault:
            raise SubmissionError(f"{found}: {fault}; write def {SIGNATURE}")


def _fault(parameter: inspect.Parameter, place: int) -> str:
    """What is wrong with a parameter that is handed the argument of this place, counted from 0."""
    meant, handed = _meant(parameter.name), ARGUMENTS[place]
    short = SHORT.get(DATA.sub("", parameter.name.lower()).replace("_", ""))
    if not meant and short and place:  # for a net any letter will do
        meant = [short]
    if meant and place not in meant:
        return f"`{parameter.name}` is named like the {ORDINALS[meant[0]]} argument, but would be handed {handed}"
    if not meant and parameter.default is not inspect.Parameter.empty and parameter.default is not None:
        return f"`{parameter.name}={parameter.default!r}` would be handed {handed}"
    return ""


def _fault_of_more(parameter: inspect.Parameter, taken: set[int]) -> str:
    """What is wrong with a parameter beside the four: it may be a setting, such as forget_epochs=3, but no loader."""
    meant = [k for k in _meant(parameter.name) if k not in taken]
    if meant and _is_data(parameter.name):
        return f"`{parameter.name}` is named like the {ORDINALS[meant[0]]} argument, but would be handed nothing"
    return ""


def _meant(name: str) -> list[int]:
    """The arguments that a name is known for: 'forget_dl' and 'forgetLoader' for the third."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
    words = set(re.split(r"[_\d]+", spaced)) | {DATA.sub("", spaced)}
    return [place for place, known in enumerate(WORDS) if words & known]


def _is_data(name: str) -> bool:
    return bool(DATA.search(name.lower())) or any(name.lower() in known for known in WORDS)


def functions_named(tree: ast.Module) -> str:
    """What to do where `unlearning` is missing."""
    names = [n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    inside = [n.name for c in tree.body if isinstance(c, ast.ClassDef) for n in c.body if hasattr(n, "name")]
    if "unlearning" in inside:
        return "it is a method of a class; define a function at the top level"
    there = f" (its functions: {', '.join(names[:6])})" if names else ""
    return f"define it at the top level{there}"
