"""Do something again whenever a submission, or what it imports from common/, is saved.

Looked at by content, twice a second: saving without a change does nothing, and no notification service is needed.

How to run it: python -m local_eval quick my_method.py --watch
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from local_eval.engine.errors import InputError, WorkError
from local_eval.runs.refusal import SubmissionError
from local_eval.runs.submissions import source_files, submission_path

POLL = 0.5  # seconds between looks at the files
SETTLED = 0.2  # seconds for which a file must stay as it is: an editor may save in several steps


def whenever_saved(
    name: str, look: Callable[[], object], sleep: Callable[[float], None] = time.sleep
) -> Iterator[InputError | WorkError | RuntimeError | None]:
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
        except (InputError, WorkError, RuntimeError) as error:
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
