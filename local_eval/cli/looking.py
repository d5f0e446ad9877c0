"""The commands that look: quick, leaderboard, report, bench.

How to run it: python -m local_eval leaderboard
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from local_eval.cli.checking import device_of
from local_eval.cli.grading import engine_of, make_report, shared_rows, tell_failures
from local_eval.cli.request import Request
from local_eval.commands import command
from local_eval.grade_given import AgainstGiven
from local_eval.grader import Grader
from local_eval.isolation.cards import card_name
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import Submission, looks_like_checkpoints, source_files, submission_path
from local_eval.metric.measures import Labels
from local_eval.metric.quick import FEWEST, QuickLook, quick_look
from local_eval.metric.score import LEAST_RUNS, ScoreError, check_runs
from local_eval.on_disk import entries
from local_eval.report.leaderboard import Entry, Leaderboard, as_csv, as_json, as_markdown, as_text, make_leaderboard
from local_eval.report.result import kept
from local_eval.store.errors import InputError, WorkError
from local_eval.store.files import is_for_others, write_atomically
from local_eval.store.lines import terminal_width
from local_eval.store.provenance import provenance

# Do something again whenever a submission, or what it imports from common/, is saved.
#
# Looked at by content, twice a second: saving without a change does nothing, and no notification service is needed.


SCREENING = 64  # runs of the score that a quick look recommends
POLL = 0.5  # seconds between looks at the files
SETTLED = 0.2  # seconds for which a file must stay as it is: an editor may save in several steps


def whenever_saved(
    name: str, look: Callable[[], object], sleep: Callable[[float], None] = time.sleep
) -> Iterator[InputError | WorkError | None]:
    """Call `look()` now and after every change of the submission's files; yields after each what went wrong, or None.

    A file that is half saved, gone for a moment or no Python any more is one of the things that go wrong: the next
    change is waited for.

    Raises:
        SubmissionError: there is no such submission to begin with.
    """
    path = submission_path(name)
    files, seen = [path], ""
    while True:
        with contextlib.suppress(SubmissionError):  # while it is no Python, what it imported before is watched
            files = source_files(path) if path.is_file() else files
        now = _content(files)
        if now == seen:
            sleep(POLL)
            continue
        while (settled := _content(files, sleep)) != now:
            now = settled
        seen = now
        try:
            look()
        except (InputError, WorkError) as error:
            yield error
        else:
            yield None


def _content(files: list[Path], sleep: Callable[[float], None] | None = None) -> str:
    """Hash of what the files hold, if asked for after a moment."""
    if sleep is not None:
        sleep(SETTLED)
    sha = hashlib.sha256()
    for file in files:
        with contextlib.suppress(OSError):
            sha.update(f"{file}\0".encode() + file.read_bytes())
    return sha.hexdigest()


# A quick look while tuning: a few runs, no score; with --watch again whenever the file is saved.
#
# The runs are those that `grade` would make: it finds them when it comes, and makes only the others.


def quick(request: Request) -> int:
    """Look once, or with --watch until Ctrl-C."""
    if request.runs < FEWEST:
        raise ScoreError(f"--runs {request.runs} shows no spread: give at least {FEWEST}")
    where, how = (request.task, request.out, request.runs, request.seed), (request.workers, request.timeout)
    grader = Grader(*where, device_of(request), *how, engine=engine_of(request), batches_on=request.batches_on)
    look = functools.partial(_look, grader, request.submission)
    if not request.watch:
        return look()
    for failed in whenever_saved(request.submission, look):
        text = f"{failed}\n" if failed else ""
        print(f"{text}watching {request.submission}; save it to look again, Ctrl-C to end", file=sys.stderr, flush=True)
    return 0


def _look(grader: Grader, name: str) -> int:
    submission = Submission.find(name)
    oracles = grader.finish_oracles(max(grader.runs, LEAST_RUNS))
    done, failures = grader.make_runs(name)
    if tell_failures(failures, grader, submission, [grader.seed]):
        return 1
    runs = [done[index] for index in sorted(done)]
    found = quick_look(runs, grader.cached_oracles() or oracles, *grader.original_records(), Labels.of(grader.task))
    score = grader.command("grade", submission, runs=SCREENING)
    print(table(found, submission.label, grader.task.name, len(runs), score), flush=True)
    return 0


def table(found: QuickLook, submission: str, task: str, runs: int, score: str) -> str:
    """The look as a few aligned lines, and below them the command that gives a score."""
    columns = (found.unlearned, found.retrained, found.original)
    rows = [(f"{key} accuracy", *(f"{getattr(c, key):.3f}" for c in columns)) for key in ("retain", "forget", "test")]
    for name, key in (("starting kit's attack", "attack"), ("RMIA AUC", "rmia"), ("IAM AUC", "iam")):
        values = (getattr(c, key) for c in columns)
        rows.append((name, *("unknown" if one is None else f"{one:.3f}" for one in values)))
    rows.append(("shift, in sd", f"{found.shift[0]:.2f}", "0", f"  standard error {found.shift[1]:.2f}"))
    rows.append(("spread ratio", f"{found.ratio[0]:.2f}", "1", f"  standard error {found.ratio[1]:.2f}"))
    lines = [f"quick look at {submission} on {task}, {runs} runs: no score"]
    lines.append(f"  {'':<22}{'unlearned':>10}{'retrained':>10}{'original':>10}")
    lines += [f"  {name:<22}{one:>10}{two:>10}{three:>10}" for name, one, two, three in rows]
    lines += [f"  {found.words}; {found.seconds:.2f} s a run", f"  for a score: {score}"]
    return "\n".join(lines)


# What is graded on a task, ranked and in tiers; and two methods held against each other.


def leaderboard(request: Request) -> int:
    """Print the board of what is on disk, and write it to files."""
    check_runs(request.runs)
    grader = Grader(request.task, request.out, request.runs, request.seed, device_of(request))
    board = leaderboard_of(grader, request.shared)
    print(as_markdown(board) if request.markdown else as_text(board, terminal_width()))
    for form, path in request.write:
        write_atomically(path, _written(board, form, path))
        print(f"written to {path}")
    return 0


def _written(board: Leaderboard, form: str, path: Path) -> bytes:
    """The board in the form of a file's ending."""
    if form in (".html", ".png"):
        from local_eval.report.page import leaderboard as drawn  # here, so that text needs no matplotlib

        return drawn.page(board, path.parent).encode() if form == ".html" else drawn.picture(board)
    return {".csv": as_csv, ".json": as_json}[form](board).encode()


