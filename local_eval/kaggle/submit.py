"""Push a submission's notebook to Kaggle, wait for it there, and submit its version to the competition.

The installed kaggle package does the talking, with whatever login it finds: `kaggle auth login`, the variable
KAGGLE_API_TOKEN, or ~/.kaggle. The token stays in there: it is never printed, written or put into a notebook.

How to run it: python -m local_eval submit fanchuan --dry-run
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from local_eval.kaggle.export import COMPETITION, USER, export, kernel_metadata
from local_eval.methods.submission import Submission
from local_eval.store.errors import WorkError, first_line

RULES = f"https://www.kaggle.com/competitions/{COMPETITION}/rules"
CLOSED_WORDS = ("deadline", "closed", "ended", "no longer", "not accept", "not open")
PATIENCE = 5  # unanswered questions in a row before waiting ends


class SubmitError(WorkError):
    """Kaggle did not take the submission; the message is one sentence that says why and what to do."""


def submit(name: str, message: str | None, poll_seconds: float, wait_hours: float) -> None:
    """Export, push, wait and submit.

    Raises:
        SubmissionError: the submission cannot be exported.
        SubmitError: Kaggle refused a step, the notebook failed there, or it did not finish in time.
    """
    submission = Submission.find(name)
    label = submission.label
    with tempfile.TemporaryDirectory() as folder:
        export(submission, Path(folder))
        api, user = log_in()
        metadata = kernel_metadata(label, user)
        (Path(folder) / label / "kernel-metadata.json").write_text(json.dumps(metadata))
        version = push(api, Path(folder) / label)
    kernel = metadata["id"]
    print(f"pushed {kernel}, version {version}: https://www.kaggle.com/code/{kernel}")
    wait(api, kernel, poll_seconds, wait_hours)
    text = message or default_message(submission)
    answer = _ask(
        "the submission",
        lambda: api.competition_submit_code("submission.zip", text, COMPETITION, kernel, version, quiet=True),
    )
    print(f"submitted: {answer.message or 'accepted'}")
    print(
        "Kaggle now runs the notebook again, on its own data: as long as 512 runs take, and then it scores them\n"
        f"state and score: {kaggle_command()} competitions submissions {COMPETITION}\n"
        f"             or: https://www.kaggle.com/competitions/{COMPETITION}/submissions"
    )


def describe(name: str, message: str | None, poll_seconds: float) -> str:
    """Every call that `submit` would make, as text. Nothing is sent, and no login is needed."""
    submission = Submission.find(name)
    with tempfile.TemporaryDirectory() as folder:
        size = export(submission, Path(folder)).stat().st_size
    metadata = kernel_metadata(submission.label)
    text = message or default_message(submission)
    return "\n".join(
        [
            f"dry run: nothing is sent. {USER} stands for the account that `{kaggle_command()} auth login` knows.",
            f"1. KaggleApi.authenticate()  -> the account's name, for id {metadata['id']}",
            f"2. KaggleApi.kernels_push(folder)  with {submission.label}.ipynb ({size} bytes) and "
            "kernel-metadata.json:",
            json.dumps(metadata, indent=2),
            f"3. KaggleApi.kernels_status({metadata['id']!r})  every {poll_seconds:g} s until it is complete",
            f"4. KaggleApi.competition_submit_code('submission.zip', {text!r}, {COMPETITION!r}, {metadata['id']!r}, "
            "VERSION)  with the version that step 2 returned",
        ]
    )


def kaggle_command() -> str:
    """How Kaggle's own command is called from here: it lies beside this Python, whose folder may not be in the PATH."""
    name = "kaggle.exe" if os.name == "nt" else "kaggle"
    beside, found = Path(sys.executable).with_name(name), shutil.which("kaggle")
    if not beside.is_file() or (found and Path(found) == beside):
        return "kaggle"
    with contextlib.suppress(ValueError):
        beside = beside.relative_to(Path.cwd())
    return shlex.quote(str(beside))


def default_message(submission: Submission) -> str:
    """The submission's description on Kaggle: its name and the hash of its source."""
    return f"{submission.label} {submission.digest()}"


