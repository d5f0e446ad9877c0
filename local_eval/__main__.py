"""The one command line: python -m local_eval COMMAND ...

Exit codes: 0 done, 1 the work failed or is incomplete, 2 bad input, 3 over the time budget, 4 cannot tell whether,
130 interrupted (the same command goes on).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from local_eval import commands as do
from local_eval.bench import PARTS
from local_eval.contract import SubmissionError
from local_eval.kaggle_commands import add_kaggle_commands
from local_eval.metric import MetricError
from local_eval.records import OutputError, RecordError
from local_eval.score import ScoreError
from local_eval.state_files import CheckpointError
from local_eval.task import TaskError, download_task

EXAMPLES = """\
examples:
  python -m local_eval grade baseline_finetune            grade the official starter on the embedded task
  python -m local_eval check my_method.py                 does it keep the contract? (seconds)
  python -m local_eval grade my_method.py --runs 64       screen an idea
  python -m local_eval oracles --runs 512                 train the oracles for a final grading, once
  python -m local_eval budget my_method.py                will 512 models fit into 8 hours on Kaggle?
  python -m local_eval export my_method.py                a notebook that runs alone on Kaggle
  python -m local_eval grade submission.zip               score checkpoints that were made elsewhere

The contract that a submission keeps is written in local_eval/contract.py.
"""


ALSO = "; or a zip or folder of unlearned_checkpoint_{i}.pth, which sets N"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        _find_data(options)
        return options.command(options)
    except (SubmissionError, TaskError, ScoreError, CheckpointError, RecordError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (OutputError, MetricError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130


def _find_data(options: argparse.Namespace) -> None:
    """Write --data-dir into the task's spec, which travels to workers, and download what is to be downloaded."""
    if getattr(options, "data_dir", None):
        options.task = f"{options.task}:{options.data_dir}"
    if getattr(options, "download", False):
        download_task(options.task)


def _parser() -> argparse.ArgumentParser:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m local_eval",
        description="The NeurIPS 2023 machine-unlearning grader on your own machine.",
        epilog=EXAMPLES,
        formatter_class=style,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, function, text: str, submission: bool = True, also: str = "") -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, formatter_class=style)
        sub.set_defaults(command=function)
        if submission:
            sub.add_argument("submission", help="name in submissions/, or path to a .py file" + also)
        sub.add_argument(
            "--task",
            default="digits",
            help="name in local_eval/tasks/, or path to a .py file; NAME:PATH says where its data is (%(default)s)",
        )
        sub.add_argument("--data-dir", metavar="DIR", help="where the task's data is; the same as --task NAME:DIR")
        sub.add_argument("--download", action="store_true", help="fetch the task's data there first, if it is public")
        sub.add_argument("--device", default=None, help="cpu, cuda, cuda:1 ... (default: cuda if there is one)")
        return sub

    grade = command("grade", do.grade, "Check, train missing oracles, make missing runs, score.", also=ALSO)
    run = command("run", do.run, "Only make the missing runs of a submission.")
    score = command("score", do.score, "Only score the runs and oracles that are on disk.")
    oracles = command("oracles", do.oracles, "Only train the missing oracles of a task.", submission=False)
    oracles.add_argument("--load-pool", type=Path, metavar="FILE", help="take what oracles this .npz file holds")
    oracles.add_argument("--save-pool", type=Path, metavar="FILE", help="put all N into one .npz file, for others")
    headroom = command(
        "headroom",
        do.headroom,
        "Is a task worth grading? Score originals that forgot nothing, beside the ceiling.",
        False,
    )
    compare = command(
        "compare", do.compare_all, "Grade several submissions with the same N and print one table.", False
    )
    compare.add_argument("names", nargs="*", help="submissions (default: all)")
    compare.add_argument("--write", type=Path, metavar="FILE", help="put the table between its markers in this file")
    compare.add_argument("--save", type=Path, metavar="FILE", help="also save the numbers as JSON")
    command("check", do.check, "Check the contract with a dry run on two batches.")
    _add_options(grade, run, compare, score, oracles, headroom)
    listing = commands.add_parser("list", help="List submissions and tasks.")
    listing.set_defaults(command=do.list_all)
    bench = command("bench", do.bench, "Time the kit beside the plain way on this machine, as ratios.", False)
    bench.add_argument("--parts", nargs="+", choices=(*PARTS, "pools"), default=list(PARTS), help="what to time (all)")
    bench.add_argument("--submission", default="baseline_finetune", help="whose runs are timed (%(default)s)")
    bench.add_argument("--models", type=int, default=512, metavar="N", help="N of the metric's part (%(default)s)")
    bench.add_argument(
        "--pool", type=int, default=64, metavar="N", help="oracles of each kind in 'pools' (%(default)s)"
    )
    bench.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    add_kaggle_commands(commands)
    return parser


def _add_options(
    grade: argparse.ArgumentParser,
    run: argparse.ArgumentParser,
    compare: argparse.ArgumentParser,
    score: argparse.ArgumentParser,
    *trainers: argparse.ArgumentParser,
) -> None:
    """What several of the grading commands take."""
    making = (grade, run, compare, *trainers)
    for sub in (*making, score):
        sub.add_argument(
            "--runs", type=int, default=64, metavar="N", help="models on each side; official 512 (%(default)s)"
        )
        sub.add_argument("--out", type=Path, default=Path("outputs"), help="folder for results (%(default)s)")
        sub.add_argument("--seed", type=int, default=0, help="of the runs; another seed is a fresh draw (%(default)s)")
    for sub in making:
        sub.add_argument(
            "--workers", type=_at_least_one, default=None, help="processes (default: one per core; on a GPU, measured)"
        )
    for sub in (grade, run, compare):
        sub.add_argument(
            "--timeout", type=float, default=900, help="seconds after which a run counts as hanging (%(default)s)"
        )
    grade.add_argument("--keep-checkpoints", action="store_true", help="keep all state dicts, in a submission.zip")
    for sub in (grade, score):
        sub.add_argument(
            "--budget-hours", type=float, metavar="H", help="no score is valid if 512 such runs take longer here"
        )
        sub.add_argument("--allow-missing", action="store_true", help="score although runs failed; the score says so")


def _at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of processes; give 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
