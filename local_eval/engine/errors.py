"""The two kinds of errors that the command line tells without a traceback, so that it need not know their modules."""

LONGEST, END = 10_000, 1000  # characters of a message; what is wrong with a file may be a line as long as the file


class InputError(ValueError):
    """What was given cannot be used: exit code 2. The message names the file or value, what is wrong and what to do."""

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= LONGEST else f"{text[: LONGEST - END]} ... {text[-END:]}"


class WorkError(Exception):
    """The work could not be done, or not wholly: exit code 1. The message says what is kept and what to do."""
