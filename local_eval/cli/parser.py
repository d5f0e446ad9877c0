"""What can be said on the command line. Imports nothing heavy: help and typos must not wait for torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from local_eval import __version__
from local_eval.cli.arguments import (
    CHANGES,
    CLUSTER,
    CONSOLE,
    ELSEWHERE,
    FILES,
    MODULE,
    NAMES_AND_FILES,
    RARE,
    SHELLS,
    USUAL,
    Parser,
    above_zero,
    at_least_one,
    completion,
    exit_codes,
    not_negative,
)
from local_eval.isolation.sandbox import LEVELS
from local_eval.store.files import KIT
from local_eval.tasks.names import task_names

# What the commands of grading and looking take: one function for each group of options.
#
# Imports nothing heavy: help and typos must not wait for torch.


BOARD_PARTS = ("tune", "test")  # of the rows of published scores
BOARD_CONFIDENCES = ("A", "B", "C", "?")  # several sources; one, the author's own; inferred; open
BOARD_ROWS = KIT / "results" / "kaggle_board_rows.csv"
PARTS = ("metric", "loader", "oracles", "runs")  # what `bench` times unless told otherwise
BOARD_TASKS = ("competition_small", "digits")  # the first that there is
FEWEST = 16, "the metric ranks methods wrongly. Use 64 for screening, 512 to compare"  # runs: LEAST_RUNS of a score
FEWEST_TO_LOOK_AT = 3, "no spread shows"
SUBMISSION = "name in submissions/, or path to a .py or .ipynb file"
ALSO = "; or a zip or folder of unlearned_checkpoint_{i}.pth (.pt, .safetensors), or a .npz of logits, which sets N"


def add_write(sub: Parser, forms: Sequence[str], **old: str) -> None:
    """One option for all files that a command can write; `options.write` is a list of (form, path).

    Args:
        forms: endings of files, such as ".json".
        old: spellings of earlier versions, and the form that each wrote whatever the file's ending.
    """
    text = f"also write it to this file, in the form of its ending: {', '.join(forms)}"
    usual = sub.group(USUAL)
    usual.add_argument(
        "--write", action="append", default=[], metavar="FILE", type=partial(_by_ending, tuple(forms)), help=text
    )
    for name, form in old.items():
        one = f"--{name.replace('_', '-')}"
        usual.add_argument(one, action="append", dest="write", type=partial(_in_form, form), help=argparse.SUPPRESS)


def _by_ending(forms: tuple[str, ...], text: str) -> tuple[str, Path]:
    path = Path(text)
    if path.suffix.lower() not in forms:
        raise argparse.ArgumentTypeError(f"{text}: the file's name must end in {' or '.join(forms)}")
    return path.suffix.lower(), path


def _in_form(form: str, text: str) -> tuple[str, Path]:
    return form, Path(text)


def add_set(sub: Parser) -> None:
    """Constants of a submission."""
    sub.group(USUAL).add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a constant of the submission, such as --set EPOCHS=3; also written fanchuan[EPOCHS=3]",
    )


def add_changes(sub: Parser) -> None:
    """What is changed in the task."""
    changes = sub.group(CHANGES)
    changes.description = "its oracles are trained as the changed task says"
    changes.add_argument(
        "--original", metavar="FILE", help="unlearn from this model: .pth, .pt, .safetensors, original.npz"
    )
    changes.add_argument(
        "--net", metavar="NAME", help="another network: a name of torchvision's, timm:NAME, or FILE.py:function"
    )
    changes.add_argument("--start", metavar="FILE", help="pretrained weights that original and oracles start from")
    choices = "another forget set: random:SEED, class:3, person:17, a file of ids; or vulnerable, protected, mixed"
    changes.add_argument("--forget", metavar="WHAT", help=choices)
    changes.add_argument("--epochs", type=int, metavar="N", help="of the recipe")
    changes.add_argument("--lr", type=float, metavar="X", help="of the recipe")
    changes.add_argument(
        "--recipe",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another field of the recipe, such as optimizer=sgd, momentum=0.9, flip=True (docs/tasks.md)",
    )


def add_sides(sub: Parser, both: bool = False) -> None:
    """Models that were made elsewhere."""
    form = "a folder or zip of checkpoints, or a .npz or .npy of logits or confidences"
    elsewhere = sub.group(ELSEWHERE)
    elsewhere.add_argument(
        "--retrained", type=Path, metavar="PATH", help=f"retrained models of your own in place of oracles: {form}"
    )
    if both:
        elsewhere.add_argument(
            "--unlearned", type=Path, metavar="PATH", help="the same in place of a submission; it sets N"
        )


def add_json(sub: Parser) -> None:
    """An answer for programs."""
    text = "for programs: one JSON object on standard output, all else on standard error"
    sub.group(USUAL).add_argument("--json", action="store_true", help=text)


def add_sandbox(sub: Parser) -> None:
    """Whether runs are confined."""
    sub.group(RARE).add_argument(
        "--sandbox",
        nargs="?",
        const="full",
        choices=tuple(LEVELS),
        help="for a stranger's code: no network, none of your files; refused where that cannot be had (level: full)",
    )


def add_batches(sub: Parser) -> None:
    """Where a submission's batches lie."""
    text = "where batches lie: with the net, or on the CPU as on Kaggle, for code that counts on that; on a GPU these "
    text += "are other runs, with results of their own (%(default)s)"
    sub.group(RARE).add_argument("--batches-on", choices=("device", "cpu"), default="device", help=text)


