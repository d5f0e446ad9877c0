"""Take a Python file apart into imports, definitions and text, and refuse what a lone notebook cannot take along.

Every refusal names file and line: other packages, the repository's files, imports that cannot be copied by name.

How to use it: python -m local_eval export fanchuan
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from local_eval.runs.submissions import COMMON, TRAVELS, Submission, SubmissionError, parse_source

OPENERS = {
    "open", "read_text", "read_bytes", "load", "loadtxt", "genfromtxt", "fromfile", "memmap", "read_csv", "read_json",
    "read_pickle", "read_parquet", "read_image", "get_data",
}  # fmt: skip
IMPORTERS = {"import_module", "__import__"}
MODULE_NAMES = {
    "__file__": "a notebook has no file",
    "__name__": "in a notebook it is always '__main__', so the code behind it would run",
}


@dataclass(frozen=True)
class Import:
    """One imported name."""

    name: str  # what it is called in the file
    target: str  # what it is, such as torch.nn.functional
    statement: tuple[str, str]  # (module, name there with 'as'), or (module with 'as', "") for a plain import
    line: int


@dataclass(frozen=True)
class Piece:
    """A top-level definition with the comments above it."""

    names: frozenset[str]
    uses: frozenset[str]
    text: str
    line: int
    node: ast.stmt


@dataclass
class Source:
    """One Python file, taken apart."""

    path: Path
    tree: ast.Module
    lines: list[str]
    place: Callable[[int], str] = "line {}".format
    imports: list[Import] = field(default_factory=list)  # at the top level, `common` apart
    helpers: dict[str, tuple[Path, int]] = field(default_factory=dict)  # name -> file in common, line of the import

    @classmethod
    def read(cls, path: Path) -> Source:
        """Parse a file and check its imports; raises SubmissionError."""
        return cls._checked(cls(path, parse_source(path), path.read_text(encoding="utf-8").split("\n")))

    @classmethod
    def of(cls, submission: Submission) -> Source:
        """A submission, with its constants changed; of a notebook, what is taken. Raises SubmissionError."""
        lines = submission.source().split("\n")  # as Python counts lines; splitlines breaks at form feeds too
        return cls._checked(cls(submission.path, submission.tree(), lines, submission.place))

    @staticmethod
    def _checked(source: Source) -> Source:
        top = set(map(id, source.tree.body))
        for node in ast.walk(source.tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                source._take_import(node, id(node) in top)
        return source

    def refuse(self, line: int, text: str) -> SubmissionError:
        """The error to raise for something in this file."""
        return SubmissionError(f"{self.path}, {self.place(line)}: {text}")

    def _take_import(self, node: ast.Import | ast.ImportFrom, top: bool) -> None:
        self._check_import(node, top)
        if not top:
            return
        for alias in node.names:
            renamed = f" as {alias.asname}" if alias.asname else ""
            if isinstance(node, ast.Import):
                name = alias.asname or alias.name.split(".")[0]
                target = alias.name if alias.asname else name
                self.imports.append(Import(name, target, (alias.name + renamed, ""), node.lineno))
            elif node.module.split(".")[0] == "common":
                file = COMMON.joinpath(*node.module.split(".")[1:]).with_suffix(".py")
                self.helpers[alias.name] = (file, node.lineno)
            else:
                statement = (node.module, alias.name + renamed)
                name, target = alias.asname or alias.name, f"{node.module}.{alias.name}"
                self.imports.append(Import(name, target, statement, node.lineno))

    def _check_import(self, node: ast.Import | ast.ImportFrom, top: bool) -> None:
        """Raise SubmissionError for an import that cannot travel."""
        if isinstance(node, ast.ImportFrom) and node.level:
            raise self.refuse(node.lineno, "a relative import; write `from common.losses import name`")
        modules = [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        for module in modules:
            if module.split(".")[0] not in TRAVELS:
                raise self.refuse(
                    node.lineno,
                    f"imports {module}, which is not sure to be on Kaggle; a notebook can use torch, torchvision, "
                    "numpy, pandas, the standard library and functions of common",
                )
        if any(alias.name == "*" for alias in node.names):
            raise self.refuse(node.lineno, f"imports everything of {modules[0]}; name what you use")
        if any(module.split(".")[0] == "common" for module in modules):
            self._check_common(node, top)

    def _check_common(self, node: ast.Import | ast.ImportFrom, top: bool) -> None:
        plain = isinstance(node, ast.ImportFrom) and node.module.count(".") == 1
        if not plain or not top or any(alias.asname for alias in node.names):
            raise self.refuse(
                node.lineno,
                "functions of common can only be copied if they are imported by name, at the top of the file: "
                "write `from common.losses import name`, without `as`",
            )

    def check_reach(self, nodes: list[ast.stmt]) -> None:
        """Raise SubmissionError for statements that read files of the repository or import by other means."""
        for node in (n for top in nodes for n in ast.walk(top)):
            if isinstance(node, ast.Name) and node.id in MODULE_NAMES:
                raise self.refuse(node.lineno, f"uses {node.id}; {MODULE_NAMES[node.id]}")
            if isinstance(node, ast.Call):
                self._check_call(node)

    def _check_call(self, call: ast.Call) -> None:
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if name in IMPORTERS:
            raise self.refuse(call.lineno, f"calls {name}(); use an import statement, which can be checked")
        if name in OPENERS and not _is_kaggle_path(call):
            raise self.refuse(
                call.lineno,
                f"calls {name}(), and a notebook has no files of this repository. Write the values into the code, or "
                "give a literal path that begins with '/kaggle/'",
            )

    def pieces(self) -> list[Piece]:
        """The definitions of a module of common; raises SubmissionError for other statements, which cannot be split."""
        found, last = [], 0
        for node in _without_docstring(self.tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)):
                names = frozenset(_bound([node]))
                uses = frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name))
                start = self._start(node, last)
                found.append(Piece(names, uses, "\n".join(self.lines[start : node.end_lineno]), node.lineno, node))
            elif not isinstance(node, (ast.Import, ast.ImportFrom)):
                raise self.refuse(node.lineno, "a module of common may hold imports, functions, classes and constants")
            last = node.end_lineno
        return found

    def _start(self, node: ast.stmt, last: int) -> int:
        """Index of the first line that belongs to a definition: its decorators and the comments right above."""
        start = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1
        while start > last and self.lines[start - 1].startswith("#"):
            start -= 1
        return start

    def body(self) -> str:
        """The file's text without docstring and imports, otherwise as it reads."""
        nodes = self.tree.body
        dropped = [n for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom))]
        dropped += nodes[: len(nodes) - len(_without_docstring(self.tree))]
        gone = {number for node in dropped for number in range(node.lineno, node.end_lineno + 1)}
        for node in nodes:
            if node not in dropped and node.lineno in gone:
                raise self.refuse(node.lineno, "shares its line with an import; give each statement its own line")
        kept = [line for number, line in enumerate(self.lines, start=1) if number not in gone]
        return re.sub(r"\n{4,}", "\n\n\n", "\n".join(kept)).strip("\n")

    def bound(self) -> dict[str, int]:
        """Names defined at the top level and the lines where; imports apart."""
        return _bound(self.tree.body)


def _is_kaggle_path(call: ast.Call) -> bool:
    first = call.args[0] if call.args else None
    return isinstance(first, ast.Constant) and str(first.value).startswith("/kaggle/")


def _without_docstring(tree: ast.Module) -> list[ast.stmt]:
    return tree.body[1:] if ast.get_docstring(tree) is not None else tree.body


def _bound(nodes: list[ast.stmt]) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in _outside_functions(nodes):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.setdefault(node.name, node.lineno)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.setdefault(node.id, node.lineno)
    for node in (n for top in nodes for n in ast.walk(top)):
        if isinstance(node, ast.Global):
            found |= {name: node.lineno for name in node.names if name not in found}
    return found


def _outside_functions(nodes: list[ast.stmt]) -> Iterator[ast.AST]:
    """Every node whose names live at the top level: comprehensions, functions and classes keep theirs inside."""
    inside = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    inside += (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    for node in nodes:
        yield node
        if not isinstance(node, inside):
            yield from _outside_functions(list(ast.iter_child_nodes(node)))
