"""What the commands of grading and looking take: one function for each group of options.

Imports nothing heavy: help and typos must not wait for torch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from local_eval.board.rows import CONFIDENCES, ROWS
from local_eval.board.rows import PARTS as BOARD_PARTS
from local_eval.engine.sandbox_levels import LEVELS
from local_eval.tasks.names import task_names

PARTS = ("metric", "loader", "oracles", "runs")  # what `bench` times unless told otherwise
BOARD_TASKS = ("competition_small", "digits")  # the first that there is
SUBMISSION = "name in submissions/, or path to a .py or .ipynb file"
ALSO = "; or a zip or folder of unlearned_checkpoint_{i}.pth (.pt, .safetensors), or a .npz of logits, which sets N"


def add_set(sub: argparse.ArgumentParser) -> None:
    """Constants of a submission."""
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a constant of the submission, such as --set EPOCHS=3; also written fanchuan[EPOCHS=3]",
    )


def add_changes(sub: argparse.ArgumentParser) -> None:
    """What is changed in the task."""
    changes = sub.add_argument_group("changes of the task", "its oracles are trained as the changed task says")
    changes.add_argument(
        "--original", metavar="FILE", help="unlearn from this model: .pth, .pt, .safetensors, original.npz"
    )
    changes.add_argument(
        "--net", metavar="NAME", help="another network: a name of torchvision's, timm:NAME, or FILE.py:function"
    )
    changes.add_argument("--start", metavar="FILE", help="pretrained weights that original and oracles start from")
    changes.add_argument("--epochs", type=int, metavar="N", help="of the recipe")
    changes.add_argument("--lr", type=float, metavar="X", help="of the recipe")
    changes.add_argument(
        "--recipe",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another field of the recipe, such as optimizer=sgd, momentum=0.9, flip=True (docs/tasks.md)",
    )


def add_sides(sub: argparse.ArgumentParser, both: bool = False) -> None:
    """Models that were made elsewhere."""
    form = "a folder or zip of checkpoints, or a .npz or .npy of logits or confidences"
    sub.add_argument(
        "--retrained", type=Path, metavar="PATH", help=f"retrained models of your own in place of oracles: {form}"
    )
    if both:
        sub.add_argument("--unlearned", type=Path, metavar="PATH", help="the same in place of a submission; it sets N")


def add_sandbox(sub: argparse.ArgumentParser) -> None:
    """Whether runs are confined."""
    sub.add_argument(
        "--sandbox",
        nargs="?",
        const="full",
        choices=tuple(LEVELS),
        help="for a stranger's code: no network, none of your files; refused where that cannot be had (level: full)",
    )


def add_options_of_pools(oracles: argparse.ArgumentParser) -> None:
    """Files of oracles."""
    oracles.add_argument("--load-pool", type=Path, metavar="FILE", help="take what oracles this .npz file holds")
    oracles.add_argument("--save-pool", type=Path, metavar="FILE", help="put all N into one .npz file, for others")


def add_options_of_report(report: argparse.ArgumentParser) -> None:
    """What to draw the page of."""
    report.add_argument("submission", help=SUBMISSION + ALSO)
    add_set(report)
    report.add_argument("--out", type=Path, default=Path("outputs"), help="folder for results (%(default)s)")
    report.add_argument("--seed", type=int, default=0, help="of the runs that were graded (%(default)s)")
    add_sides(report)
    report.add_argument("--no-images", action="store_true", help="show no images of the forget set")


def add_options_of_leaderboard(board: argparse.ArgumentParser) -> None:
    """What is ranked, and where the table goes."""
    board.add_argument("--runs", type=int, default=64, metavar="N", help="models on each side (%(default)s)")
    board.add_argument("--seed", type=int, default=0, help="of the runs (%(default)s)")
    board.add_argument("--out", type=Path, default=Path("outputs"), help="folder with the results (%(default)s)")
    for kind in ("--write-csv", "--json", "--html"):
        board.add_argument(kind, type=Path, metavar="FILE", help=f"also write it as {kind[-4:].strip('-').upper()}")


def add_options_of_bench(bench: argparse.ArgumentParser) -> None:
    """What is timed."""
    bench.add_argument(
        "--parts", nargs="+", choices=(*PARTS, "pools", "cluster"), default=list(PARTS), help="what to time (all)"
    )
    bench.add_argument("--submission", default="baseline_finetune", help="whose runs are timed (%(default)s)")
    bench.add_argument("--models", type=int, default=512, metavar="N", help="N of the metric's part (%(default)s)")
    bench.add_argument(
        "--pool", type=int, default=64, metavar="N", help="oracles of each kind in 'pools' (%(default)s)"
    )
    bench.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")


def add_options(**commands: argparse.ArgumentParser) -> None:
    """What several of the grading commands take: those that make models, runs or a score."""
    making = [sub for name, sub in commands.items() if name != "score"]
    for sub in commands.values():
        sub.add_argument(
            "--runs", type=int, default=64, metavar="N", help="models on each side; official 512 (%(default)s)"
        )
        sub.add_argument("--out", type=Path, default=Path("outputs"), help="folder for results (%(default)s)")
        sub.add_argument("--seed", type=int, default=0, help="of the runs; another seed is a fresh draw (%(default)s)")
    for sub in making:
        sub.add_argument(
            "--workers", type=_at_least_one, default=None, help="processes (default: one per core; on a GPU, measured)"
        )
        sub.add_argument(
            "--engine", choices=("local", "ray"), default="local", help="who makes the models: this machine or Ray"
        )
        sub.add_argument(
            "--address", metavar="A", help="of a Ray cluster, such as auto or host:6379 (default: one just for this)"
        )
    for sub in (commands[name] for name in ("grade", "run", "compare", "quick")):
        sub.add_argument(
            "--timeout", type=float, default=900, help="seconds after which a run counts as hanging (%(default)s)"
        )
    commands["grade"].add_argument("--no-report", action="store_true", help="draw no report.html of the score")
    commands["grade"].add_argument(
        "--keep-checkpoints", action="store_true", help="keep all state dicts, in a submission.zip"
    )
    for sub in (commands["grade"], commands["score"]):
        sub.add_argument(
            "--budget-hours", type=float, metavar="H", help="no score is valid if 512 such runs take longer here"
        )
        sub.add_argument("--allow-missing", action="store_true", help="score although runs failed; the score says so")
        _add_options_of_several(sub)


def _add_options_of_several(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--repeat", type=int, default=1, metavar="K", help="also grade with the K - 1 seeds that follow")
    sub.add_argument(
        "--originals",
        type=int,
        metavar="M",
        help="also grade runs that start from M original models in turn, not from the official one",
    )


def add_options_of_quick(quick: argparse.ArgumentParser) -> None:
    """A small N, and the loop of looks."""
    quick.set_defaults(runs=8)
    quick.add_argument("--watch", action="store_true", help="look again whenever the file is saved, until Ctrl-C")


def add_options_of_board(board: argparse.ArgumentParser) -> None:
    """Which rows, and where what they score goes."""
    board.set_defaults(runs=32, task=next(name for name in BOARD_TASKS if name in task_names()))
    board.add_argument("--timeout", type=float, default=900, help="seconds after which a run counts as hanging")
    board.add_argument("--part", choices=(*BOARD_PARTS, "all"), default="all", help="of the rows (%(default)s)")
    board.add_argument(
        "--confidence",
        nargs="+",
        choices=CONFIDENCES,
        default=list(CONFIDENCES),
        help="only rows whose variant is known so well, such as A B C (all)",
    )
    board.add_argument("--rows", type=Path, default=ROWS, metavar="FILE", help="rows (results/kaggle_board_rows.csv)")
    board.add_argument("--write", type=Path, metavar="FILE", help="write rows and scores to this CSV file, row by row")
    board.add_argument("--finished-only", action="store_true", help="score what runs are on disk, and make no others")
    board.add_argument("--fit", type=Path, metavar="FILE", help="write what `grade` predicts Kaggle's score from")
    board.add_argument("--draw", type=Path, metavar="FILE", help="draw the rows and the fit (.svg, .png)")


def _at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of processes; give 1 or more")
    return int(text)
