"""The commands `share`, which writes a graded method as one file for others, and `open`, which shows and verifies one.

How to run them: python -m local_eval share my_method.py
                 python -m local_eval open my_method-digits-N64.zip
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from local_eval.cli.checking import device_of
from local_eval.cli.grading import page_source
from local_eval.cli.looking import graded_with
from local_eval.cli.request import Request
from local_eval.commands import command
from local_eval.grader import Grader
from local_eval.methods.submission import Submission
from local_eval.report.table import table
from local_eval.shared.again import make_again, task_of
from local_eval.shared.contents import Shared, read_shared
from local_eval.shared.verifying import Check, check_score, score_anew, write_and_check_page
from local_eval.shared.writing import shared_bytes
from local_eval.store.errors import InputError, printable
from local_eval.store.files import in_bytes, write_atomically
from local_eval.store.for_others import CONTENTS, Private, SharedError
from local_eval.store.lines import terminal_width, wrapped
from local_eval.tasks.names import files_of, split_spec

ENDING = ".zip"
OPENED = "-opened"  # what is behind the file's name in that of the folder into which it is unpacked
NO_SANDBOX = "none"
NO_PROOF = (
    "A checksum shows damage, not who made a file. To see whether its runs come from this source, make one again, "
    "which runs foreign code, in the sandbox"
)


def share(request: Request) -> int:
    """Write the file, and say what is in it."""
    grader = Grader(request.task, request.out, seed=request.seed, device=device_of(request))
    submission = Submission.find(request.found.get(request.submission, request.submission))  # refuses models
    if request.write and request.write.suffix.lower() != ENDING:
        raise InputError(f"--write {request.write}: the file's name must end in {ENDING}")
    graded = None if request.runs is None else graded_with(grader, submission, request.runs)
    source, _ = page_source(grader, submission, graded)
    weights = grader.original_file.read_bytes() if request.weights else None
    content = shared_bytes(source, _private(grader, submission), weights, request.as_written)
    path = request.write or Path(_name(source.result))
    write_atomically(path, content)
    runs, oracles = len(source.unlearned), len(source.pool)
    print(f"{path}: {in_bytes(len(content))}, {submission.label} on {grader.task.name} with its source")
    _say(f"it holds the score, {runs} runs and {oracles} oracles as records, the page without images, and the labels")
    print(f"whoever has the kit verifies it: {command('open', [path.name])}")
    if not request.weights and grader.task.original is None:
        _say("to make a run again, others need the same original model; --weights puts it in")
    return 0


def _private(grader: Grader, submission: Submission) -> Private:
    """What must not be told: also the folders of results, of the submission, and of the task and its data."""
    path, where = split_spec(grader.task_spec)
    data = [*files_of(grader.task_spec), *([Path(where).expanduser()] if where else [])]
    folders = {grader.out, *data, *(file.absolute().parent for file in (*data, path, submission.path))}
    return Private.here(*folders)


def _name(result: Mapping) -> str:
    """'my_method_EPOCHS=3-digits-N64.zip'"""
    seed = f"-seed{result['seed']}" if result["seed"] else ""
    return (
        re.sub(r"[^\w.=-]+", "_", f"{result['submission']}-{result['task']}-N{result['runs']}{seed}").strip("_")
        + ENDING
    )


def open_shared(request: Request) -> int:
    """Verify a file and unpack its page, or make runs of it again; 1 if anything is not as the file says."""
    shared = read_shared(request.file)
    if request.rerun:
        return _rerun(request, shared)
    _say_what(shared)
    print("scoring: computing the score anew from the records", flush=True)
    score = score_anew(shared)
    path, page = write_and_check_page(shared, score, _folder(request, shared))
    found = [*_read_checks(shared), check_score(shared, score), page]
    for check in found:
        _say(f"  {'ok' if check.holds else 'WRONG':<7}{check.name:<11}{check.said}", hang=20)
    print(printable(table(score, shared.label, shared.result["task"], terminal_width())))
    print(f"page: {path}")
    print(f"source, to be read: {path.with_name('method.py')}")
    _tell_what_is_open(request, shared)
    return 0 if all(check.holds for check in found) else 1


def _say_what(shared: Shared) -> None:
    told = shared.result
    print(printable(f"{shared.path}: {shared.label} on {told['task']}, N = {told['runs']}, seed {told['seed']}"))
    kit = told["kit"]
    made = f"kit {kit.get('version')}, commit {kit.get('commit')}, torch {told.get('torch')}, {told.get('hardware')}"
    _say(f"  it says that it was graded at {told['when']} with {made}")


def _say(text: str, hang: int = 2) -> None:
    """Print a sentence that may hold foreign texts, in lines that fit the terminal."""
    print(*wrapped(printable(text), terminal_width(), hang), sep="\n")


def _read_checks(shared: Shared) -> list[Check]:
    """What `read_shared` has verified: it refuses a file in which one of these does not hold."""
    runs, oracles = len(shared.runs), len(shared.pool)
    return [
        Check("checksums", True, f"all {len(shared.contents['sha256']) + 1} parts are as they were written"),
        Check("records", True, f"{runs} runs and {oracles} oracles are of the models that the score names"),
        Check("source", True, f"method.py compiles to what the runs were made from, hash {shared.method.digest}"),
    ]


def _folder(request: Request, shared: Shared) -> Path:
    """Where to unpack: a new folder, or one into which a shared file was unpacked before. Raises SharedError."""
    folder = request.to or request.file.with_name(f"{request.file.stem}{OPENED}")
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / CONTENTS).is_file())):
        raise SharedError(f"{folder} is there already, and not from opening a shared file; choose another with --to")
    write_atomically(folder / CONTENTS, (json.dumps(shared.contents, indent=2) + "\n").encode())
    return folder


def _tell_what_is_open(request: Request, shared: Shared) -> None:
    reads = shared.contents["method"]["reads"]
    named = [*reads["files"], *(f"the variable {name}" for name in reads["variables"])]
    if named:
        _say(f"its runs read what is not in the file: {', '.join(named[:8])}")
    _say(f"{NO_PROOF}:")
    print(f"  {command('open', [str(request.file)], more=['--rerun', str(min(shared.runs))])}")


def _rerun(request: Request, shared: Shared) -> int:
    """Make runs again and compare bits."""
    spec = task_of(shared, request.task)
    level = None if request.sandbox == NO_SANDBOX else request.sandbox
    grader = Grader(spec, request.out, device=device_of(request), workers=1, timeout=request.timeout)
    where = f"in the sandbox, level {level}" if level else "without a sandbox: it can do all that you can"
    print(printable(f"running the code of {shared.label} from {shared.path}, {where}"), flush=True)
    differ = make_again(shared, grader, request.rerun, level)
    for index, text in differ.items():
        same = "the same to the bit: logits, accuracies and controls"
        print(printable(f"run {index}: {f'NOT the same: {text}' if text else same}"))
    return 1 if any(differ.values()) else 0
