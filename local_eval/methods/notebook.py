"""A notebook as a submission: its code cells without what only Jupyter understands, `unlearning` and what it needs.

Taken are the top-level statements of the code cells by which the names come about that `unlearning` needs: imports,
functions, classes, assignments. The rest (loading the net, the loop over 512 checkpoints, zipping, plots) is not run.
Lines keep their places, so that messages can name a cell. What could then mean something else is refused.

How it is used: `extract(path)` in methods/submission.py.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from local_eval.methods.signature import SIGNATURE, functions_named
from local_eval.methods.source import DEFINITIONS, IMPORTS, NOT_PYTHON, Statement, SubmissionError, stored
from local_eval.tasks.own_code import code_shape

# The code cells of a notebook as Python, without what only Jupyter understands: magics, shell lines, help.
#
# Line numbers stay: what is left out leaves an empty line, or `pass` inside a block.


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
        reported = lines[first].strip()
        if name not in RUN_ANYWAY:
            return Cell(number, "\n" * (len(lines) - 1), (f"`{reported}` with its whole cell",))
        lines[first] = ""
        rest = plain_cell(number, "\n".join(lines))
        return Cell(number, rest.text, (f"`{reported}`", *rest.left_out), rest.unmade)
    return _without_magics(number, lines)


def _without_magics(number: int, lines: list[str]) -> Cell:
    if _is_python("\n".join(lines)):
        return Cell(number, "\n".join(lines))
    kept, reported, unmade, going_on, ended = [], [], set(), False, Ends(number)
    for line in lines:
        if going_on or (_is_jupyters(line) and ended.before(kept)):
            reported += [] if going_on else [f"`{line.strip()}`"]
            unmade |= set() if going_on else set(re.findall(r"\w+", _assigned(line)))
            going_on = line.rstrip().endswith("\\")
            kept.append(_nothing(line))
        else:
            kept.append(line)
    return Cell(number, "\n".join(kept), tuple(reported), frozenset(unmade))


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


MOST = 6  # left-out lines that are told one by one
MOVE = "move it into a function or a constant that does without"


@dataclass(frozen=True)
class Extracted:
    """The Python of a notebook."""

    text: str
    starts: tuple[int, ...]  # line at which every code cell begins
    left_out: tuple[str, ...]  # what was not taken, in words

    def cell_of(self, line: int) -> tuple[int, int]:
        """The code cell, from 1, and the line in it of a line of the text."""
        cell = max(1, bisect_right(self.starts, line))
        return cell, line - self.starts[cell - 1] + 1

    def place(self, line: int) -> str:
        """Where a line of the text stands in the notebook."""
        return "code cell {}, line {}".format(*self.cell_of(line))


def extract(path: Path) -> Extracted:
    """The text that runs of a notebook.

    Raises:
        SubmissionError: no notebook, not Python, or what `unlearning` needs comes from code that is not run.
    """
    try:
        return _extracted(path)
    except RecursionError:
        raise SubmissionError(f"{path}: its code nests too deeply to be read; write it flatter") from None


def _extracted(path: Path) -> Extracted:
    cells = read_cells(path)
    text = "\n".join(cell.text for cell in cells) + "\n"
    starts = [1]
    for cell in cells[:-1]:
        starts.append(starts[-1] + cell.text.count("\n") + 1)
    whole = Extracted(text, tuple(starts), ())
    try:
        tree = ast.parse(text)
        statements = [Statement(node) for node in tree.body]
    except NOT_PYTHON as error:
        where = whole.place(getattr(error, "lineno", None) or 1)
        raise SubmissionError(
            f"{path}, {where}: not valid Python ({getattr(error, 'msg', error) or 'too deep'})"
        ) from error
    if not any("unlearning" in s.makes for s in statements):
        raise SubmissionError(f"{path}: no function {SIGNATURE}; {_written_elsewhere(cells) or functions_named(tree)}")
    kept, needed = _taken(statements)
    _check_made(path, whole, cells, statements, kept, needed)
    left = [s for s in statements if s not in kept]
    return Extracted(_without(text, left, kept), whole.starts, tuple(_reported(whole, cells, left)))


def _written_elsewhere(cells: list[Cell]) -> str:
    """What to do where cells are written to files instead of being run."""
    found = [line for cell in cells for line in cell.left_out if line.startswith(("`%%writefile", "`%%file"))]
    return f"{found[0].partition(' with ')[0]} is not run, but writes a file: give that file" if found else ""


def _taken(statements: list[Statement]) -> tuple[list[Statement], set[str]]:
    """The statements to run, in order, and the names that `unlearning` needs, directly or not."""
    needed, kept, grown = {"unlearning"}, [], True
    imported = {name for s in statements if isinstance(s.node, IMPORTS) for name in s.makes}
    defined = imported | {s.node.name for s in statements if isinstance(s.node, DEFINITIONS)}
    while grown:
        own = needed - imported  # a setting of a package is not a thing of the notebook's
        kept = [s for s in statements if _is_taken(s, needed, own, needed - defined)]
        wider = needed.union(*(s.needs for s in kept))
        grown, needed = wider != needed, wider
    return kept, needed


def _is_taken(statement: Statement, needed: set[str], own: set[str], values: set[str]) -> bool:
    node = statement.node
    if isinstance(node, ast.ImportFrom) and (node.module == "__future__" or node.names[0].name == "*"):
        return True
    return statement.runs and bool(statement.makes & needed or statement.changes & own or statement.calls_of & values)


def _check_made(
    path: Path, whole: Extracted, cells: list[Cell], statements: list[Statement], kept: list[Statement], needed: set
) -> None:
    """Raise SubmissionError where leaving code out would change what `unlearning` does."""
    imported = {name for s in statements if isinstance(s.node, IMPORTS) for name in s.makes}
    made: dict[str, Statement] = {}
    called: Statement | None = None
    for statement in statements:
        where = f"{path}, {whole.place(statement.first)}"
        if statement not in kept:
            called = called or (statement if "unlearning" in statement.needs else None)
            for name in sorted(statement.makes & needed | stored(statement.node) & (needed - imported)):
                text = "in code that is not run, because it is no import, function, class or plain assignment"
                raise SubmissionError(f"{where}: sets {name}, which unlearning needs, {text}; {MOVE}")
        elif not isinstance(statement.node, IMPORTS):
            for name in sorted(statement.touches(needed)):
                earlier = made.setdefault(name, statement)
                if called and earlier.first < called.first and code_shape(earlier.node) != code_shape(statement.node):
                    first, loop = whole.place(earlier.first), whole.place(called.first)
                    text = f"sets {name} again, set in {first} and used by the call in {loop}"
                    raise SubmissionError(f"{where}: {text}; which one counts cannot be told: leave one")
    for cell in cells:
        for name in sorted(cell.unmade & needed - set(made)):
            text = f"unlearning needs {name}, which a line that only Jupyter understands would set"
            raise SubmissionError(f"{path}, code cell {cell.number}: {text}; {MOVE}")


def _reported(whole: Extracted, cells: list[Cell], left: list[Statement]) -> list[str]:
    """What was left out, in words."""
    found = [f"code cell {cell.number}: left out {', '.join(cell.left_out[:MOST])}" for cell in cells if cell.left_out]
    lines = whole.text.split("\n")
    by_cell: dict[int, list[Statement]] = {}
    for statement in left:
        by_cell.setdefault(whole.cell_of(statement.first)[0], []).append(statement)
    for number, statements in by_cell.items():
        shown = [s.shown(lines) for s in statements[:3]]
        more = f" and {len(statements) - 3} more" if len(statements) > 3 else ""
        calls = " (it calls unlearning: what it does before and after is not run)"
        reported = f"code cell {number}: not run, unlearning does not need it: {', '.join(shown)}{more}"
        found.append(reported + (calls if any("unlearning" in s.needs for s in statements) else ""))
    return found


def _without(text: str, left: list[Statement], kept: list[Statement]) -> str:
    """The text with these statements blank; line numbers stay."""
    taken = {line for s in kept for line in range(s.first, s.node.end_lineno + 1)}
    lines = [line.encode() for line in text.split("\n")]
    for statement in reversed(left):
        node, first, last = statement.node, statement.first - 1, statement.node.end_lineno - 1
        if taken.isdisjoint(range(first + 1, last + 2)):
            lines[first : last + 1] = [b""] * (last + 1 - first)
        else:  # `EPOCHS = 3; train()`
            rest = lines[last][node.end_col_offset :]
            begun = lines[first][: node.col_offset]
            lines[first : last + 1] = (begun + b"(None" + b"\n" * (last - first) + b")" + rest).split(b"\n")
    return b"\n".join(lines).decode()