def add_options_of_pools(oracles: Parser) -> None:
    """Files of oracles."""
    elsewhere = oracles.group(ELSEWHERE)
    elsewhere.add_argument("--load-pool", type=Path, metavar="FILE", help="take what oracles this .npz file holds")
    elsewhere.add_argument("--save-pool", type=Path, metavar="FILE", help="put all N into one .npz file, for others")
    text = "train in TF32; refused unless FILE, of bench --parts tf32 --write FILE, shows that this changes nothing"
    oracles.group(RARE).add_argument("--tf32", type=Path, metavar="FILE", help=text)


def add_options_of_report(report: Parser) -> None:
    """What to draw the page of."""
    _add_submission(report, "submission", help=SUBMISSION + ALSO)
    add_set(report)
    usual, rare = report.group(USUAL), report.group(RARE)
    usual.add_argument("--out", type=Path, default=Path("outputs"), help="folder for results (%(default)s)")
    rare.add_argument("--seed", type=not_negative, default=0, help="of the runs that were graded (%(default)s)")
    text = "of several gradings that with N runs (the largest)"
    usual.add_argument("--runs", type=at_least_one, metavar="N", help=text)
    add_sides(report)
    add_batches(report)
    rare.add_argument("--no-images", action="store_true", help="show no images of the forget set")


def add_options_of_sharing(share: Parser, opened: Parser) -> None:
    """What is shared, and what is done with a file that somebody has shared."""
    usual, rare = share.group(USUAL), share.group(RARE)
    text = "of several gradings that with N runs (the largest)"
    usual.add_argument("--runs", type=at_least_one, metavar="N", help=text)
    usual.add_argument("--out", type=Path, default=Path("outputs"), help="folder with the results (%(default)s)")
    usual.add_argument("--write", type=Path, metavar="FILE", help="name of the file, .zip (<method>-<task>-N<N>.zip)")
    rare.add_argument("--seed", type=not_negative, default=0, help="of the runs that were graded (%(default)s)")
    rare.add_argument("--weights", action="store_true", help="put the original model in, for --rerun")
    rare.add_argument("--as-written", action="store_true", help="although the source itself names folders or people")
    usual, rare = opened.group(USUAL), opened.group(RARE)
    opened.add_argument("file", type=Path, metavar="FILE", help="that `share` has made")
    usual.add_argument("--to", type=Path, metavar="DIR", help="folder for the page (<FILE>-opened)")
    text = "make these runs again, which RUNS THE FILE'S CODE, and compare bits"
    usual.add_argument("--rerun", type=not_negative, nargs="+", metavar="RUN", help=text)
    text = "for --rerun: the task, where it does not come with the kit or has data of its own"
    rare.add_argument("--task", help=text)
    levels = (*LEVELS, "none")
    text = "for --rerun: how the code is confined (%(default)s; refused where that cannot be had)"
    rare.add_argument("--sandbox", choices=levels, default="full", help=text)
    rare.add_argument("--device", default=None, help=DEVICE)
    rare.add_argument("--out", type=Path, default=Path("outputs"), help="folder with original models (%(default)s)")
    rare.add_argument("--timeout", type=above_zero, default=900, help="seconds for a single run (%(default)s)")


