"""Make and score the runs of a submission: with one seed or several, from one original model and also from several.

How to run it: python -m local_eval grade fanchuan --originals 8 --repeat 3
"""

from __future__ import annotations

import argparse

from local_eval.commands.telling import OVER_BUDGET, say_scoring, tell_failures, tell_score
from local_eval.grade_draws import SeveralOriginals, repeats_of, seeds
from local_eval.grader import Grader
from local_eval.metric.score import Score
from local_eval.report.repeats import originals_line, repeats_line
from local_eval.runs.submissions import Submission


def with_originals(grader: Grader, options: argparse.Namespace) -> list[Grader]:
    """The grader with the official single original model, and with --originals one with several.

    Raises:
        ScoreError: numbers of originals or repeats that make no sense.
    """
    seeds(grader, options.repeat)
    if options.originals is None:
        return [grader]
    return [grader, SeveralOriginals.like(grader, options.originals)]


def make_runs(grader: Grader, options: argparse.Namespace) -> bool:
    """Make what is missing of all seeds' runs, and tell what failed; may they be scored?"""
    if isinstance(grader, SeveralOriginals):
        print(f"originals: {grader.room_of_originals()}", flush=True)
    keep = options.keep_checkpoints and not isinstance(grader, SeveralOriginals)
    for one in seeds(grader, options.repeat):
        failed = tell_failures(one.finish_runs(options.submission, keep=keep)[1], one.runs)
        if keep and not failed:
            print(f"checkpoints: {one.zip_checkpoints(options.submission)}")
        if failed and not options.allow_missing:
            return False
    return True


def score_all(graders: list[Grader], options: argparse.Namespace) -> tuple[int, Score]:
    """Score what is on disk, each grader's seeds; the exit code, and the official score."""
    say_scoring(len(graders[0].task.forget), options.runs)
    scores = [_score(grader, options) for grader in graders]
    if len(graders) > 1:
        print(originals_line(*scores, graders[1].originals))
    return OVER_BUDGET if any(found.within_budget is False for found in scores) else 0, scores[0]


def _score(grader: Grader, options: argparse.Namespace) -> Score:
    """Score every seed on its own, and tell the first one's score with the others beside it."""
    all_seeds = seeds(grader, options.repeat)
    repeated = repeats_of(all_seeds, options.submission)
    how = (options.submission, options.allow_missing, options.budget_hours)
    first, path = grader.score(*how, repeated)
    for one in all_seeds[1:]:
        one.score(*how)
    label = Submission.find(options.submission).label
    several = f" from {grader.originals} original models" if isinstance(grader, SeveralOriginals) else ""
    tell_score(first, path, label + several, grader)
    if repeated:
        print(repeats_line(repeated, first))
    return first
