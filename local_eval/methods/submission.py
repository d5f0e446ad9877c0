"""Find a submission's file and read it, without importing it: a typo should not wait for torch."""

from __future__ import annotations

import ast
import difflib
import hashlib
import sys
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from local_eval.methods.notebook import Extracted, extract
from local_eval.methods.settings import Settings, changed_source, label, split_name
from local_eval.methods.source import NOT_PYTHON, SubmissionError
from local_eval.store.files import KIT, ROOT, user_path  # noqa: F401 (ROOT's old address)
from local_eval.tasks.names import nearest_files
from local_eval.tasks.own_code import code_shape

SUBMISSIONS = KIT / "submissions"
COMMON = KIT / "common"
CHECKPOINTS = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar", ".tar.xz", ".tar.bz2", ".tar.zst", ".pth", ".pt")
CHECKPOINTS += (".safetensors", ".ckpt", ".gz", ".xz", ".bz2", ".zst", ".npz", ".npy")  # that mean models, not code
CODE = (".py", ".ipynb")
LONGEST = 200  # characters of what Python says about a file
TRAVELS = {"torch", "torchvision", "numpy", "pandas", "common"} | set(sys.stdlib_module_names)  # into a notebook


@dataclass(frozen=True)
class Submission:
    """A submission's file, with constants of it changed where that was asked for."""

    path: Path
    settings: Settings = ()

    @classmethod
    def find(cls, name: str | Submission) -> Submission:
        """By name ('fanchuan'), by path ('my_method.py'), either with settings ('fanchuan[EPOCHS=9]').

        One that was found is itself: what it holds is read once and passed on.

        Raises:
            SubmissionError: there is none; the message lists the names that exist.
            SettingError: a constant that it does not have, or a value of another kind.
        """
        if isinstance(name, Submission):
            return name
        stem, settings = split_name(name)
        found = cls(submission_path(stem), settings)
        found.source()
        return found

    @property
    def label(self) -> str:
        """How it is shown: 'fanchuan', 'baseline_finetune[EPOCHS=3]'."""
        return label(self.path.stem, self.settings)

    @property
    def is_own(self) -> bool:
        """Is it one of the kit's own files, of which published scores are known? A copy under the same name is not."""
        return self.path.parent == SUBMISSIONS

    def source(self) -> str:
        """The text that runs, of a notebook what `extract` takes. Raises SubmissionError if it is not Python."""
        return changed_source(self._read, self.settings, str(self.path))

    def as_written(self) -> str:
        """The same with constants as the file has them."""
        return self._read

    @cached_property
    def _read(self) -> str:
        return _text(self.path)

    def __getstate__(self) -> dict:
        """What travels to another process: not what was read, which that one reads for itself."""
        return {"path": self.path, "settings": self.settings}

    def as_it_is_now(self) -> Submission:
        """The same, read anew: its file may have been edited meanwhile."""
        return Submission(self.path, self.settings)

    def notebook(self) -> Extracted | None:
        """What was taken of a notebook and what was left out; None for a file."""
        return extract(self.path) if is_notebook(self.path) else None

    def place(self, line: int) -> str:
        """Where a line of what runs stands: 'line 7', in a notebook 'code cell 2, line 3'."""
        book = self.notebook()
        return book.place(line) if book else f"line {line}"

    def tree(self) -> ast.Module:
        """The syntax tree of what runs."""
        return ast.parse(self.source(), filename=str(self.path))

    def digest(self) -> str:
        """Short hash of what its file and what it uses of `common` compile to. Raises SubmissionError."""
        try:
            return self._digest
        except RecursionError:
            raise SubmissionError(f"{self.path}: its code nests too deeply to be read; write it flatter") from None

    @cached_property
    def _digest(self) -> str:
        files = source_files(self.path, ast.parse(self._read))[1:]
        return digest_of_code(self.tree(), ((file.name, parse_source(file)) for file in files))


def digest_of_code(tree: ast.Module, common: Iterable[tuple[str, ast.Module]]) -> str:
    """Short hash of what a submission, with its constants as they were changed, and files of `common` compile to.

    Args:
        common: name and syntax tree of each file, in the order of `source_files`.
    """
    sha = hashlib.sha256(f"\0{code_shape(tree)}\0".encode())
    for name, other in common:
        sha.update(f"{name}\0{code_shape(other)}\0".encode())
    return sha.hexdigest()[:12]


