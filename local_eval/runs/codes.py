"""What can be told of compiled code: whether two functions do the same, and which global names one needs.

How it is used: `same_code(one, other)` in callables.py and written_out.py.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Iterator
from types import CodeType

NAMES = ("co_names", "co_varnames", "co_freevars", "co_argcount", "co_posonlyargcount", "co_kwonlyargcount")
STEPS = ("co_code", "co_exceptiontable")


def same_code(one: CodeType, other: CodeType) -> bool:
    """Do two code objects do the same, step by step? Line numbers and file names do not count."""
    return _same(one, other, NAMES + STEPS)


def same_names(one: CodeType, other: CodeType) -> bool:
    """Do two code objects have the same names and constants, all through?"""
    return _same(one, other, NAMES)


def same_value(one: object, other: object) -> bool:
    """Are two plain values the same, of the same type?"""
    return type(one) is type(other) and repr(one) == repr(other)


def _same(one: object, other: object, compared: tuple[str, ...]) -> bool:
    if not isinstance(one, CodeType) or not isinstance(other, CodeType):
        return same_value(one, other)
    if any(getattr(one, name) != getattr(other, name) for name in compared):
        return False
    if (one.co_flags ^ other.co_flags) & ~inspect.CO_NESTED:  # where a function stands makes no difference
        return False
    pairs = list(zip(one.co_consts, other.co_consts))
    return len(one.co_consts) == len(other.co_consts) and all(_same(a, b, compared) for a, b in pairs)


def codes_in(code: CodeType) -> dict[str, CodeType]:
    """The code of the functions and classes that stand directly in it, the last of every name."""
    return {inside.co_name: inside for inside in code.co_consts if isinstance(inside, CodeType)}


def all_codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and all that stand in it."""
    yield code
    for inside in code.co_consts:
        if isinstance(inside, CodeType):
            yield from all_codes(inside)


def is_at(one: CodeType, other: CodeType) -> bool:
    """Do they stand at the same line, under the same name?"""
    return (one.co_firstlineno, one.co_qualname) == (other.co_firstlineno, other.co_qualname)


def globals_of(code: CodeType) -> set[str]:
    """Global names that a function's code reads or sets, that of functions and classes inside it included."""
    steps = [(i.opname, i.argval) for i in dis.get_instructions(code)]
    names = {name for step, name in steps if step.endswith("_GLOBAL")}
    made = {name for step, name in steps if step == "STORE_NAME"}  # in the body of a class
    names |= {name for step, name in steps if step == "LOAD_NAME"} - made - {"__name__"}
    return names.union(*(globals_of(inside) for inside in code.co_consts if isinstance(inside, CodeType)))