def add_options_of_leaderboard(board: Parser) -> None:
    """What is ranked, and where the table goes."""
    usual = board.group(USUAL)
    usual.add_argument("--runs", type=int, default=64, metavar="N", help="models on each side (%(default)s)")
    board.set_defaults(fewest=FEWEST)
    usual.add_argument("--out", type=Path, default=Path("outputs"), help="folder with the results (%(default)s)")
    add_markdown(board)
    add_write(board, (".csv", ".json", ".html", ".png"), write_csv=".csv", json=".json", html=".html")
    board.group(RARE).add_argument("--seed", type=not_negative, default=0, help="of the runs (%(default)s)")


def add_markdown(sub: Parser) -> None:
    """Whether the table is printed as Markdown."""
    sub.group(USUAL).add_argument("--markdown", action="store_true", help="print the table as Markdown")


def add_options_of_bench(bench: Parser) -> None:
    """What is timed."""
    usual = bench.group(USUAL)
    parts = (*PARTS, "pools", "tf32", "cluster")
    usual.add_argument("--parts", nargs="+", choices=parts, default=list(PARTS), help="what to time (all)")
    usual.add_argument("--submission", default="baseline_finetune", help="whose runs are timed (%(default)s)")
    usual.add_argument(
        "--models", type=at_least_one, default=512, metavar="N", help="N of the metric's part (%(default)s)"
    )
    usual.add_argument(
        "--pool", type=at_least_one, default=64, metavar="N", help="oracles of each kind in 'pools' (%(default)s)"
    )
    add_write(bench, (".json",), json=".json")
    text = "instead, try this machine's GPU out in nine minutes: JSONs and a page, card.md, in this folder (%(const)s)"
    usual.add_argument("--card", nargs="?", const=Path("outputs/card"), type=Path, metavar="FOLDER", help=text)
    usual.add_argument("--rehearse", metavar="TASK", help="with --card: everything in small, on this task")


def add_options(**commands: Parser) -> None:
    """What several of the grading commands take: those that make models, runs or a score."""
    making = [sub for name, sub in commands.items() if name != "score"]
    for name, sub in commands.items():
        usual = sub.group(USUAL)
        usual.add_argument(
            "--runs", type=int, default=64, metavar="N", help="models on each side; official 512 (%(default)s)"
        )
        sub.set_defaults(fewest=FEWEST)
        usual.add_argument("--out", type=Path, default=Path("outputs"), help="folder for results (%(default)s)")
        text = argparse.SUPPRESS if name in ("grade", "score") else "of the runs; another is a fresh draw (%(default)s)"
        sub.group(RARE).add_argument("--seed", type=not_negative, default=0, help=text)
    for sub in making:
        sub.group(USUAL).add_argument(
            "--workers", type=at_least_one, default=None, help="processes (default: one per core; on a GPU, measured)"
        )
        cluster = sub.group(CLUSTER)
        cluster.add_argument(
            "--engine", choices=("local", "ray"), default="local", help="who makes the models: this machine or Ray"
        )
        cluster.add_argument(
            "--address", metavar="A", help="of a Ray cluster, such as auto or host:6379 (default: one just for this)"
        )
    for sub in (commands[name] for name in ("grade", "run", "compare", "quick", "sweep")):
        sub.group(RARE).add_argument("--timeout", type=above_zero, default=900, help=HANGING)
    grade = commands["grade"]
    grade.group(USUAL).add_argument("--no-report", action="store_true", help="draw no report.html of the score")
    grade.group(RARE).add_argument(
        "--keep-checkpoints", action="store_true", help="keep all state dicts, in a submission.zip"
    )
    for sub in (grade, commands["score"]):
        rare = sub.group(RARE)
        rare.add_argument(
            "--budget-hours", type=above_zero, metavar="H", help="no score is valid if 512 such runs take longer here"
        )
        rare.add_argument("--allow-missing", action="store_true", help="score although runs failed; the score says so")
        _add_options_of_several(rare)


