"""The command `report`: draw the page of what was graded last.

How to run it: python -m local_eval report fanchuan --task digits
"""

from __future__ import annotations

import argparse

from local_eval.commands.drawing import draw_report
from local_eval.commands.grading import device_of
from local_eval.given_sides import AgainstGiven
from local_eval.grader import Grader


def report(options: argparse.Namespace) -> int:
    """Draw the page, and say where it is."""
    grader = Grader(options.task, options.out, seed=options.seed, device=device_of(options))
    if options.retrained:
        grader = AgainstGiven.like(grader, options.retrained, look=False)
    print(f"report: {draw_report(grader, options.submission, not options.no_images)}")
    return 0
