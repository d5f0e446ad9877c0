"""What can be said on the command line. Imports nothing heavy: help and typos must not wait for torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from local_eval.isolation.sandbox import LEVELS
from local_eval.tasks.names import task_names

# What the commands of grading and looking take: one function for each group of options.
#
# Imports nothing heavy: help and typos must not wait for torch.


BOARD_PARTS = ("tune", "test")  # of the rows of published scores
BOARD_CONFIDENCES = ("A", "B", "C", "?")  # several sources; one, the author's own; inferred; open
BOARD_ROWS = Path(__file__).resolve().parents[2] / "results" / "kaggle_board_rows.csv"
PARTS = ("metric", "loader", "oracles", "runs")  # what `bench` times unless told otherwise
BOARD_TASKS = ("competition_small", "digits")  # the first that there is
SUBMISSION = "name in submissions/, or path to a .py or .ipynb file"
ALSO = "; or a zip or folder of unlearned_checkpoint_{i}.pth (.pt, .safetensors), or a .npz of logits, which sets N"


def add_write(sub: argparse.ArgumentParser, forms: Sequence[str], **old: str) -> None:
    """One option for all files that a command can write; `options.write` is a list of (form, path).

    Args:
        forms: endings of files, such as ".json".
        old: spellings of earlier versions, and the form that each wrote whatever the file's ending.
    """
    text = f"also write it to this file, in the form of its ending: {', '.join(forms)}"
    sub.add_argument(
        "--write", action="append", default=[], metavar="FILE", type=partial(_by_ending, tuple(forms)), help=text
    )
    for name, form in old.items():
        one = f"--{name.replace('_', '-')}"
        sub.add_argument(one, action="append", dest="write", type=partial(_in_form, form), help=argparse.SUPPRESS)


def _by_ending(forms: tuple[str, ...], text: str) -> tuple[str, Path]:
    path = Path(text)
    if path.suffix.lower() not in forms:
        raise argparse.ArgumentTypeError(f"{text}: the file's name must end in {' or '.join(forms)}")
    return path.suffix.lower(), path


def _in_form(form: str, text: str) -> tuple[str, Path]:
    return form, Path(text)


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


def add_batches(sub: argparse.ArgumentParser) -> None:
    """Where a submission's batches lie."""
    sub.add_argument(
        "--batches-on",
        choices=("device", "cpu"),
        default="device",
        help="where batches lie: with the net, or on the CPU as on Kaggle, for code that counts on that; on a GPU "
        "these are other runs, with results of their own (%(default)s)",
    )


def add_options_of_pools(oracles: argparse.ArgumentParser) -> None:
    """Files of oracles."""
    oracles.add_argument("--load-pool", type=Path, metavar="FILE", help="take what oracles this .npz file holds")
    oracles.add_argument(
        "--tf32",
        type=Path,
        metavar="FILE",
        help="train in TF32; refused unless FILE, of bench --parts tf32 --write FILE, shows that this changes nothing",
    )
    oracles.add_argument("--save-pool", type=Path, metavar="FILE", help="put all N into one .npz file, for others")


def add_options_of_report(report: argparse.ArgumentParser) -> None:
    """What to draw the page of."""
    report.add_argument("submission", help=SUBMISSION + ALSO)
    add_set(report)
    report.add_argument("--out", type=Path, default=Path("outputs"), help="folder for results (%(default)s)")
    report.add_argument("--seed", type=int, default=0, help="of the runs that were graded (%(default)s)")
    report.add_argument("--runs", type=int, metavar="N", help="of several gradings that with N runs (the largest)")
    add_sides(report)
    add_batches(report)
    report.add_argument("--no-images", action="store_true", help="show no images of the forget set")


def add_options_of_leaderboard(board: argparse.ArgumentParser) -> None:
    """What is ranked, and where the table goes."""
    board.add_argument("--runs", type=int, default=64, metavar="N", help="models on each side (%(default)s)")
    board.add_argument("--seed", type=int, default=0, help="of the runs (%(default)s)")
    board.add_argument("--out", type=Path, default=Path("outputs"), help="folder with the results (%(default)s)")
    add_write(board, (".csv", ".json", ".html", ".png"), write_csv=".csv", json=".json", html=".html")