HANGING = "seconds after which a run counts as hanging (%(default)s)"


def _add_options_of_several(rare: argparse._ArgumentGroup) -> None:
    text = "of the runs; with several, each is graded and the scatter is shown (0)"
    rare.add_argument("--seeds", type=not_negative, nargs="+", metavar="SEED", help=text)
    rare.add_argument("--repeat", type=int, default=1, help=argparse.SUPPRESS)  # --seed and the K - 1 that follow
    rare.add_argument(
        "--originals",
        type=at_least_one,
        metavar="M",
        help="also grade runs that start from M original models in turn, not from the official one",
    )


def add_options_of_quick(quick: Parser) -> None:
    """A small N, and the loop of looks."""
    quick.set_defaults(runs=8, fewest=FEWEST_TO_LOOK_AT)
    quick.group(USUAL).add_argument(
        "--watch", action="store_true", help="look again whenever the file is saved, until Ctrl-C"
    )


def add_options_of_measuring(measures: Parser, relearn: Parser) -> None:
    """What is measured beyond a grading."""
    for sub in (measures, relearn):
        sub.group(USUAL).add_argument("--out", type=Path, default=Path("outputs"), help="folder (%(default)s)")
        sub.group(RARE).add_argument("--seed", type=not_negative, default=0, help="of the runs (%(default)s)")
        add_batches(sub)
    measures.set_defaults(fewest=FEWEST)
    usual = measures.group(USUAL)
    usual.add_argument("--runs", type=int, default=64, metavar="N", help="finished runs of each (%(default)s)")
    text = "retrained models that RMIA and IAM have as references (%(default)s)"
    usual.add_argument("--references", type=int, choices=(1, 2), default=1, help=text)
    add_markdown(measures)
    usual, rare = relearn.group(USUAL), relearn.group(RARE)
    text = "runs, and as many oracles, to train further (%(default)s)"
    usual.add_argument("--models", type=at_least_one, default=4, metavar="K", help=text)
    text = "on the retain set and a tenth of the forget set; what is measured is the rest of it"
    usual.add_argument("--tenth", action="store_true", help=text)
    text = "epochs of further training (%(default)s)"
    usual.add_argument("--relearn-epochs", type=at_least_one, default=10, metavar="E", help=text)
    usual.add_argument("--workers", type=at_least_one, default=None, help="processes (default: one per core)")
    rare.add_argument("--timeout", type=above_zero, default=900, help=HANGING)
    add_sandbox(relearn)


def add_options_of_sweep(sweep: Parser) -> None:
    """What is tried, and what choosing the best of it takes."""
    tried = "constants and what is tried of each: a list, or LOW..HIGH for a range, with --points"
    sweep.add_argument("values", nargs="*", metavar="NAME=VALUE,VALUE", help=tried)
    usual, rare = sweep.group(USUAL), sweep.group(RARE)
    usual.add_argument("--points", type=at_least_one, metavar="K", help="draw K points, by --seed (the whole grid)")
    rare.add_argument("--all-to-the-end", action="store_true", help="give up no point early, however hopeless")
    text = "of the last grading of the best (--seed + 1000)"
    rare.add_argument("--final-seed", type=not_negative, metavar="SEED", help=text)
    rare.add_argument("--no-final", action="store_true", help="do not grade the best again")
    sweep.parse_known_args = partial(_words_anywhere, "values", sweep.parse_known_args)


