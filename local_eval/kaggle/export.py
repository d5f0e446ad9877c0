"""Write a submission as a notebook that runs alone on Kaggle: its code, what it uses of `common`, the official driver.

    notebooks/fanchuan.ipynb                    upload this one by hand, or
    notebooks/fanchuan/kernel-metadata.json     kaggle kernels push -p notebooks/fanchuan

Code arrives as ordinary cells, comments included. The same input gives the same bytes.

How to run it: python -m local_eval export fanchuan
"""

from __future__ import annotations

import ast
import builtins
import functools
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from local_eval.commands import command
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import COMMON, TRAVELS, Submission, parse_source
from local_eval.store.files import write_atomically

# Take a Python file apart into imports, definitions and text, and refuse what a lone notebook cannot take along.
#
# Every refusal names file and line: other packages, the repository's files, imports that cannot be copied by name.
#
# How to use it: python -m local_eval export fanchuan


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

    @functools.cached_property
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


# A submission with exactly what it uses of `common`, in an order in which one notebook can hold it.
#
# How to use it: python -m local_eval export fanchuan


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
    for file in choice.in_order():
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
    order: list[Path] = field(default_factory=list)  # files, as they were met

    def add_imports_of(self, asker: Source, names: list[str]) -> None:
        """Take what a file imports from common under these names."""
        for name in names:
            file, line = asker.helpers[name]
            if not file.is_file():
                raise asker.refuse(line, f"imports {name} from common/{file.name}, which does not exist")
            source = self.sources.setdefault(file, Source.read(file))
            if not any(name in piece.names for piece in source.pieces):
                raise asker.refuse(
                    line, f"common/{file.name} does not define {name}; import it from where it is defined"
                )
            self._add(source, name)

    def _add(self, source: Source, name: str) -> None:
        chosen = self.names.setdefault(source.path, set())
        if name in chosen:
            return
        chosen.add(name)
        used = sorted({u for piece in source.pieces if name in piece.names for u in piece.uses})
        self.add_imports_of(source, [u for u in used if u in source.helpers])
        if source.path not in self.order:
            self.order.append(source.path)
        for other in used:
            if any(other in piece.names for piece in source.pieces):
                self._add(source, other)

    def in_order(self) -> list[Path]:
        """The files, those that others need first: a constant or a base class is looked up where it is written."""
        found: list[Path] = []

        def add(file: Path, above: tuple[Path, ...]) -> None:
            used = {name for piece in self.pieces(file) for name in piece.uses}
            needed = {place for name, (place, _) in self.sources[file].helpers.items() if name in used}
            for other in (other for other in self.order if other in needed - {*above, *found}):
                add(other, (*above, other))
            found.extend([file] if file not in found else [])

        for file in self.order:
            add(file, (file,))
        return found

    def pieces(self, file: Path) -> tuple[Piece, ...]:
        """The chosen definitions of a file, in its order."""
        return tuple(piece for piece in self.sources[file].pieces if piece.names & self.names[file])


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


CELLS = Path(__file__).parent / "cells"
DRIVER = CELLS / "driver.py"
WALKTHROUGH = CELLS / "walkthrough.py"
COMPETITION = "neurips-2023-machine-unlearning"
USER = "YOUR-KAGGLE-NAME"  # `submit` puts the account's name here; by hand, edit kernel-metadata.json
METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


@dataclass(frozen=True)
class Cell:
    """A cell of a notebook before it is one."""

    text: str
    kind: str = "code"  # or "markdown"
    tag: str = ""


def export(submission: Submission, out: Path) -> Path:
    """Write OUT/NAME.ipynb and OUT/NAME/kernel-metadata.json for a submission; returns the first.

    Raises:
        SubmissionError: something in it cannot travel; the message names file and line.
        OutputError: the folder cannot be written.
    """
    notebook = out / f"{submission.label}.ipynb"
    if notebook.resolve() == submission.path:
        raise SubmissionError(f"{submission.path} would be written over by its export; name another folder with --out")
    write_atomically(notebook, submission_notebook(submission).encode())
    metadata = json.dumps(kernel_metadata(submission.label), indent=2) + "\n"
    write_atomically(out / submission.label / "kernel-metadata.json", metadata.encode())
    return notebook


