"""A quick look while tuning: a few runs, no score; with --watch again whenever the file is saved.

The runs are those that `grade` would make: it finds them when it comes, and makes only the others.

How to run it: python -m local_eval quick my_method.py --watch
"""

from __future__ import annotations

import argparse
import functools
import sys

from local_eval.commands.grading import device_of, engine_of
from local_eval.commands.telling import tell_failures
from local_eval.grader import Grader
from local_eval.metric.beyond.looks import Labels
from local_eval.metric.quick_look import FEWEST, QuickLook, quick_look
from local_eval.metric.score import LEAST_RUNS, ScoreError
from local_eval.runs.submissions import Submission
from local_eval.runs.watched import whenever_saved


def quick(options: argparse.Namespace) -> int:
    """Look once, or with --watch until Ctrl-C."""
    if options.runs < FEWEST:
        raise ScoreError(f"--runs {options.runs} shows no spread: give at least {FEWEST}")
    where, how = (options.task, options.out, options.runs, options.seed), (options.workers, options.timeout)
    grader = Grader(*where, device_of(options), *how, engine=engine_of(options))
    look = functools.partial(_look, grader, options.submission)
    if not options.watch:
        return look()
    for failed in whenever_saved(options.submission, look):
        text = f"{failed}\n" if failed else ""
        print(f"{text}watching {options.submission}; save it to look again, Ctrl-C to end", file=sys.stderr, flush=True)
    return 0


def _look(grader: Grader, name: str) -> int:
    submission = Submission.find(name)
    oracles = grader.finish_oracles(max(grader.runs, LEAST_RUNS))
    done, failures = grader.make_runs(name)
    if tell_failures(failures, grader.runs):
        return 1
    runs = [done[index] for index in sorted(done)]
    found = quick_look(runs, grader.cached_oracles() or oracles, *grader.original_records(), Labels.of(grader.task))
    print(table(found, submission.label, grader.task.name, len(runs)), flush=True)
    return 0


def table(found: QuickLook, submission: str, task: str, runs: int) -> str:
    """The look as a few aligned lines."""
    columns = (found.unlearned, found.retrained, found.original)
    rows = [(f"{key} accuracy", *(f"{getattr(c, key):.3f}" for c in columns)) for key in ("retain", "forget", "test")]
    attacks = ("unknown" if c.attack is None else f"{c.attack:.3f}" for c in columns)
    rows.append(("starting kit's attack", *attacks))
    rows.append(("shift, in sd", f"{found.shift[0]:.2f}", "0", f"  standard error {found.shift[1]:.2f}"))
    rows.append(("spread ratio", f"{found.ratio[0]:.2f}", "1", f"  standard error {found.ratio[1]:.2f}"))
    lines = [f"quick look at {submission} on {task}, {runs} runs: no score"]
    lines.append(f"  {'':<22}{'unlearned':>10}{'retrained':>10}{'original':>10}")
    lines += [f"  {name:<22}{one:>10}{two:>10}{three:>10}" for name, one, two, three in rows]
    lines.append(f"  {found.words}; {found.seconds:.2f} s a run. A score: grade {submission} --runs 64")
    return "\n".join(lines)
