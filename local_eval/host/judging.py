"""Judge what somebody has handed in: is it valid, what does it score on the public part, what on the private one.

A file is copied to the host's folder and judged from there, so that it cannot change meanwhile. It is valid if it keeps
the contract, imports what the rules allow, and all its runs end, in time. Nothing of it is executed but in processes of
their own, in the sandbox, which are forked from workers that hold the task and the original model alone: no oracle, no
key, no test set. Only weights come out of them, which the grader evaluates.

The clock of a run is in its own process, where foreign code could turn it back. So a run is also stopped from outside,
a little after its time. A run that is late is timed once more, with nothing else running: the machine may have been
busy. It is the same run, so only its time can differ. The first that is late again, or fails, ends the judging.

How it is used: `judge(competition, Path("mine.py"), "anna", how)`
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import re
import stat
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from local_eval.grader import Grader
from local_eval.host.competition import ANCHORS, PRIVATE, PUBLIC, Competition, HostError, How, Scale
from local_eval.host.log import Log
from local_eval.host.similarity import hides, resemblances
from local_eval.isolation.cards import kind_of
from local_eval.isolation.child import STILL_RUNNING, Failure
from local_eval.isolation.pool import BROKEN
from local_eval.isolation.sandbox import hides as is_seen
from local_eval.isolation.share_gpu import run_on_device
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import CODE, TRAVELS, Submission
from local_eval.metric.given import MetricError
from local_eval.report.result import Result
from local_eval.runs.check import check_submission
from local_eval.runs.one_run import Batch, limit_of, one_run
from local_eval.runs.plan import Sandbox
from local_eval.store.errors import WorkError, many
from local_eval.store.files import locked, write_atomically
from local_eval.store.for_others import Private
from local_eval.store.records import record_path

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", re.ASCII)
VALID, FAILED, REFUSED, LATE = "valid", "a run failed", "the contract is broken", "late"
GRACE = {"cpu": 5.0, "cuda": 30.0}  # seconds from outside, for what a run's process does before and after its clock
AGAIN = 3  # late runs that are timed once more; a method with more of them is late
LONGEST = 500  # characters of a reason that an entrant is told
OF_SCORE = (
    "score", "interval", "interval_level", "runs", "forgetting_quality", "ceiling", "retain_accuracy_ratio",
    "test_accuracy_ratio",
)  # fmt: skip


@dataclass(frozen=True)
class Made:
    """What came of an entry's runs on one part; `verdict` is VALID, or says why it is not, with reasons."""

    verdict: str
    reasons: tuple[str, ...] = ()
    seconds: Mapping[int, float] = field(default_factory=dict)  # of each finished run, by its clock
    late: tuple[int, ...] = ()
    result: Result | None = None


@dataclass(frozen=True)
class Entry:
    """What was handed in: the host's copy."""

    entrant: str
    path: Path
    sha256: str  # of its bytes


@dataclass(frozen=True)
class Judged:
    """A judging: what everybody may know, and what the host alone is to know."""

    verdict: str
    public: dict
    private: dict


def judge(competition: Competition, path: Path, entrant: str, how: How) -> Judged:
    """Judge a file and write that down.

    Raises:
        HostError: it may not be judged: a wrong name or file, no look left, a finished competition, a damaged log.
        SandboxError: the sandbox cannot be had.
        WorkError: the machine could not; nothing was logged, and the same command goes on.
    """
    began = time.monotonic()
    with locked(competition.private):
        if competition.is_finished:
            raise HostError(f"{competition.folder} is finished: its final ranking is known, so nothing more is judged")
        log = Log.of(competition)
        entry = taken(competition, path, entrant)
        looks = looked(log.read(), entrant) | {entry.sha256}
        _check_looks(competition, entrant, looks)
        refuse_without_sandbox(competition, how)
        public, code = _public_part(competition, entry, how)
        private, alike = _private_part(competition, entry, how, public), _beside_others(competition, entry, code)
        told = {
            "entrant": entrant,
            "sha256": entry.sha256,
            "code": code,
            **told_of(competition, public),
            "looks": {"used": len(looks), "limit": competition.rules.looks},
            "sandbox": how.sandbox,
            "seconds": round(time.monotonic() - began, 1),
        }
        line = log.append({"what": "judged", **told})
        hidden = {"number": line["number"], "entrant": entrant, "sha256": entry.sha256, **private, **alike}
        write_atomically(_judged_file(competition, line["number"]), (json.dumps(hidden, indent=1) + "\n").encode())
    return Judged(public.verdict, {**told, "when": line["when"], "number": line["number"]}, hidden)