def export_walkthrough(out: Path) -> Path:
    """Write OUT/walkthrough.ipynb and return its path; it needs the repository, and no Kaggle."""
    write_atomically(out / "walkthrough.ipynb", notebook_text(read_cells(WALKTHROUGH)).encode())
    return out / "walkthrough.ipynb"


def submission_notebook(submission: Submission) -> str:
    """The notebook of a submission as JSON text; raises SubmissionError."""
    gathered = gather(submission, Source.read(DRIVER))
    driver = {cell.tag: cell for cell in read_cells(DRIVER) if cell.tag}
    budget = json.dumps(command("budget", [submission], whole=False))  # which is how Python writes a text, too
    rest = [replace(cell, text=cell.text.replace(BUDGET, budget)) for cell in read_cells(DRIVER) if not cell.tag]
    cells = [
        _title(gathered.method, submission),
        Cell("## Imports", "markdown"),
        Cell(import_lines(gathered.imports)),
    ]
    cells += [Cell("## Where things are, and how much to do", "markdown"), driver["parameters"]]
    cells += [*_helper_cells(gathered), Cell("## The method", "markdown"), Cell(gathered.method.body()), *rest]
    return notebook_text(cells)


BUDGET = '"python -m local_eval budget NAME"'  # in the driver's calibration


def _title(method: Source, submission: Submission) -> Cell:
    about = ast.get_docstring(method.tree) or "A method for the NeurIPS 2023 machine-unlearning competition."
    again = command("export", [submission], whole=False)
    note = f"Written by `{again}`: change `{method.path.name}` and export again, not this notebook."
    return Cell(f"# {submission.label}\n\n```text\n{about.strip()}\n```\n\n{note}", "markdown")


def _helper_cells(gathered: Gathered) -> list[Cell]:
    cells = [Cell("## What the method shares with others", "markdown")] if gathered.helpers else []
    return cells + [Cell("\n\n\n".join(piece.text for piece in pieces)) for _, pieces in gathered.helpers]


def read_cells(path: Path) -> list[Cell]:
    """The cells of a file in percent format; what stands before the first `# %%` is the file's own."""
    blocks = re.split(r"(?m)^# %%(.*)\n", path.read_text(encoding="utf-8"))[1:]
    cells = []
    for tag, text in zip(blocks[::2], blocks[1::2]):
        if "[markdown]" in tag:
            lines = [line.removeprefix("#").removeprefix(" ") for line in text.strip().splitlines()]
            cells.append(Cell("\n".join(lines), "markdown"))
        else:
            cells.append(Cell(text.strip("\n"), tag=tag.strip()))
    return cells


def notebook_text(cells: list[Cell]) -> str:
    """A notebook as JSON text. Cell ids count up, so that equal cells give equal bytes."""
    made = []
    for number, cell in enumerate(cells):
        new = new_markdown_cell if cell.kind == "markdown" else new_code_cell
        metadata = {"tags": [cell.tag]} if cell.tag else {}
        made.append(new(cell.text, id=f"cell-{number:02}", metadata=metadata))
    notebook = new_notebook(cells=made, metadata=METADATA)
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def kernel_metadata(name: str, user: str = USER) -> dict:
    """What Kaggle needs to know of the notebook: private, a T4 GPU, no internet, the competition's files."""
    title = f"Unlearning {name}".replace("_", " ").strip()
    return {
        "id": f"{user}/{re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')}",
        "title": title,
        "code_file": f"../{name}.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "enable_internet": False,
        "machine_shape": "NvidiaTeslaT4",
        "dataset_sources": [],
        "competition_sources": [COMPETITION],
        "kernel_sources": [],
        "model_sources": [],
    }
