"""The code cells of a notebook as Python, without what only Jupyter understands: magics, shell lines, help.

Line numbers stay: what is left out leaves an empty line, or `pass` inside a block.

How it is used: `read_cells(path)` in runs/notebooks.py.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

from local_eval.runs.refusal import NOT_PYTHON, SubmissionError

RUN_ANYWAY = {"time", "timeit", "capture", "prun", "memit"}  # cell magics around code that is Python all the same
# These patterns are matched to the end, or at one place: each takes time in proportion to the line, whatever is in it.
HELP = re.compile(r"\?{1,2}\s*[\w.*]+|[%\w.*]+\?{1,2}")
NAMES = re.compile(r"[\w, ]+")
MOST_LOOKS = 100_000  # lines looked at again, in one cell, to see where statements end
COMMAND = re.compile(r"\s*(pip|pip3|conda|mamba|apt|apt-get|cd|ls|mkdir|cp|mv|rm|cat|pwd|wget|git|unzip)(\s|$)")


@dataclass(frozen=True)
class Cell:
    """A code cell: its number among the code cells, from 1, its Python, and what was left out of it."""

    number: int
    text: str
    left_out: tuple[str, ...] = ()
    unmade: frozenset[str] = frozenset()  # names that left-out lines would have assigned


class Tangled(Exception):
    """A cell in which it takes too long to tell where statements end."""


def read_cells(path: Path) -> list[Cell]:
    """The code cells of a notebook in their order.

    Raises:
        SubmissionError: it is no notebook, not in Python, or has no code.
    """
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
        about = content.get("metadata", {})
        cells = content["cells"] if "cells" in content else [c for s in content["worksheets"] for c in s["cells"]]
        codes = [c.get("source", c.get("input", "")) for c in cells if c.get("cell_type") == "code"]
        texts = [code if isinstance(code, str) else "".join(code) for code in codes]
        language = (about.get("language_info") or {}).get("name") or (about.get("kernelspec") or {}).get("language")
    except OSError as error:
        raise SubmissionError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SubmissionError(f"{path}: not a Jupyter notebook; save it again, or give a .py file") from None
    if language and not str(language).lower().startswith(("python", "ipython")):
        raise SubmissionError(f"{path}: a notebook in {language}; a submission is written in Python")
    if not any(text.strip() for text in texts):
        raise SubmissionError(f"{path}: a notebook without code cells; define `unlearning` in one")
    try:
        return [plain_cell(number, text) for number, text in enumerate(texts, start=1)]
    except Tangled as error:
        raise SubmissionError(f"{path}, {error}") from None


def plain_cell(number: int, text: str) -> Cell:
    """A cell without its magics, shell lines and help."""
    lines = re.split(r"\r\n|\r|\n", text)
    first = next((k for k, line in enumerate(lines) if line.strip()), 0)
    if lines[first].startswith("%%"):
        name = re.split(r"\s", lines[first][2:], maxsplit=1)[0]
        told = lines[first].strip()
        if name not in RUN_ANYWAY:
            return Cell(number, "\n" * (len(lines) - 1), (f"`{told}` with its whole cell",))
        lines[first] = ""
        rest = plain_cell(number, "\n".join(lines))
        return Cell(number, rest.text, (f"`{told}`", *rest.left_out), rest.unmade)
    return _without_magics(number, lines)


def _without_magics(number: int, lines: list[str]) -> Cell:
    if _is_python("\n".join(lines)):
        return Cell(number, "\n".join(lines))
    kept, told, unmade, going_on, ended = [], [], set(), False, Ends(number)
    for line in lines:
        if going_on or (_is_jupyters(line) and ended.before(kept)):
            told += [] if going_on else [f"`{line.strip()}`"]
            unmade |= set() if going_on else set(re.findall(r"\w+", _assigned(line)))
            going_on = line.rstrip().endswith("\\")
            kept.append(_nothing(line))
        else:
            kept.append(line)
    return Cell(number, "\n".join(kept), tuple(told), frozenset(unmade))


def _nothing(line: str) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    return f"{indent}pass" if indent else ""


def _is_jupyters(line: str) -> bool:
    bare = line.strip()
    if bare.startswith("#"):
        return False
    if bare.startswith(("%", "!")) or HELP.fullmatch(bare.removesuffix(";").rstrip()) or _assigned(line):
        return True
    return bool(COMMAND.match(line)) and not _is_python(bare)


def _assigned(line: str) -> str:
    """The names in `files = !ls`, which only Jupyter assigns; empty for any other line."""
    names, _, value = line.partition("=")
    return names.strip() if value.lstrip().startswith(("!", "%")) and NAMES.fullmatch(names.strip()) else ""


class Ends:
    """Where statements end in a cell that is not all Python; what has ended once is not looked at again."""

    def __init__(self, number: int):
        self._number, self._start, self._looks = number, 0, 0

    def before(self, kept: list[str]) -> bool:
        """Does a new statement begin after these lines, which only grow? Raises Tangled."""
        new = [line.lstrip() for line in kept[self._start :]]  # so that a part is no wrongly indented whole
        self._looks += len(new)
        if self._looks > MOST_LOOKS:
            raise Tangled(f"code cell {self._number}: too much of it is only Jupyter's; give a .py file")
        if _stands_alone(new):
            self._start = len(kept)
            return True
        return False


def _stands_alone(before: list[str]) -> bool:
    """Does a new statement begin after these lines, rather than go on with a text, a bracket or a backslash?"""
    if before and before[-1].rstrip().endswith("\\"):
        return False
    try:
        list(tokenize.generate_tokens(io.StringIO("\n".join(before) + "\n").readline))
    except tokenize.TokenError:
        return False
    except SyntaxError:  # odd indentation: told later, with its line
        return True
    return True


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except NOT_PYTHON:
        return False
    return True