def _words_anywhere(field: str, parse: Callable, *given: object) -> tuple[argparse.Namespace, list[str]]:
    """What a parser says, where words of `field` may stand between options: argparse leaves them over."""
    found, left = parse(*given)
    setattr(found, field, [*getattr(found, field), *(word for word in left if not word.startswith("-"))])
    return found, [word for word in left if word.startswith("-")]


def add_options_of_board(board: Parser) -> None:
    """Which rows, and where what they score goes."""
    board.set_defaults(runs=32, task=next(name for name in BOARD_TASKS if name in task_names()))
    board.group(RARE).add_argument("--timeout", type=above_zero, default=900, help=HANGING)
    usual = board.group(USUAL)
    usual.add_argument("--part", choices=(*BOARD_PARTS, "all"), default="all", help="of the rows (%(default)s)")
    usual.add_argument(
        "--confidence",
        nargs="+",
        choices=BOARD_CONFIDENCES,
        default=list(BOARD_CONFIDENCES),
        help="only rows whose variant is known so well, such as A B C (all)",
    )
    usual.add_argument(
        "--rows", type=Path, default=BOARD_ROWS, metavar="FILE", help="rows (results/kaggle_board_rows.csv)"
    )
    usual.add_argument("--write", type=Path, metavar="FILE", help="write rows and scores to this CSV file, row by row")
    usual.add_argument("--finished-only", action="store_true", help="score what runs are on disk, and make no others")
    usual.add_argument("--fit", type=Path, metavar="FILE", help="write what `grade` predicts Kaggle's score from")
    usual.add_argument("--draw", type=Path, metavar="FILE", help="draw the rows and the fit (.svg, .png)")


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
    text = "names in submissions/, or paths to .py or .ipynb files"
    _add_submission(export, "submissions", nargs="*", help=text)
    add_set(export)
    usual = export.group(USUAL)
    usual.add_argument("--all", action="store_true", help="all of submissions/, and the walkthrough")
    text = "run each notebook here, as Kaggle would, with few runs (a minute or more)"
    usual.add_argument("--rehearse", action="store_true", help=text)
    usual.add_argument("--out", type=Path, default=Path("notebooks"), help="folder for notebooks (%(default)s)")


def _add_budget(commands: argparse._SubParsersAction) -> None:
    text = "Will 512 models fit into 8 hours on Kaggle? Exit codes: 0 fits, 3 does not fit, 4 cannot tell."
    budget = commands.add_parser("budget", help=text, description=text)
    budget.set_defaults(command="kaggle:budget")
    _add_submission(budget, "submission", nargs="?", help=SUBMISSION)
    add_set(budget)
    usual, rare = budget.group(USUAL), budget.group(RARE)
    usual.add_argument("--all", action="store_true", help="a table of all of submissions/; exit code 0")
    add_write(budget, (".md",), readme=".md")
    usual.add_argument("--task", default="digits", help="what to time on (%(default)s)").complete = FILES
    add_changes(budget)
    usual.add_argument("--device", default=None, help=DEVICE)
    usual.add_argument("--stock-epoch-seconds", type=above_zero, metavar="S", help="from a notebook's calibration cell")
    rare.add_argument("--repeats", type=at_least_one, default=3, help="counted runs (%(default)s)")
    rare.add_argument("--timeout", type=above_zero, default=900, help="seconds for a single run (%(default)s)")
    add_batches(budget)


def _add_submit(commands: argparse._SubParsersAction) -> None:
    text = "Push a submission's notebook to Kaggle, wait for it, and submit it to the competition."
    submit = commands.add_parser("submit", help=text, description=text)
    submit.set_defaults(command="kaggle:submit")
    _add_submission(submit, "submission", help=SUBMISSION)
    add_set(submit)
    usual, rare = submit.group(USUAL), submit.group(RARE)
    usual.add_argument("--dry-run", action="store_true", help="show every call, send nothing")
    usual.add_argument("--message", help="description on Kaggle (default: name and hash of the source)")
    rare.add_argument("--poll-seconds", type=above_zero, default=30, help="between looks at the notebook (%(default)s)")
    rare.add_argument("--wait-hours", type=above_zero, default=12, help="for the notebook to finish (%(default)s)")


