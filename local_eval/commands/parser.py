"""What can be said on the command line. Imports nothing heavy: help and typos must not wait for torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from local_eval.commands import options
from local_eval.commands.kaggle_options import add_kaggle_commands

EXAMPLES = """\
examples:
  python -m local_eval grade baseline_finetune            grade the official starter on the embedded task
  python -m local_eval check my_method.py                 does it keep the contract? (seconds)
  python -m local_eval check --task my_images.csv         what is understood of your own images?
  python -m local_eval quick my_method.py --watch         look at 8 runs whenever you save the file; no score
  python -m local_eval grade my_method.py --runs 64       screen an idea
  python -m local_eval grade one.py two.py fanchuan       several, with a table at the end
  python -m local_eval report my_method.py                what was graded, as one page with figures
  python -m local_eval oracles --runs 512                 train the oracles for a final grading, once
  python -m local_eval budget my_method.py                will 512 models fit into 8 hours on Kaggle?
  python -m local_eval export my_method.py                a notebook that runs alone on Kaggle
  python -m local_eval grade submission.zip               score checkpoints that were made elsewhere

The contract that a submission keeps is written in local_eval/runs/contract.py.
"""

UNCHANGED = ("board", "bench")  # which are about the kit's own tasks
Command = Callable[..., argparse.ArgumentParser]  # (name, function, text, submission=True) -> its parser


def make_parser() -> argparse.ArgumentParser:
    """The parser; `options.command` says which function does the work, as "module of commands:function"."""
    parser = argparse.ArgumentParser(
        prog="python -m local_eval",
        description="The NeurIPS 2023 machine-unlearning grader on your own machine.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    command = partial(_command, commands)
    graders = _add_grading(command)
    compare = _add_looking(command)
    check = command("check", "grading:check", "Check the contract with a dry run on two batches; or a task.", False)
    check.add_argument("submission", nargs="?", help="as in grade; without one, tell what was understood of the task")
    options.add_set(check)
    for sub in (graders["grade"], graders["run"], check):
        options.add_sandbox(sub)
    text = "Which layers of the sandbox for strangers' submissions does this machine have?"
    commands.add_parser("sandbox", help=text, description=text).set_defaults(command="sandbox:sandbox")
    board = command("board", "board:board", "Grade published variants and put the official scores beside.", False)
    options.add_options(**graders, compare=compare, board=board)
    options.add_options_of_quick(graders["quick"])
    options.add_options_of_board(board)
    commands.add_parser("list", help="List submissions and tasks.").set_defaults(command="listing:list_all")
    bench = command("bench", "grading:bench", "Time the kit beside the plain way on this machine, as ratios.", False)
    options.add_options_of_bench(bench)
    add_kaggle_commands(commands)
    return parser


def _command(
    commands: argparse._SubParsersAction, name: str, function: str, text: str, submission: bool = True
) -> argparse.ArgumentParser:
    """Add a command that works on a task, and on one submission unless it says otherwise."""
    style = argparse.RawDescriptionHelpFormatter
    sub = commands.add_parser(name, help=text, description=text, formatter_class=style)
    sub.set_defaults(command=function)
    if submission:
        sub.add_argument("submission", help=options.SUBMISSION)
        options.add_set(sub)
    sub.add_argument(
        "--task",
        default="digits",
        help="name in local_eval/tasks/, path to a .py file, or your images: a .csv file or a folder; NAME:PATH "
        "says where a task's data is (%(default)s)",
    )
    sub.add_argument("--data-dir", metavar="DIR", help="where the task's data is; the same as --task NAME:DIR")
    sub.add_argument("--download", action="store_true", help="fetch the task's data there first, if it is public")
    sub.add_argument("--device", default=None, help="cpu, cuda, cuda:1 ... (default: cuda if there is one)")
    if name not in UNCHANGED:
        options.add_changes(sub)
    return sub


def _add_grading(command: Command) -> dict[str, argparse.ArgumentParser]:
    """The commands that make runs and oracles, by name."""
    grade = command("grade", "grading:grade", "Check, train missing oracles, make missing runs, score.", False)
    several = "Several are graded one after the other; none lists them"
    grade.add_argument("submissions", nargs="*", help=f"{options.SUBMISSION}{options.ALSO}. {several}")
    options.add_set(grade)
    options.add_sides(grade, both=True)
    run = command("run", "grading:run", "Only make the missing runs of a submission.")
    quick = command("quick", "quick:quick", "Look at a few runs while you tune: accuracies, shift, spread; no score.")
    score = command("score", "grading:score", "Only score the runs and oracles that are on disk.")
    options.add_sides(score)
    oracles = command("oracles", "grading:oracles", "Only train the missing oracles of a task.", submission=False)
    options.add_options_of_pools(oracles)
    text = "Is a task worth grading? Score originals that forgot nothing, beside the ceiling."
    headroom = command("headroom", "grading:headroom", text, False)
    return {"grade": grade, "run": run, "score": score, "quick": quick, "oracles": oracles, "headroom": headroom}


def _add_looking(command: Command) -> argparse.ArgumentParser:
    """The commands that put results side by side; returns `compare`, which may also make runs."""
    text = "Grade several submissions with the same N and print one table."
    compare = command("compare", "grading:compare_all", text, False)
    compare.add_argument("names", nargs="*", help="submissions (default: all)")
    options.add_set(compare)
    compare.add_argument("--write", type=Path, metavar="FILE", help="put the table between its markers in this file")
    compare.add_argument("--save", type=Path, metavar="FILE", help="also save the numbers as JSON")
    compare.add_argument("--pairs", action="store_true", help="say of every two which is better (of two: always)")
    text = "Draw the page of what was graded: one report.html, and its figures as PNGs."
    options.add_options_of_report(command("report", "report:report", text, submission=False))
    text = "Rank all that is graded on a task with the same N, from what is on disk. Nothing is run."
    options.add_options_of_leaderboard(command("leaderboard", "leaderboard:leaderboard", text, False))
    return compare
