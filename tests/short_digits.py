"""`digits` with a seventh of its retain set, so that grading every method fits into a test run."""

from dataclasses import replace

from local_eval.tasks import digits
from local_eval.tasks.task import Task


def task() -> Task:
    """200 of 1,365 retain images and an original model of their own; everything else is as in `digits`."""
    whole = digits.task()
    return replace(whole, name="short digits", retain=whole.retain[slice(0, 200)], original=None)