# The commands of a competition of one's own. Imports nothing heavy.


def add_host_commands(commands: argparse._SubParsersAction) -> None:
    """Add `host` with its own commands to the command line's list."""
    text = "Hold a competition of your own: make it, judge entries, show a board, rank at the end."
    host = commands.add_parser("host", help=text, description=text)
    below = host.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="what")
    _add_host_init(below)
    text = "Judge a file: validity, public score, time, as one JSON object on standard output."
    judge = _host_command(below, "judge", text)
    judge.add_argument("file", metavar="FILE", help="what was handed in, .py or .ipynb").complete = FILES
    judge.group(USUAL).add_argument("--as", dest="entrant", required=True, metavar="NAME", help="whose it is")
    board = _host_command(below, "board", "Show the public board, and write it beside the host's own.")
    finish = _host_command(below, "finish", "Rank all entries on a part that no judging has used, and open the rest.")
    text = "models on each side of the final ranking (as in the rules)"
    finish.group(USUAL).add_argument("--runs", type=at_least_one, metavar="N", help=text)
    finish.set_defaults(fewest=FEWEST)
    for sub in (judge, finish):
        rare, levels = sub.group(RARE), tuple(LEVELS)
        text = "level of the sandbox in which entries run (%(default)s; refused where that cannot be had)"
        rare.add_argument("--sandbox", choices=levels, default="full", help=text)
        text = "run entries without one: they can then read the key; the log says so"
        rare.add_argument("--without-sandbox", action="store_true", help=text)
        sub.group(USUAL).add_argument("--workers", type=at_least_one, help="processes (as in grade)")
    for sub in (judge, board, finish):
        sub.group(USUAL).add_argument("--device", help="one of the kind that the rules name, such as cuda:1")


def _add_host_init(below: argparse._SubParsersAction) -> None:
    init = _host_command(below, "init", "Make a competition: rules, secret parts, oracles, anchors, a starter kit.")
    usual, rare = init.group(USUAL), init.group(RARE)
    usual.add_argument("--task", help="as in grade; its forget set is the public part's").complete = FILES
    usual.add_argument("--runs", type=at_least_one, metavar="N", help="models on each side (64)")
    init.set_defaults(fewest=FEWEST)
    text = "for 512 runs, as Kaggle's 8; without it, by what the starter and the winner take here"
    usual.add_argument("--hours", type=above_zero, metavar="H", help=text)
    text = "how many versions of an entrant are judged at most (any number)"
    usual.add_argument("--looks", type=at_least_one, metavar="L", help=text)
    text = "methods at 0 and 100 of the relative scale (baseline_finetune fanchuan)"
    usual.add_argument("--anchors", nargs=2, metavar="NAME", help=text).complete = NAMES_AND_FILES
    usual.add_argument("--device", help=DEVICE)
    usual.add_argument("--workers", type=at_least_one, help="processes (as in grade)")
    rare.add_argument("--data-dir", metavar="DIR", help="where the task's data is; the same as --task NAME:DIR")
    add_changes(init)


def _host_command(below: argparse._SubParsersAction, name: str, text: str) -> Parser:
    sub = below.add_parser(name, help=text, description=text)
    sub.set_defaults(command=f"hosting:{name}")
    sub.add_argument("folder", metavar="FOLDER", help="of the competition").complete = FILES
    add_json(sub)
    return sub