def add_options_of_bench(bench: argparse.ArgumentParser) -> None:
    """What is timed."""
    parts = (*PARTS, "pools", "tf32", "cluster")
    bench.add_argument("--parts", nargs="+", choices=parts, default=list(PARTS), help="what to time (all)")
    bench.add_argument("--submission", default="baseline_finetune", help="whose runs are timed (%(default)s)")
    bench.add_argument("--models", type=int, default=512, metavar="N", help="N of the metric's part (%(default)s)")
    bench.add_argument(
        "--pool", type=int, default=64, metavar="N", help="oracles of each kind in 'pools' (%(default)s)"
    )
    add_write(bench, (".json",), json=".json")
    text = "instead, try this machine's GPU out in nine minutes: JSONs and a page, card.md, in this folder (%(const)s)"
    bench.add_argument("--card", nargs="?", const=Path("outputs/card"), type=Path, metavar="FOLDER", help=text)
    bench.add_argument("--rehearse", metavar="TASK", help="with --card: everything in small, on this task")


def add_options(**commands: argparse.ArgumentParser) -> None:
    """What several of the grading commands take: those that make models, runs or a score."""
    making = [sub for name, sub in commands.items() if name != "score"]
    for name, sub in commands.items():
        sub.add_argument(
            "--runs", type=int, default=64, metavar="N", help="models on each side; official 512 (%(default)s)"
        )
        sub.add_argument("--out", type=Path, default=Path("outputs"), help="folder for results (%(default)s)")
        text = argparse.SUPPRESS if name in ("grade", "score") else "of the runs; another is a fresh draw (%(default)s)"
        sub.add_argument("--seed", type=int, default=0, help=text)
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
    text = "of the runs; with several, each is graded and the scatter is shown (0)"
    sub.add_argument("--seeds", type=int, nargs="+", metavar="SEED", help=text)
    sub.add_argument("--repeat", type=int, default=1, help=argparse.SUPPRESS)  # --seed and the K - 1 that follow
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
        choices=BOARD_CONFIDENCES,
        default=list(BOARD_CONFIDENCES),
        help="only rows whose variant is known so well, such as A B C (all)",
    )
    board.add_argument(
        "--rows", type=Path, default=BOARD_ROWS, metavar="FILE", help="rows (results/kaggle_board_rows.csv)"
    )
    board.add_argument("--write", type=Path, metavar="FILE", help="write rows and scores to this CSV file, row by row")
    board.add_argument("--finished-only", action="store_true", help="score what runs are on disk, and make no others")
    board.add_argument("--fit", type=Path, metavar="FILE", help="write what `grade` predicts Kaggle's score from")
    board.add_argument("--draw", type=Path, metavar="FILE", help="draw the rows and the fit (.svg, .png)")


def _at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of processes; give 1 or more")
    return int(text)


# The commands for Kaggle: export, budget, submit. Imports nothing heavy.


def add_kaggle_commands(commands: argparse._SubParsersAction) -> None:
    """Add them to the command line's list."""
    _add_export(commands)
    _add_budget(commands)
    _add_submit(commands)


def _add_export(commands: argparse._SubParsersAction) -> None:
    text = "Write submissions as notebooks that run alone on Kaggle."
    export = commands.add_parser("export", help=text, description=text)
    export.set_defaults(command="kaggle:export")
    export.add_argument("submissions", nargs="*", help="names in submissions/, or paths to .py or .ipynb files")
    add_set(export)
    export.add_argument("--all", action="store_true", help="all of submissions/, and the walkthrough")
    text = "run each notebook here, as Kaggle would, with few runs (a minute or more)"
    export.add_argument("--rehearse", action="store_true", help=text)
    export.add_argument("--out", type=Path, default=Path("notebooks"), help="folder for notebooks (%(default)s)")


def _add_budget(commands: argparse._SubParsersAction) -> None:
    text = "Will 512 models fit into 8 hours on Kaggle? Exit codes: 0 fits, 3 does not fit, 4 cannot tell."
    budget = commands.add_parser("budget", help=text, description=text)
    budget.set_defaults(command="kaggle:budget")
    budget.add_argument("submission", nargs="?", help=SUBMISSION)
    add_set(budget)
    budget.add_argument("--all", action="store_true", help="a table of all of submissions/; exit code 0")
    add_write(budget, (".md",), readme=".md")
    budget.add_argument("--task", default="digits", help="what to time on (%(default)s)")
    add_changes(budget)
    budget.add_argument("--device", default=None, help="cpu, cuda, cuda:1 ... (default: cuda if there is one)")
    add_batches(budget)
    budget.add_argument("--repeats", type=int, default=3, help="counted runs (%(default)s)")
    budget.add_argument("--stock-epoch-seconds", type=float, metavar="S", help="from a notebook's calibration cell")
    budget.add_argument("--timeout", type=float, default=900, help="seconds for a single run (%(default)s)")


