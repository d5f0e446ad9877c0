"""The two kinds of expected errors, which are told without a traceback, and what is shown of an error or of output."""

import errno

LONGEST, END = 10_000, 1000  # characters of a message; what is wrong with a file may be a line as long as the file


class InputError(ValueError):
    """What was given cannot be used: exit code 2. The message names the file or value, what is wrong and what to do."""

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= LONGEST else f"{text[: LONGEST - END]} ... {text[-END:]}"


def first_line(error: BaseException | str) -> str:
    """The first line of an error's message that says something; the error's kind if it has no message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def printable(text: str) -> str:
    """Foreign text for a terminal: control codes, which could move the cursor or hide lines, are shown as they are."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def many(count: int, thing: str, things: str = "") -> str:
    """'1 run', '2 runs', '0 runs'; `things` where it is not that with an s."""
    return f"{count} {thing if count == 1 else things or thing + 's'}"


class WorkError(Exception):
    """The work could not be done, or not wholly: exit code 1. The message says what is kept and what to do."""


# What a machine can be out of or refuse in any place; elsewhere an OSError is a mistake of this kit's.
OF_THE_MACHINE = {
    number
    for name in ("EMFILE", "ENFILE", "ENOSPC", "EDQUOT", "EROFS", "EIO", "ESTALE", "ENOMEM", "EACCES", "EPERM")
    if (number := getattr(errno, name, None)) is not None  # Windows knows fewer
}


def said_by_the_machine(error: OSError) -> str | None:
    """One sentence about an error that is the machine's, not this kit's; None for others."""
    if error.errno not in OF_THE_MACHINE:
        return None
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror}{where}. What was finished is kept; mend that, then run the same command again"
