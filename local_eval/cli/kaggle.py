"""The commands that lead to Kaggle: budget asks whether a method fits, export writes its notebook, submit sends it.

How to run them: python -m local_eval export fanchuan
"""

from __future__ import annotations

import sys

from local_eval.cli.arguments import Exit
from local_eval.cli.checking import device_of
from local_eval.cli.request import Request
from local_eval.isolation.cards import card_name
from local_eval.kaggle.budget import MARKER, Cost, budget_table, measure, project, report
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import Submission, submission_names
from local_eval.metric.score import ScoreError
from local_eval.report.compare import around_markers, write_between_markers
from local_eval.store.errors import printable
from local_eval.store.provenance import versions

VERDICTS = {"fits": Exit.DONE, "does not fit": Exit.OVER_BUDGET, "cannot tell": Exit.CANNOT_TELL}


def submit(request: Request) -> int:
    """Push a notebook, wait for it and submit it."""
    from local_eval.kaggle import submit as kaggle  # here, so that grading does not need the kaggle package

    if request.dry_run:
        print(kaggle.describe(request.submission, request.message, request.poll_seconds))
    else:
        kaggle.submit(request.submission, request.message, request.poll_seconds, request.wait_hours)
    return 0


def budget(request: Request) -> int:
    """Will 512 models fit into 8 hours on Kaggle?"""
    stock = request.stock_epoch_seconds
    if request.repeats < 1 or (stock is not None and not stock > 0):
        raise ScoreError("--repeats and --stock-epoch-seconds must be above 0")
    if bool(request.submission) == request.all:
        raise SubmissionError(f"name a submission, or give --all. Known: {', '.join(submission_names())}")
    if request.all:
        return _budget_of_all(request)
    cost = _measured(request, request.submission)
    projection = project(cost, stock)
    print(report(Submission.find(request.submission).label, cost, projection))
    return VERDICTS[projection.verdict]


def _budget_of_all(request: Request) -> int:
    for _, path in request.write:
        around_markers(path, MARKER)  # a file that cannot take the table should not wait for it
    costs = {}
    for name in submission_names():
        costs[name] = _measured(request, name)
        print(f"{name}: {costs[name].middle:.1f} stock epochs", file=sys.stderr)
    device = device_of(request)
    where = f"{request.task}, {versions(device, card_name(device))['device']}"
    table = budget_table(costs, where, request.stock_epoch_seconds)
    print(table)
    for _, path in request.write:
        write_between_markers(path, MARKER, table)
        print(f"written to {path}")
    return 0


def _measured(request: Request, name: str) -> Cost:
    how = request.repeats, request.timeout, request.batches_on
    return measure(name, request.task, device_of(request), *how)


def export(request: Request) -> int:
    """Write notebooks that run alone."""
    from local_eval.kaggle.export import export as write_notebook
    from local_eval.kaggle.export import export_walkthrough  # here, so that grading does not need nbformat

    names = request.submissions + (submission_names() if request.all else [])
    if not names:
        raise SubmissionError(f"name a submission, or give --all. Known: {', '.join(submission_names())}")
    for name in names:
        print(f"written: {write_notebook(Submission.find(name), request.out)}")
    if request.all:
        print(f"written: {export_walkthrough(request.out)}")
    failed = [name for name in names if request.rehearse and not _rehearsed(name)]
    return 1 if failed else 0


def _rehearsed(name: str) -> bool:
    """Run a notebook here as Kaggle would, and say what came of it; did it run through?"""
    from local_eval.kaggle.rehearse import RehearsalError, in_words, rehearse  # here, as it takes a kernel

    print(f"rehearsing {name}: its notebook is run twice in a folder like Kaggle's", file=sys.stderr, flush=True)
    try:
        print(in_words(rehearse(Submission.find(name)), name), flush=True)
    except RehearsalError as error:
        print(f"error: {name}: {printable(str(error))}", file=sys.stderr)
        return False
    return True
