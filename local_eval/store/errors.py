"""The two kinds of errors that the command line tells without a traceback, so that it need not know their modules."""

import errno

LONGEST, END = 10_000, 1000  # characters of a message; what is wrong with a file may be a line as long as the file


class InputError(ValueError):
    """What was given cannot be used: exit code 2. The message names the file or value, what is wrong and what to do."""

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= LONGEST else f"{text[: LONGEST - END]} ... {text[-END:]}"


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
