"""What `grade` does when the score is written: draw the page about it, and never fail by that.

How it is used: `draw_after_grading(options, grader)`
"""

from __future__ import annotations

import argparse
import sys

from local_eval.grader import Grader


def draw_after_grading(options: argparse.Namespace, grader: Grader) -> None:
    """Draw the page, unless --no-report; whatever goes wrong is told in one line, since the score is safe by now."""
    if options.no_report:
        return
    try:
        from local_eval.commands.drawing import draw_report  # now: figures take a second to load, and may be missing

        print(f"report: {draw_report(grader, options.submission)}")
    except Exception as error:
        print(f"no report: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
