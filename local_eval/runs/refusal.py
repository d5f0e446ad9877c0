"""The error of everything that reads or runs a submission."""

from local_eval.engine.errors import InputError


class SubmissionError(InputError):
    """The submission breaks the contract; the message says where and what to change."""