def log_in() -> tuple[Any, str]:
    """The kaggle package's API object, logged in, and the account's name. Raises SubmitError."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a page of help, and tries to log in when imported
        try:
            from kaggle import KaggleApi
            from kagglesdk.kaggle_env import get_access_token_from_env
        except ImportError as error:
            raise SubmitError(f"The kaggle package is not usable ({error}): pip install -r requirements.txt.") from None

        api = KaggleApi()
        try:
            _ask("the login", api.authenticate)
        except SystemExit:
            if get_access_token_from_env()[0]:
                raise SubmitError(_sentence("the login", 401, "")) from None
            raise SubmitError(
                f"No Kaggle token was found: run `{kaggle_command()} auth login`, or set KAGGLE_API_TOKEN to a token "
                "from https://www.kaggle.com/settings/api."
            ) from None
    return api, api.get_config_value(api.CONFIG_NAME_USER)


def push(api: Any, folder: Path) -> int:
    """Upload and start the notebook in `folder`; returns its version. Raises SubmitError."""
    answer = _ask("the notebook", lambda: api.kernels_push(str(folder)))
    if answer.error:
        raise SubmitError(f"Kaggle did not take the notebook: {answer.error.rstrip('.')}.")
    if answer.invalid_competition_sources:
        raise SubmitError(_sentence("the notebook", 403, ""))
    return answer.version_number


def wait(api: Any, kernel: str, poll_seconds: float, wait_hours: float) -> None:
    """Ask for the notebook's state until it is complete, with a progress line. Raises SubmitError if it fails."""
    start, unanswered = time.monotonic(), 0
    while True:
        minutes = (time.monotonic() - start) / 60
        try:
            answer = _ask("the question for the notebook's state", lambda: api.kernels_status(kernel))
            unanswered = 0
        except _NoAnswer:
            unanswered += 1
            if unanswered == PATIENCE:
                raise
            answer = None
        state = answer.status.name if answer else "no answer, asking again"
        print(f"\r{kernel}: {state.lower()}, {minutes:.0f} min   ", end="", flush=True)
        if state == "COMPLETE":
            print()
            return
        if state == "ERROR" or state.startswith("CANCEL"):
            print()
            what = "failed" if state == "ERROR" else "was cancelled"
            why = f": {answer.failure_message.rstrip('.')}" if answer.failure_message else ""
            raise SubmitError(
                f"The notebook {what} on Kaggle{why}; its log is at https://www.kaggle.com/code/{kernel}/log."
            )
        if minutes > 60 * wait_hours:
            raise SubmitError(
                f"The notebook {kernel} is still {state.lower()} after {wait_hours:g} h; it goes on there."
            )
        time.sleep(poll_seconds)


class _NoAnswer(SubmitError):
    """Kaggle could not be reached, or had a fault of its own."""


def _ask(what: str, call: Callable[[], Any]) -> Any:
    """The result of a call of the kaggle package; its errors become one sentence, without the request's headers."""
    try:
        return call()
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        kind = _NoAnswer if status >= 500 else SubmitError
        raise kind(_sentence(what, status, str(error))) from None
    except requests.RequestException as error:
        raise _NoAnswer(
            f"Kaggle could not be reached for {what} ({type(error).__name__}); check the connection."
        ) from None
    except ValueError as error:  # what the package itself finds wrong
        raise SubmitError(f"Kaggle did not take {what}: {first_line(error).rstrip('.')}.") from None


def _sentence(what: str, status: int, said: str) -> str:
    if status == 401:
        again = f"run `{kaggle_command()} auth login` or make a new token"
        return f"Kaggle refused the token, which is expired or revoked: {again}."
    if status == 403:
        return f"Kaggle refused {what}: accept the competition's rules at {RULES} with the token's account."
    if status == 404 or (status == 400 and any(word in said.lower() for word in CLOSED_WORDS)):
        return f"Kaggle did not take {what}: the competition is closed or not there ({said.rstrip('.')})."
    return f"Kaggle answered {status} to {what}: {said.rstrip('.')}."
