"""The commands of a competition of one's own: host init, judge, board, finish.

How to run it: python -m local_eval host init course --task competition_small
               python -m local_eval host judge course my_method.py --as anna
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from local_eval.cli.arguments import Exit
from local_eval.cli.checking import device_of
from local_eval.cli.request import Request
from local_eval.commands import command
from local_eval.host import judging, making, ranking
from local_eval.host.competition import (
    KIT_FOLDER,
    RULES,
    Competition,
    HostError,
    How,
    checked_how,
    founded,
    opened,
    whole_spec,
)
from local_eval.host.ranking import Board
from local_eval.isolation.cards import kind_of, usable_device
from local_eval.methods.submission import Submission
from local_eval.store.lines import terminal_width

CODES = {
    judging.VALID: Exit.DONE,
    judging.FAILED: Exit.FAILED,
    judging.REFUSED: Exit.BAD_INPUT,
    judging.LATE: Exit.OVER_BUDGET,
}


def init(request: Request) -> int:
    """Make a competition, or go on with one that is being made."""
    folder, device = Path(request.folder), request.device
    is_new = not (folder / RULES).exists()
    if is_new and request.task is None:
        example = command("host", ["init", folder], more=["--task", "competition_small"])
        raise HostError(f"{folder}: name the task of a new competition: {example}")
    wanted = {
        "task": request.task and whole_spec(request.task),
        "device": device and kind_of(usable_device(device)),
        "runs": request.runs,
        "hours": request.hours,
        "looks": request.looks,
    }
    if is_new:
        wanted["device"] = kind_of(device_of(request))
    begun = founded(folder, wanted, [Submission.find(name) for name in request.anchors or ()])
    how = How(device or begun.rules.device, request.workers, None)
    competition = making.make(begun, checked_how(begun, how), _tell)
    rules = competition.rules
    print(f"{folder} is ready: {rules.task}, N = {rules.runs}, {rules.seconds:.3g} s a run ({rules.seconds_from})")
    print(f"give away: {folder / KIT_FOLDER}")
    print(f"judge: {command('host', ['judge', folder, 'THEIR_FILE.py'], more=['--as', 'NAME'])}")
    request.answer.update(folder=folder, rules=asdict(rules), starter_kit=folder / KIT_FOLDER)
    return Exit.DONE


def judge(request: Request) -> int:
    """Judge a file; the answer is one JSON object, whether --json is given or not."""
    competition = opened(Path(request.folder))
    if request.without_sandbox:
        _tell("without a sandbox this file can read the key and the oracles, and change them; the log says so")
    found = judging.judge(competition, Path(request.file), request.entrant, _how(competition, request))
    request.answer.update(found.public)
    _tell(f"private results: {competition.private / 'judged'}")
    if flagged := [*found.private["flagged"], *found.private["hides"]]:
        _tell(f"to be looked at: {', '.join(flagged)}")
    return CODES[found.verdict]


def board(request: Request) -> int:
    """Write the public board and the host's, and print the public one."""
    competition = opened(Path(request.folder))
    how = How(request.device or competition.rules.device)
    found = ranking.board(competition, checked_how(competition, how))
    _show(request, found, f"public board of {competition.folder.name}, N = {competition.rules.runs}")
    names = ["board.md", "board.html"] if found.leaderboard else ["board.md"]
    _tell(f"written: {', '.join(str(competition.folder / name) for name in names)}")
    _tell(f"for the host alone, with private scores and flags: {competition.private / 'board.md'}")
    return Exit.DONE


def finish(request: Request) -> int:
    """Rank all on a part that nobody has seen."""
    competition = opened(Path(request.folder))
    found = ranking.finish(competition, _how(competition, request), _tell, request.runs)
    _show(request, found, f"final ranking of {competition.folder.name}, N = {request.runs or competition.rules.runs}")
    _tell(f"written: {', '.join(str(competition.folder / f'final.{form}') for form in ('md', 'html', 'json'))}")
    return Exit.DONE


def _how(competition: Competition, request: Request) -> How:
    level = None if request.without_sandbox else request.sandbox
    return checked_how(competition, How(request.device or competition.rules.device, request.workers, level))


def _show(request: Request, found: Board, title: str) -> None:
    print(found.text(title, terminal_width()))
    left_out = [{"entrant": one.name, "reason": one.reason} for one in found.left_out]
    request.answer.update(rows=found.rows(), not_ranked=left_out, said=list(found.said))


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
