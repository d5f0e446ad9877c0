"""How a value is spelled in a file: as a literal, or as something that a package holds.

How it is used: `literal(value)` and `address(name, value)` in written_out.py.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import ModuleType

from local_eval.runs.trace import library_folders


def literal(value: object) -> str | None:
    """A text that gives this value again; None if there is none that can be trusted."""
    if type(value).__module__ == "torch" and type(value).__name__ in ("device", "dtype"):
        text = f'device("{value}")' if type(value).__name__ == "device" else str(value).removeprefix("torch.")
        return f'__import__("torch").{text}'
    text = repr(value)
    try:
        again = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return text if type(again) is type(value) and repr(again) == text and _plain(value) else None


def _plain(value: object) -> bool:
    """Is it of Python's own types all through? numpy's numbers and enums print like plain ones in places."""
    if isinstance(value, dict):
        return type(value) is dict and all(map(_plain, [*value, *value.values()]))
    if isinstance(value, list | tuple):
        return type(value) in (list, tuple) and all(map(_plain, value))
    return type(value) in (int, float, complex, str, bytes, bool, type(None), type(...))


def of_a_package(name: str) -> bool:
    """Does a module, loaded here, come from a package, the standard library or `common`?"""
    if name.split(".")[0] == "__main__":  # which may be a launcher's file
        return False
    root = sys.modules.get(name.split(".")[0])
    file = getattr(root, "__file__", None) or next(iter(getattr(root, "__path__", ())), None)
    if name.split(".")[0] in {*sys.stdlib_module_names, "common"}:
        return True
    return file is not None and str(Path(file).resolve()).startswith(library_folders())


def address(name: str, value: object) -> tuple[str, str] | None:
    """The package's module and the name in it by which a thing can be imported."""
    own = getattr(value, "__module__", None), getattr(value, "__name__", None)
    places = [own] if all(isinstance(part, str) for part in own) else []
    places += [(m, name) for m in sorted(sys.modules, key=lambda m: (m.count("."), m)) if "._" not in f".{m}"]
    for module, there in places:
        found = sys.modules.get(module)
        if isinstance(found, ModuleType) and vars(found).get(there, places) is value and of_a_package(module):
            return module, there
    return None