def submission_path(name: str) -> Path:
    """The file of a submission given by name ('fanchuan') or by path ('my_method.py'), settings left aside.

    Raises:
        SubmissionError: there is none; the message lists the names that exist.
    """
    name, _ = split_name(name)
    path = user_path(name) if name.lower().endswith(CODE) else SUBMISSIONS / f"{name}.py"
    if not path.is_file() and looks_like_checkpoints(name):
        raise SubmissionError(f"{name} is a folder or an archive; a submission is a .py or .ipynb file")
    if not path.is_file():
        raise SubmissionError(f"no submission {name!r}: {path} does not exist{_meant(name)}")
    return path.resolve()


def _meant(name: str) -> str:
    """The nearest names and files; all names if none is near."""
    near = [f"{name}{ending}" for ending in CODE if Path(f"{name}{ending}").is_file()]
    near = near or nearest_files(Path(name), CODE)
    near = near or difflib.get_close_matches(Path(name).stem.lower(), submission_names(), n=3)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; there are {', '.join(submission_names())}, or a path to a .py or .ipynb file"


def is_notebook(path: Path) -> bool:
    """Is it a notebook rather than a file of Python?"""
    return path.suffix.lower() == ".ipynb"


def looks_like_checkpoints(name: str) -> bool:
    """Is an argument of `grade` the name of checkpoints, of whatever kind, rather than of a submission?

    A bare name of one that comes with the kit is that, wherever the command stands: notebooks/ has a folder for each.
    """
    if name in submission_names():
        return False
    return name.lower().endswith(CHECKPOINTS) or Path(name).is_dir()


def submission_names() -> list[str]:
    """Names of the submissions that come with the kit."""
    return sorted(p.stem for p in SUBMISSIONS.glob("*.py") if not p.stem.startswith("_"))


def source_files(path: Path, tree: ast.Module | None = None) -> list[Path]:
    """The submission's file and the files of `common` that it imports, directly or not, in a fixed order.

    Args:
        tree: what is in the submission's file, if it was read.
    """
    found, waiting = [path], _common_imports(path, tree or parse_source(path))
    while waiting:
        file = waiting.pop(0)
        if file not in found:
            found.append(file)
            waiting += _common_imports(file, parse_source(file))
    return [path, *sorted(set(found) - {path})]


def _common_imports(file: Path, tree: ast.Module) -> list[Path]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
    for name in names:
        if name.split(".")[0] in ("submissions", "local_eval"):  # the hash would not follow it, a notebook not take it
            raise SubmissionError(
                f"{file}: imports {name}; copy what you need into your file, or import it from common"
            )
    parts = [name.split(".") for name in names if name.split(".")[0] == "common"]
    files = [COMMON / "__init__.py"] if parts else []
    files += [COMMON.joinpath(*p[1:]).with_suffix(".py") for p in parts if p[1:]]
    return [f for f in files if f.is_file()]


def parse_source(file: Path) -> ast.Module:
    """The file's syntax tree; raises SubmissionError, with the line, if it is not Python."""
    return ast.parse(_text(file), filename=str(file))


def _text(file: Path) -> str:
    """The Python in a file, in whatever encoding it declares; raises SubmissionError if it is none."""
    if is_notebook(file):
        return extract(file).text
    try:
        content = file.read_bytes()
    except OSError as error:
        raise SubmissionError(f"{file} cannot be read ({error.strerror})") from error
    try:
        ast.parse(content, filename=str(file))
        with tokenize.open(file) as opened:
            return opened.read()
    except NOT_PYTHON as error:
        line = getattr(error, "lineno", None)
        where = f"{file}{f', line {line}' if line else ''}"
        said = str(error)[:LONGEST] or "it nests too deeply"
        raise SubmissionError(f"{where}: not valid Python ({said}){_hint(content, line)}") from error


def _hint(content: bytes, line: int | None) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content or not _is_utf8(content):
        return "; save the file as UTF-8"
    lines = content.splitlines()
    if line and line <= len(lines) and lines[line - 1].lstrip().startswith((b"%", b"!", b"pip ")):
        return "; only a notebook understands such a line: delete it, or give the .ipynb file itself"
    return ""


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
