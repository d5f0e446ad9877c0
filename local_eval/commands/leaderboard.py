"""What is graded on a task, ranked and in tiers; and two methods held against each other.

How to run it: python -m local_eval leaderboard --task digits --runs 64 --html board.html
"""

from __future__ import annotations

import argparse
import shlex
import sys

from local_eval.commands.grading import device_of
from local_eval.engine.files import write_atomically
from local_eval.engine.provenance import provenance
from local_eval.grader import Grader
from local_eval.metric.score import check_runs
from local_eval.on_disk import entries
from local_eval.report.leaderboard import Board, as_csv, as_json, as_text, make_board
from local_eval.tasks.names import option_words, split_changes


def leaderboard(options: argparse.Namespace) -> int:
    """Print the board of what is on disk, and write it to files."""
    check_runs(options.runs)
    grader = Grader(options.task, options.out, options.runs, options.seed, device_of(options))
    board = board_of(grader)
    print(as_text(board))
    for path, write in ((options.write_csv, as_csv), (options.json, as_json), (options.html, _as_html)):
        if path:
            write_atomically(path, write(board).encode())
            print(f"written to {path}")
    return 0


def board_of(grader: Grader) -> Board:
    """The board of a grader's task, N and seed; raises ScoreError if there is nothing on it."""
    found, left_out, oracles = entries(grader)
    return make_board(found, left_out, oracles, grader.labels_and_persons[1], _facts(grader, found), _tell)


def _facts(grader: Grader, found) -> dict:
    made = provenance(grader.device)
    spec, _ = split_changes(grader.task_spec)
    command = ["python", "-m", "local_eval", "leaderboard", "--task", spec.partition(":")[0]]
    command += option_words(grader.task_spec)
    command += ["--runs", str(grader.runs)] + (["--seed", str(grader.seed)] if grader.seed else [])
    devices = {str(one.content.get("device")) for one in found}
    return {
        "task": grader.task.name,
        "fingerprint": grader.fingerprint,
        "runs": grader.runs,
        "seed": grader.seed,
        **({"original": name} if (name := grader.given_original) else {}),
        "ceiling": found[0].content["ceiling"],
        "ceiling_interval": found[0].content["ceiling_interval"],
        "device": ", ".join(sorted(devices)),
        "hardware": made["hardware"],
        "torch": ", ".join(sorted({str(one.content.get("torch")) for one in found})),
        "commit": made["commit"],
        "command": shlex.join(command),
    }


def _as_html(board: Board) -> str:
    from local_eval.report.board_page.render import page  # here, so that text needs no matplotlib

    return page(board)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