# What was handed in, and whether it may be judged.


def taken(competition: Competition, path: Path, entrant: str) -> Entry:
    """The host's copy of a file. Raises HostError for a name or a file that cannot be taken."""
    if not NAME.fullmatch(entrant):
        raise HostError(f"--as {entrant!r} is no name: give letters, digits, - and _, at most 40, such as --as team-3")
    folders = {os.getcwd(), *map(os.path.realpath, sys.path)}
    if path.stem in sys.stdlib_module_names or str(path.parent.resolve()) in folders:
        raise HostError(
            f"{path}: a Python that is started in this folder could take it for a module, and run it outside of the "
            f"sandbox; keep what is handed in in a folder of its own, under a name such as {entrant}-1.py"
        )
    if path.suffix.lower() not in CODE:
        raise HostError(f"{path}: hand in one file, .py or .ipynb; constants stand in it as they are to be")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise HostError(f"{path} is no file; hand in one file, .py or .ipynb")
        with open(path, "rb") as file:
            content = file.read(competition.rules.largest_file + 1)
    except OSError as error:
        raise HostError(f"{path} cannot be read ({error.strerror}); hand in one file, .py or .ipynb") from None
    if len(content) > competition.rules.largest_file:
        raise HostError(
            f"{path} is too large: the rules allow {competition.rules.largest_file} bytes, since a method is code and "
            "brings no weights"
        )
    sha256 = hashlib.sha256(content).hexdigest()
    place = competition.private / "entries" / sha256[:16] / f"{entrant}{path.suffix.lower()}"
    write_atomically(place, content)
    return Entry(entrant, place, sha256)


def looked(lines: Sequence[Mapping], entrant: str) -> set[str]:
    """The versions, by hash, of which an entrant has been told something: the same file again tells nothing new."""
    return {line["sha256"] for line in lines if line.get("what") == "judged" and line["entrant"] == entrant}


def _check_looks(competition: Competition, entrant: str, looks: set[str]) -> None:
    limit = competition.rules.looks
    if limit is not None and len(looks) > limit:
        raise HostError(f"{entrant} has had {limit} of {many(limit, 'look')}; the rules allow no more")


def refuse_without_sandbox(competition: Competition, how: How) -> None:
    """Raise SandboxError unless the sandbox can be had, and the competition lies where no entry can see it."""
    if how.sandbox is None:
        return
    hidden = str(competition.folder.resolve())
    own = Submission(Path(__file__))  # any file: what else a run may read is the same for all
    box = Sandbox(how.sandbox, (hidden,))
    box.check(own, how.device)
    if seen := is_seen(box.cage(own, how.device).readable, (hidden,)):
        raise HostError(f"{competition.folder} lies in {seen[0]}, which entries may read; move it elsewhere")


# One part: check, runs, score.


def _public_part(competition: Competition, entry: Entry, how: How) -> tuple[Made, str]:
    """What came of it, and the hash of its code; empty if it is none."""
    code = ""
    try:
        found = Submission.find(str(entry.path))
        code = found.digest()
        check_imports(found)
        grader = _grader(competition, PUBLIC, how)
        if not grader.has_all_runs(found):
            # In a process that is started anew: a copy of this one would hold the key
            check_submission(found, grader.task_spec, grader.device, grader.sandbox_of_runs())
    except SubmissionError as error:
        verdict = LATE if STILL_RUNNING in str(error) else REFUSED
        return Made(verdict, (_for_entrants(competition, entry, str(error)),)), code
    made = made_on(competition, PUBLIC, entry, how)
    return replace(made, reasons=tuple(_for_entrants(competition, entry, text) for text in made.reasons)), code