def _add_submit(commands: argparse._SubParsersAction) -> None:
    text = "Push a submission's notebook to Kaggle, wait for it, and submit it to the competition."
    submit = commands.add_parser("submit", help=text, description=text)
    submit.set_defaults(command="kaggle:submit")
    submit.add_argument("submission", help=SUBMISSION)
    add_set(submit)
    submit.add_argument("--dry-run", action="store_true", help="show every call, send nothing")
    submit.add_argument("--message", help="description on Kaggle (default: name and hash of the source)")
    submit.add_argument("--poll-seconds", type=float, default=30, help="between looks at the notebook (%(default)s)")
    submit.add_argument("--wait-hours", type=float, default=12, help="for the notebook to finish (%(default)s)")


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

The contract that a submission keeps is written in local_eval/methods/contract.py.
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
    add_set(check)
    for sub in (graders["grade"], graders["run"], check):
        add_sandbox(sub)
    for sub in (*(graders[name] for name in ("grade", "run", "quick", "score")), compare, check):
        add_batches(sub)
    text = "Which layers of the sandbox for strangers' submissions does this machine have?"
    commands.add_parser("sandbox", help=text, description=text).set_defaults(command="looking:sandbox")
    board = command(
        "board", "studies.board:board", "Grade published variants and put the official scores beside.", False
    )
    add_options(**graders, compare=compare, board=board)
    add_options_of_quick(graders["quick"])
    add_options_of_board(board)
    commands.add_parser("list", help="List submissions and tasks.").set_defaults(command="request:list_all")
    bench = command("bench", "looking:bench", "Time the kit beside the plain way, as ratios.", False)
    add_options_of_bench(bench)
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
        sub.add_argument("submission", help=SUBMISSION)
        add_set(sub)
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
        add_changes(sub)
    return sub


def _add_grading(command: Command) -> dict[str, argparse.ArgumentParser]:
    """The commands that make runs and oracles, by name."""
    grade = command("grade", "grading:grade", "Check, train missing oracles, make missing runs, score.", False)
    several = "Several are graded one after the other; none lists them"
    grade.add_argument("submissions", nargs="*", help=f"{SUBMISSION}{ALSO}. {several}")
    add_set(grade)
    add_sides(grade, both=True)
    run = command("run", "grading:run", "Only make the missing runs of a submission.")
    quick = command("quick", "looking:quick", "Look at a few runs while you tune: accuracies, shift, spread; no score.")
    score = command("score", "grading:score", "Only score the runs and oracles that are on disk.")
    add_sides(score)
    oracles = command("oracles", "grading:oracles", "Only train the missing oracles of a task.", submission=False)
    add_options_of_pools(oracles)
    text = "Is a task worth grading? Score originals that forgot nothing, beside the ceiling."
    headroom = command("headroom", "grading:headroom", text, False)
    return {"grade": grade, "run": run, "score": score, "quick": quick, "oracles": oracles, "headroom": headroom}


def _add_looking(command: Command) -> argparse.ArgumentParser:
    """The commands that put results side by side; returns `compare`, which may also make runs."""
    text = "Grade several submissions with the same N and print one table."
    compare = command("compare", "grading:compare_all", text, False)
    compare.add_argument("names", nargs="*", help="submissions (default: all)")
    add_set(compare)
    add_write(compare, (".md", ".json"), save=".json")
    compare.add_argument("--pairs", action="store_true", help="say of every two which is better (of two: always)")
    text = "Draw the page of what was graded: one report.html, and its figures as PNGs."
    add_options_of_report(command("report", "looking:report", text, submission=False))
    text = "Rank all that is graded on a task with the same N, from what is on disk. Nothing is run."
    add_options_of_leaderboard(command("leaderboard", "looking:leaderboard", text, False))
    return compare