EXAMPLES = """\
examples:
  python -m local_eval grade baseline_finetune            grade the official starter on the embedded task
  python -m local_eval check my_method.py                 does it keep the contract? (seconds)
  python -m local_eval check --task my_images.csv         what is understood of your own images?
  python -m local_eval quick my_method.py --watch         look at 8 runs whenever you save the file; no score
  python -m local_eval grade my_method.py --runs 64       screen an idea
  python -m local_eval grade one.py two.py fanchuan       several, with a table at the end
  python -m local_eval measures my_method.py              more attacks on graded runs; relearn trains a few further
  python -m local_eval sweep my_method.py LR=1e-3,1e-2    try other constants, and judge the best of them fairly
  python -m local_eval report my_method.py                what was graded, as one page with figures
  python -m local_eval share my_method.py                 one file for others, who `open` and verify it
  python -m local_eval oracles --runs 512                 train the oracles for a final grading, once
  python -m local_eval budget my_method.py                will 512 models fit into 8 hours on Kaggle?
  python -m local_eval export my_method.py                a notebook that runs alone on Kaggle
  python -m local_eval grade submission.zip               score checkpoints that were made elsewhere
  python -m local_eval host init course --task digits     a competition of your own (docs/hosting.md)

The contract that a submission keeps is written in local_eval/methods/contract.py.
"""

UNCHANGED = ("board", "bench")  # which are about the kit's own tasks
Command = Callable[..., Parser]  # (name, function, text, submission=True) -> its parser


def make_parser(prog: str = MODULE) -> Parser:
    """The parser; `options.command` says which function does the work, as "module of commands:function".

    Args:
        prog: how the command line is called, for help and messages.
    """
    parser = Parser(
        prog=prog,
        description="The NeurIPS 2023 machine-unlearning grader on your own machine.",
        epilog=f"{EXAMPLES.replace(MODULE, prog)}\n{exit_codes()}",
    )
    usual = parser.group(USUAL)
    usual.add_argument("--version", action="version", version=f"{CONSOLE} {__version__}")
    text = "print a script that completes commands, options and names in this shell"
    usual.add_argument("--print-completion", action=PrintCompletion, choices=SHELLS, help=text)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="verb")
    command = partial(_command, commands)
    graders = _add_grading(command)
    compare = _add_looking(command)
    _add_measuring(command)
    check = command("check", "checking:check", "Check the contract with a dry run on two batches; or a task.", False)
    text = "as in grade; without one, tell what was understood of the task"
    _add_submission(check, "submission", nargs="?", help=text)
    add_set(check)
    for sub in (graders["grade"], graders["run"], graders["sweep"], check):
        add_sandbox(sub)
    for sub in (graders["grade"], check):
        add_json(sub)
    for sub in (*(graders[name] for name in ("grade", "run", "quick", "score", "sweep")), compare, check):
        add_batches(sub)
    text = "Which layers of the sandbox for strangers' submissions does this machine have?"
    commands.add_parser("sandbox", help=text, description=text).set_defaults(command="checking:sandbox")
    board = command(
        "board", "studies.board:board", "Grade published variants and put the official scores beside.", False
    )
    add_options(**graders, compare=compare, board=board)
    add_options_of_quick(graders["quick"])
    add_options_of_board(board)
    commands.add_parser("list", help="List submissions and tasks.").set_defaults(command="request:list_all")
    bench = command("bench", "looking:bench", "Time the kit beside the plain way, as ratios.", False)
    add_options_of_bench(bench)
    share = command("share", "sharing:share", "Write a graded method as one file for others, which verifies itself.")
    text = "Verify a file that `share` has made, and unpack its page. Nothing in it is run, unless --rerun asks for it."
    opened = commands.add_parser("open", help=text, description=text)
    opened.set_defaults(command="sharing:open_shared")
    add_options_of_sharing(share, opened)
    add_kaggle_commands(commands)
    add_host_commands(commands)
    return parser