def check_imports(found: Submission) -> None:
    """Raise SubmissionError, with the line, for an import that the rules do not allow."""
    for node in ast.walk(found.tree()):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names = [node.module or "."] if isinstance(node, ast.ImportFrom) else names
        for name in names:
            if name.split(".")[0] not in TRAVELS:
                allowed = "torch, torchvision, numpy, pandas, common and the standard library"
                raise SubmissionError(f"{found.place(node.lineno)} imports {name}; the rules allow {allowed}")


def _private_part(competition: Competition, entry: Entry, how: How, public: Made) -> dict:
    """What the private file says of an entry; nothing of it shows outside, not even that something went wrong."""
    if public.verdict != VALID:
        return {"verdict": "not graded: it is not valid on the public part"}
    made = made_on(competition, PRIVATE, entry, how)
    found = {"verdict": made.verdict, "reasons": list(made.reasons)}
    return found | ({name: made.result[name] for name in OF_SCORE} if made.result else {})


def _grader(competition: Competition, part: str, how: How, runs: int | None = None) -> Grader:
    timeout = competition.rules.seconds + GRACE[kind_of(how.device)]
    return competition.grader(part, how, runs, timeout)


def made_on(competition: Competition, part: str, entry: Entry, how: How, runs: int | None = None) -> Made:
    """Make and score the runs of an entry on a part, whose oracles must be there; what is finished is kept."""
    grader = _grader(competition, part, how, runs)
    found = Submission.find(str(entry.path))
    try:
        made = _timed_runs(competition, grader, found)
        if made.verdict != VALID:
            return made
        _, path = grader.score(found)
    except (SubmissionError, MetricError) as error:
        return Made(FAILED, (str(error),))
    return replace(made, result=Result.read(path))


def _timed_runs(competition: Competition, grader: Grader, found: Submission) -> Made:
    """All runs, until one fails, or is late a second time."""
    allowed, again = competition.rules.seconds, 0
    while True:
        done, failures = _run_on(grader, found, allowed)
        seconds = {index: run.facts["seconds"] for index, run in sorted(done.items())}
        odd = [index for index, taken in seconds.items() if not taken >= 0]
        late = [index for index, why in failures.items() if why.reason.startswith(STILL_RUNNING)]
        late = sorted([*late, *(index for index, taken in seconds.items() if taken > allowed)])
        broken = {index: why for index, why in failures.items() if index not in late}
        if odd:
            return Made(FAILED, (f"run {odd[0]}: its clock was changed",), seconds)
        if any(why.reason == BROKEN.reason for why in broken.values()):
            raise WorkError(f"{BROKEN.reason}; nothing was logged")
        if broken:
            index, why = next(iter(sorted(broken.items())))
            return Made(FAILED, (f"run {index} failed: {why.reason}",), seconds)
        if not late:
            return Made(VALID, (), seconds)
        again += 1
        if again > AGAIN or not _in_time_alone(grader, found, late[0], allowed):
            reason = f"run {late[0]} took longer than the {allowed:.3g} s that a run may take, twice"
            return Made(LATE, (reason,), seconds, tuple(late))


def _run_on(grader: Grader, found: Submission, allowed: float, only: int | None = None) -> tuple[dict, dict]:
    """Make what runs are missing, or one alone, until one fails or is late; all finished ones, and failures."""
    plan = replace(grader.run_plan(found), sandbox=grader.sandbox_of_runs())
    folder = grader.workspace.of(plan.folder_name)
    shape = len(grader.task.forget), grader.task.num_classes
    with locked(folder):
        batch = Batch(plan, folder, grader.runs, shape, grader.workspace, grader.timeout)
        if only is None and any(run.facts["seconds"] > allowed for run in batch.done.values()):
            return batch.done, batch.failures
        missing, workers = (batch.missing, grader.workers) if only is None else ([only], 1)
        how = (workers, limit_of(grader.timeout), f"runs of {found.label}")
        with contextlib.closing(run_on_device(plan.device, one_run, batch.plan, missing, *how)) as jobs:
            for index, result in jobs:
                batch.take(index, result)
                if isinstance(result, Failure) or not result.facts["seconds"] <= allowed:
                    break
    return batch.done, batch.failures