def leaderboard_of(grader: Grader, shared: Sequence[Path] = ()) -> Leaderboard:
    """The board of a grader's task, N and seed; raises ScoreError if there is nothing on it.

    Args:
        shared: files that others have made with `share`, which stand on it too.
    """
    if odd := next((path for path in shared if not is_for_others(path)), None):
        raise ScoreError(f"{odd} was not made by `share`; what is graded here stands on the board without being named")
    rows = shared_rows(grader, shared).items()
    more = [Entry(f"{row.shared.label} ({Path(name).name})", row.result(), row.confidences) for name, row in rows]
    found, left_out, oracles = entries(grader, more)
    facts = facts_of(grader, found, shared)
    return make_leaderboard(found, left_out, oracles, grader.labels_and_persons[1], facts, _tell)


def facts_of(grader: Grader, found: list[Entry], shared: Sequence[Path] = ()) -> dict:
    """On what the entries of a leaderboard were graded, and the command that makes it again, with shared files."""
    made = provenance(grader.device, card_name(grader.device))
    devices = {str(one.result.get("device")) for one in found}
    return {
        "task": grader.task.name,
        "fingerprint": grader.fingerprint,
        "runs": grader.runs,
        "seed": grader.seed,
        **({"original": grader.given_original} if grader.other_original() else {}),
        "ceiling": found[0].result["ceiling"],
        "ceiling_interval": found[0].result["ceiling_interval"],
        "device": ", ".join(sorted(devices)),
        "hardware": made["hardware"],
        "torch": ", ".join(sorted({str(one.result.get("torch")) for one in found})),
        "commit": made["commit"],
        "command": command(
            "leaderboard", shared, task=grader.task_spec, runs=grader.runs, seed=grader.seed or None, whole=False
        ),
    }


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# The command `report`: draw the page of what was graded last.


def report(request: Request) -> int:
    """Draw the page, and say where it is."""
    how = {"seed": request.seed, "device": device_of(request), "batches_on": request.batches_on}
    grader = Grader(request.task, request.out, **how)
    if request.retrained:
        grader = AgainstGiven.like(grader, request.retrained, look=False)
    name = request.submission
    submission = Path(name) if looks_like_checkpoints(name) else Submission.find(request.found[name])
    graded = None if request.runs is None else graded_with(grader, submission, request.runs)
    print(f"report: {make_report(grader, submission, not request.no_images, graded)}")
    return 0


def graded_with(grader: Grader, submission: Submission | Path, runs: int) -> tuple[int, int]:
    """N, and how many runs were left out, of the score that `grade --runs N` has made."""
    folder = None if isinstance(submission, Path) else grader.score_folder(grader.run_plan(submission).folder_name)
    sizes = [(one.get("runs", 0), len(one.get("missing_runs", ()))) for _, one in kept(folder)] if folder else []
    return min((size for size in sizes if sum(size) == runs), key=lambda size: size[1], default=(runs, 0))


def bench(request: Request) -> int:
    """Time the kit beside the plain way."""
    from local_eval import bench as timing  # here, since nothing else needs it

    given = (request.task, device_of(request), request.parts, request.submission, request.models, request.pool)
    found = timing.bench(*given)
    for _, path in request.write:
        timing.save(found, path)
    return 0
