"""Lines of text: how wide a terminal is, sentences broken to that width, names that are too long cut, for notebooks.

What is written to a file or a pipe has no width, and nothing of it is broken or cut.

How it is used: print(*wrapped(sentence, terminal_width(), hang=2), sep="\\n")
"""

import html
import shutil
import sys
import textwrap

NARROWEST = 12  # characters that are left of a name, or of a line beside what it is indented by
CUT = "..."


def terminal_width() -> int | None:
    """Characters in a line of the terminal that standard output is; None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def wrapped(text: str, width: int | None, hang: int = 0) -> list[str]:
    """The lines of a sentence; those after the first are indented by `hang`. One line if there is no width."""
    if width is None or len(text) <= width:
        return [text]
    how = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(text, max(width, hang + NARROWEST), subsequent_indent=" " * hang, **how)


def short(text: str, longest: int) -> str:
    """The text, cut before its end if it is longer: paths differ there."""
    if len(text) <= longest:
        return text
    kept = max(longest - len(CUT), 2)
    return text[: kept // 3] + CUT + text[len(text) - (kept - kept // 3) :]


def in_notebook(text: str) -> str:
    """Lines of text as a notebook shows them below a cell."""
    return f"<pre>{html.escape(text)}</pre>"
