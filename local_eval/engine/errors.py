"""The two kinds of errors that the command line tells without a traceback, so that it need not know their modules."""


class InputError(ValueError):
    """What was given cannot be used: exit code 2. The message names the file or value, what is wrong and what to do."""


class WorkError(Exception):
    """The work could not be done, or not wholly: exit code 1. The message says what is kept and what to do."""
