"""Make a competition: originals, oracles and anchors of the public and the private part, rules, starter kit.

All of it goes on from what is there, so the same command may be interrupted and repeated.

How a run's time is limited. Kaggle gave 56.25 s a run on a GPU on which the starter took about 10 s, and the winners
kept that. So a run may take 5.6 times what the starter takes on the host's machine, or one and a half times what the
winner does, whichever is more; both are measured as judgings measure. With `hours` it is that, for 512 runs, as
Kaggle's eight were. Either way the rules state one number of seconds, and it stays.

How it is used: `make(founded(folder, wanted), How("cpu"), print)`
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from local_eval.grader import Grader
from local_eval.host.competition import (
    PRIVATE,
    PUBLIC,
    Anchor,
    Competition,
    HostError,
    How,
    Scale,
    with_measured,
)
from local_eval.host.log import Log
from local_eval.host.starter_kit import write_kit
from local_eval.kaggle.budget import STOCK_SECONDS
from local_eval.methods.submission import Submission
from local_eval.metric.score import BUDGET_SECONDS, OFFICIAL_RUNS, confidences
from local_eval.metric.uncertainty.paired import comparison_of
from local_eval.on_disk import graded_confidences
from local_eval.report.result import Result
from local_eval.store.errors import WorkError, many
from local_eval.store.files import locked, write_atomically

AS_ON_KAGGLE = BUDGET_SECONDS / STOCK_SECONDS[1]  # times the starter's seconds
OF_WINNER = 1.5  # times the winner's: a busy machine is not to make the winner late
LEAST = 2.0  # seconds; the time of shorter runs tells how busy the machine is
SCALE = "scale.json"  # of the private part, in private/
Tell = Callable[[str], None]


def make(competition: Competition, how: How, tell: Tell) -> Competition:
    """Make what is missing; returns the competition, ready to judge.

    Raises:
        HostError: the private part would be the public one.
        WorkError: something could not be made; what was finished is kept.
    """
    with locked(competition.private):
        if not competition.rules.is_ready:
            _check_parts(competition, how)
            public, private = (scale_of(competition, part, how, tell) for part in (PUBLIC, PRIVATE))
            content = json.dumps(asdict(private), indent=1) + "\n"
            write_atomically(competition.private / SCALE, content.encode())
            seconds, words = allowed_seconds(competition.rules.hours, [public, private])
            competition = with_measured(competition, seconds=seconds, seconds_from=words, scale=public)
        Log.of(competition).begin()
        write_kit(competition)
    for remark in remarks(competition):
        tell(remark)
    return competition


def _check_parts(competition: Competition, how: How) -> None:
    """Raise HostError if there is no other forget set to be had."""
    public, private = (competition.grader(part, how).task for part in (PUBLIC, PRIVATE))
    if public.forget.digest() == private.forget.digest():
        raise HostError(f"{competition.rules.task} has no other forget set of this size, and so no private part")


def scale_of(competition: Competition, part: str, how: How, tell: Tell, runs: int | None = None) -> Scale:
    """A part's relative scale: its oracles are made, and both anchors graded.

    Anchors are the kit's or the host's own, and run without a sandbox.

    Raises:
        WorkError: runs of an anchor failed.
    """
    grader = competition.grader(part, replace(how, sandbox=None), runs)
    oracles = grader.finish_oracles()
    tell(f"{part} part: {many(len(oracles), 'oracle')} in {grader.workspace.oracles}")
    results = [_graded(grader, name, tell) for name in competition.anchors()]
    return Scale(*map(_anchor, results), _told_apart(grader, competition.anchors(), results))


def _anchor(result: Result) -> Anchor:
    return Anchor(result["submission"], result["score"], tuple(result["interval"]), result["seconds_per_run"])


def _graded(grader: Grader, name: str, tell: Tell) -> Result:
    found = Submission.find(name)
    _, failures = grader.finish_runs(found)
    if failures:
        index, why = next(iter(sorted(failures.items())))
        raise WorkError(f"{many(len(failures), 'run')} of the anchor {name} failed; run {index}: {why.reason}")
    result = Result.read(grader.score(found)[1])
    tell(f"{name} scores {result['score']:.4f}, {result['seconds_per_run']:.2f} s a run")
    return result


def _told_apart(grader: Grader, methods: Sequence[str], results: list[Result]) -> bool:
    """Is the winner better than the starter, by a paired test of their runs?"""
    starter, winner = (graded_confidences(grader, name) for name in methods)
    labels, persons = grader.labels_and_persons
    oracles = confidences(grader.cached_oracles()[: grader.runs], labels)
    utilities = results[1].utility, results[0].utility
    return comparison_of(winner, starter, oracles, persons, utilities, ahead=False).verdict == "better"


def allowed_seconds(hours: float | None, scales: Sequence[Scale]) -> tuple[float, str]:
    """What a run may take, and where that comes from, in words; of what was measured twice the longer time counts."""
    if hours is not None:
        return hours * 3600 / OFFICIAL_RUNS, f"{hours:g} hours for {OFFICIAL_RUNS} runs"
    starter, winner = (max(getattr(one, end).seconds for one in scales) for end in ("zero", "hundred"))
    words = (
        f"the most of {AS_ON_KAGGLE:.3g} x {scales[0].zero.method}'s {starter:.3g} s, {OF_WINNER:g} x "
        f"{scales[0].hundred.method}'s {winner:.3g} s, and {LEAST:g} s"
    )
    return max(AS_ON_KAGGLE * starter, OF_WINNER * winner, LEAST), words


def remarks(competition: Competition) -> list[str]:
    """What a host should know of the competition that was made."""
    rules, found = competition.rules, []
    scale = rules.scale
    if not scale.hundred.score > scale.zero.score:
        found.append(
            f"{scale.hundred.method} does not score above {scale.zero.method} on this task at N = {rules.runs}, so "
            "there is no relative scale; name others with --anchors, in a new folder"
        )
    elif not scale.holds:
        found.append(
            f"{scale.hundred.method} cannot be told from {scale.zero.method} at N = {rules.runs}: relative scores say "
            "little; take more --runs, or others with --anchors, in a new folder"
        )
    for anchor in (scale.zero, scale.hundred):
        if anchor.seconds > rules.seconds:
            text = f"{anchor.method} itself takes {anchor.seconds:.3g} s a run, and {rules.seconds:.3g} s are allowed"
            found.append(text)
    return found


def private_scale(competition: Competition) -> Scale | None:
    """That of the private part; None if its file is gone."""
    try:
        return Scale.from_json(json.loads((competition.private / SCALE).read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
