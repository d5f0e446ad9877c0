"""Modules beside a task's file: `from my_net import Net` finds my_net.py in the file's own folder.

Such a module is known to Python under a name of its folder's own. So two tasks in different folders may each have a
my_net.py, and no submission meets either. `import` in the task's file, and in the modules that it takes from its
folder, looks there first; the standard library and this kit cannot be hidden. It is not put on sys.path.

How it is used: `module.__builtins__ = builtins_for(folder)` before a task's file runs, in load.py.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

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
