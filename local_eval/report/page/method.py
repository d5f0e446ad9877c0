"""The page's section on the method itself: what its author says of it, its constants, its source and its hash.

How it is used: `MethodText.of(submission)`, which a page's source holds; templates/method.html shows it
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath

from local_eval.methods.settings import constants
from local_eval.methods.source import NOT_PYTHON
from local_eval.methods.submission import COMMON, Submission, digest_of_code, source_files
from local_eval.store.errors import printable

LONGEST = 300  # characters of a constant that are shown


@dataclass(frozen=True)
class MethodText:
    """A method as text; nothing of it is executed, nor is an expression of it worked out."""

    name: str  # 'fanchuan', 'my_method.py', as one types it where the file lies
    source: str  # what ran: with constants as they were changed
    digest: str  # short hash of what source and shared files compile to
    changed: Mapping[str, str] = field(default_factory=dict)  # constants that were changed: what the file says
    common: Mapping[str, str] = field(default_factory=dict)  # text of the kit's files that it imports, by their names

    @classmethod
    def of(cls, submission: Submission) -> MethodText:
        """The text of a submission that was found. Raises SubmissionError if it is no Python."""
        name = submission.path.stem if submission.is_own else submission.path.name
        whole = ast.parse(submission.as_written())
        there = constants(whole)
        changed = {constant: ast.unparse(there[constant][-1]) for constant, _ in submission.settings}
        files = source_files(submission.path, whole)[1:]
        common = {file.relative_to(COMMON).as_posix(): file.read_text(encoding="utf-8") for file in files}
        return cls(name, submission.source(), submission.digest(), changed, common)

    def digest_of_text(self) -> str:
        """The hash as it follows from the texts alone. Raises what Python's parser does for what is not Python."""
        names = sorted(map(PurePosixPath, self.common))
        return digest_of_code(ast.parse(self.source), ((n.name, ast.parse(self.common[str(n)])) for n in names))

    @cached_property
    def _tree(self) -> ast.Module:
        try:
            return ast.parse(self.source)
        except NOT_PYTHON:
            return ast.Module([], [])

    @property
    def docstring(self) -> list[str]:
        """What the file says of itself, paragraph by paragraph."""
        text = printable(ast.get_docstring(self._tree) or "")
        return [part.strip("\n") for part in text.split("\n\n") if part.strip()]

    @property
    def constants(self) -> list[tuple[str, str, str]]:
        """Name, value, and what the file says where that was changed."""
        found = constants(self._tree)
        return [(name, _shown(values[-1]), self.changed.get(name, "")) for name, values in found.items()]

    @property
    def shown(self) -> str:
        """The source, with control codes shown as they are written."""
        return printable(self.source.replace("\r\n", "\n"))

    @property
    def lines(self) -> int:
        """Of the source."""
        return len(self.source.splitlines())


def _shown(node: ast.expr) -> str:
    try:
        text = printable(ast.unparse(node))
    except RecursionError:
        return "..."
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