def _in_time_alone(grader: Grader, found: Submission, index: int, allowed: float) -> bool:
    """Is a run that was late in time when nothing else runs here? Its record is then that of this time."""
    folder = grader.workspace.of(grader.run_plan(found).folder_name)
    record_path(folder, index).unlink(missing_ok=True)
    done, _ = _run_on(grader, found, allowed, only=index)
    return index in done and done[index].facts["seconds"] <= allowed


# What is told.


def _for_entrants(competition: Competition, entry: Entry, text: str) -> str:
    """A reason as its entrant may read it: no traceback, no folders or names of the host's, and not too long."""
    text = text.partition("\n\n")[0]
    text = Private.here(competition.folder).without(text.replace(str(entry.path), entry.path.name))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."


def told_of(competition: Competition, made: Made, scale: Scale | None = None) -> dict:
    """The part of a judging's object that a part of the competition decides.

    Args:
        scale: of that part, if it is not the public one.
    """
    result, scale = made.result, scale or competition.rules.scale
    return {
        "valid": made.verdict == VALID,
        "verdict": made.verdict,
        "reasons": list(made.reasons),
        "public": {name: result[name] for name in OF_SCORE} if result else None,
        "relative": scale.of(result["score"], result["interval"]) if result else None,
        "budget": budget_of(competition, made),
    }


def budget_of(competition: Competition, made: Made) -> dict:
    """What a run may take, and what the runs took, in seconds."""
    taken = [seconds for seconds in made.seconds.values() if seconds >= 0]
    return {
        "seconds_a_run": competition.rules.seconds,
        "median": statistics.median(taken) if taken else None,
        "slowest": max(taken) if taken else None,
        "late_runs": list(made.late),
        "within": None if not taken and not made.late else made.verdict != LATE,
    }


# Beside other entries.


def _beside_others(competition: Competition, entry: Entry, code: str) -> dict:
    """Whom it resembles, and what keeps a reader from understanding it."""
    if not code:
        return {"alike": [], "flagged": [], "hides": []}
    source = Submission.find(str(entry.path)).source()
    found = resemblances(source, others_sources(competition, entry))
    alike = [{"other": one.other, "share": round(one.share, 3), "shingles": one.shingles} for one in found[:10]]
    return {"alike": alike, "flagged": [one.other for one in found if one.is_flagged], "hides": hides(source)}


def others_sources(competition: Competition, entry: Entry) -> dict[str, str]:
    """Sources of all that others have handed in, by entrant and hash, and of anchors that are the host's own."""
    found = {f"{path.stem} (anchor)": path.read_text() for path in (competition.private / ANCHORS).glob("*.py")}
    for path in sorted((competition.private / "entries").glob("*/*")):
        if path.stem != entry.entrant and path.suffix in CODE:
            with contextlib.suppress(SubmissionError):  # what is no Python resembles nothing
                found[f"{path.stem} ({path.parent.name[:8]})"] = Submission.find(str(path)).source()
    return found


def _judged_file(competition: Competition, number: int) -> Path:
    return competition.private / "judged" / f"{number:04d}.json"


def private_results(competition: Competition) -> dict[int, dict]:
    """What the host alone knows of judgings, by their number in the log."""
    found = {}
    for path in sorted((competition.private / "judged").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError):  # a damaged file costs what it said, no ranking
            told = json.loads(path.read_text())
            found[int(told["number"])] = told
    return found


def entry_of(competition: Competition, line: Mapping) -> Entry:
    """The copy that a line of the log is about. Raises HostError if it is gone or changed."""
    folder = competition.private / "entries" / str(line["sha256"])[:16]
    for path in sorted(folder.glob(f"{line['entrant']}.*")):
        if hashlib.sha256(path.read_bytes()).hexdigest() == line["sha256"]:
            return Entry(line["entrant"], path, line["sha256"])
    raise HostError(f"{folder} does not hold what {line['entrant']} handed in (line {line['number'] + 1} of the log)")
