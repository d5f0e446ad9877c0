"""A submission with exactly what it uses of `common`, in an order in which one notebook can hold it.

How to use it: python -m local_eval export fanchuan
"""

from __future__ import annotations

import builtins
import sys
from dataclasses import dataclass, field
from pathlib import Path

from local_eval.kaggle.sources import Import, Piece, Source
from local_eval.runs.submissions import Submission


@dataclass(frozen=True)
class Gathered:
    """A submission and what it needs of `common`, ready to be written down in this order."""

    helpers: tuple[tuple[Source, tuple[Piece, ...]], ...]
    method: Source
    imports: tuple[Import, ...]  # of all, the driver's included


def gather(submission: Submission, driver: Source) -> Gathered:
    """A submission with everything that it uses of `common`, checked against meeting names.

    Args:
        driver: what the notebook holds besides; its names are taken.
    Raises:
        SubmissionError: something cannot travel; the message names file and line.
    """
    method = Source.of(submission)
    method.check_reach(method.tree.body)
    choice = _Choice()
    choice.add_imports_of(method, list(method.helpers))
    helpers, imports = [], [*driver.imports, *method.imports]
    for file in choice.order:
        source, pieces = choice.sources[file], choice.pieces(file)
        source.check_reach([piece.node for piece in pieces])
        imports += _used_imports(source, pieces)
        helpers.append((source, pieces))
    gathered = Gathered(tuple(helpers), method, tuple(imports))
    _check_names(gathered, driver)
    return gathered


@dataclass
class _Choice:
    """Which definitions of `common` are needed, found by following names."""

    sources: dict[Path, Source] = field(default_factory=dict)
    names: dict[Path, set[str]] = field(default_factory=dict)
    order: list[Path] = field(default_factory=list)  # files, those that others need first

    def add_imports_of(self, asker: Source, names: list[str]) -> None:
        """Take what a file imports from common under these names."""
        for name in names:
            file, line = asker.helpers[name]
            if not file.is_file():
                raise asker.refuse(line, f"imports {name} from common/{file.name}, which does not exist")
            source = self.sources.setdefault(file, Source.read(file))
            if not any(name in piece.names for piece in source.pieces()):
                raise asker.refuse(
                    line, f"common/{file.name} does not define {name}; import it from where it is defined"
                )
            self._add(source, name)

    def _add(self, source: Source, name: str) -> None:
        chosen = self.names.setdefault(source.path, set())
        if name in chosen:
            return
        chosen.add(name)
        used = sorted({u for piece in source.pieces() if name in piece.names for u in piece.uses})
        self.add_imports_of(source, [u for u in used if u in source.helpers])
        if source.path not in self.order:
            self.order.append(source.path)
        for other in used:
            if any(other in piece.names for piece in source.pieces()):
                self._add(source, other)

    def pieces(self, file: Path) -> tuple[Piece, ...]:
        """The chosen definitions of a file, in its order."""
        return tuple(piece for piece in self.sources[file].pieces() if piece.names & self.names[file])


def _used_imports(source: Source, pieces: tuple[Piece, ...]) -> list[Import]:
    used = {name for piece in pieces for name in piece.uses}
    return [i for i in source.imports if i.name in used or i.target.startswith("__future__")]


def _check_names(gathered: Gathered, driver: Source) -> None:
    """Raise SubmissionError where two files mean different things by one name."""
    parts = [(driver, driver.bound(), driver.imports)]
    for source, pieces in gathered.helpers:
        bound = {name: piece.line for piece in pieces for name in piece.names}
        parts.append((source, bound, _used_imports(source, pieces)))
    parts.append((gathered.method, gathered.method.bound(), gathered.method.imports))
    claims: dict[str, tuple[object, str]] = {}
    for source, bound, imports in parts:
        claimed = [(i.name, i.target, i.line) for i in imports]
        claimed += [(name, source.path, line) for name, line in bound.items()]
        for name, meaning, line in claimed:
            if hasattr(builtins, name):
                raise source.refuse(line, f"{name} is a builtin that other cells of the notebook may use; rename it")
            known, where = claims.setdefault(name, (meaning, f"{source.path.name}, {source.place(line)}"))
            if known != meaning:
                raise source.refuse(line, f"{name} is also defined in {where}; a notebook has one namespace: rename it")


def import_lines(imports: tuple[Import, ...]) -> str:
    """Import statements, merged and sorted: __future__, the standard library, then the rest."""
    statements, blocks = {i.statement for i in imports}, []
    for group in range(3):
        plain = sorted(f"import {module}" for module, name in statements if not name and _group(module) == group)
        modules = sorted({module for module, name in statements if name and _group(module) == group})
        named = [f"from {m} import {', '.join(sorted(n for k, n in statements if k == m and n))}" for m in modules]
        blocks += ["\n".join(plain + named)] if plain + named else []
    return "\n\n".join(blocks)


def _group(module: str) -> int:
    root = module.split(" ")[0].split(".")[0]
    if root == "__future__":
        return 0
    return 1 if root in sys.stdlib_module_names else 2