def _command(
    commands: argparse._SubParsersAction, name: str, function: str, text: str, submission: bool = True
) -> Parser:
    """Add a command that works on a task, and on one submission unless it says otherwise."""
    sub = commands.add_parser(name, help=text, description=text)
    sub.set_defaults(command=function)
    if submission:
        _add_submission(sub, "submission", help=SUBMISSION)
        add_set(sub)
    usual, rare = sub.group(USUAL), sub.group(RARE)
    text = "name in local_eval/tasks/, path to a .py file, or your images: a .csv file or a folder; NAME:PATH says "
    text += "where a task's data is (%(default)s)"
    usual.add_argument("--task", default="digits", help=text).complete = FILES
    rare.add_argument("--data-dir", metavar="DIR", help="where the task's data is; the same as --task NAME:DIR")
    rare.add_argument("--download", action="store_true", help="fetch the task's data there first, if it is public")
    usual.add_argument("--device", default=None, help=DEVICE)
    if name not in UNCHANGED:
        add_changes(sub)
    return sub


DEVICE = "cpu, cuda, cuda:1 ... (default: cuda if there is one)"


def _add_submission(sub: Parser, field: str, **named) -> None:
    """A submission, or several, as an argument without a name."""
    sub.add_argument(field, **named).complete = NAMES_AND_FILES


class PrintCompletion(argparse.Action):
    """Prints the script that completes commands in a shell, and ends."""

    def __call__(self, parser: Parser, namespace: argparse.Namespace, shell: str, *_) -> None:
        print(completion(make_parser(CONSOLE), shell))
        parser.exit()


def _add_grading(command: Command) -> dict[str, Parser]:
    """The commands that make runs and oracles, by name."""
    grade = command("grade", "grading:grade", "Check, train missing oracles, make missing runs, score.", False)
    several = "Several are graded one after the other; none lists them"
    _add_submission(grade, "submissions", nargs="*", help=f"{SUBMISSION}{ALSO}. {several}")
    add_set(grade)
    add_sides(grade, both=True)
    run = command("run", "grading:run", "Only make the missing runs of a submission.")
    quick = command("quick", "looking:quick", "Look at a few runs while you tune: accuracies, shift, spread; no score.")
    sweep = command("sweep", "sweeping:sweep", "Grade a submission with other constants, and the best twice.")
    add_options_of_sweep(sweep)
    score = command("score", "grading:score", "Only score the runs and oracles that are on disk.")
    add_sides(score)
    oracles = command("oracles", "grading:oracles", "Only train the missing oracles of a task.", submission=False)
    add_options_of_pools(oracles)
    text = "Is a task worth grading? Score originals that forgot nothing, beside the ceiling."
    headroom = command("headroom", "grading:headroom", text, False)
    named = {"grade": grade, "run": run, "score": score, "quick": quick, "sweep": sweep}
    return named | {"oracles": oracles, "headroom": headroom}


def _add_measuring(command: Command) -> None:
    """The commands for what no grading pays for."""
    text = "Measure graded runs by more attacks than `grade` does: RMIA, IAM, RULI, U-LiRA and KLoM as published."
    measures = command("measures", "measuring:measures", text, False)
    _add_submission(measures, "names", nargs="+", help=SUBMISSION)
    add_set(measures)
    text = "Train a few runs and oracles further on the retain set: does the forget set come back?"
    add_options_of_measuring(measures, command("relearn", "measuring:relearn", text))


def _add_looking(command: Command) -> Parser:
    """The commands that put results side by side; returns `compare`, which may also make runs."""
    text = "Grade several submissions with the same N and print one table."
    compare = command("compare", "grading:compare_all", text, False)
    text = "submissions, and files from `share` (default: all submissions)"
    _add_submission(compare, "names", nargs="*", help=text)
    add_set(compare)
    add_markdown(compare)
    add_write(compare, (".md", ".json"), save=".json")
    compare.group(USUAL).add_argument(
        "--pairs", action="store_true", help="say of every two which is better, not only of each and the best"
    )
    text = "Draw the page of what was graded: one report.html, and its figures as PNGs."
    add_options_of_report(command("report", "looking:report", text, submission=False))
    text = "Rank all that is graded on a task with the same N, from what is on disk. Nothing is run."
    board = command("leaderboard", "looking:leaderboard", text, False)
    board.add_argument("shared", nargs="*", type=Path, metavar="FILE", help="files from `share` that stand on it, too")
    add_options_of_leaderboard(board)
    return compare
