"""The error of everything that reads or runs a submission."""

from local_eval.engine.errors import InputError

# What Python's parser and compiler raise for what is not Python; the last two where it nests too deeply for them
NOT_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)


class SubmissionError(InputError):
    """The submission breaks the contract; the message says where and what to change."""
