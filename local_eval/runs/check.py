"""Check a submission against the contract in seconds: import, signature, and a dry run (dry_run.py).

The dry run happens in a process of its own, so a submission that exits, hangs or crashes cannot take the checker along.

How to run it: python -m local_eval check my_method.py
"""

from __future__ import annotations

import ast

from local_eval.engine.failure import Failure
from local_eval.engine.pool import run_jobs
from local_eval.runs.confined import Sandbox
from local_eval.runs.dry_run import TIME_LIMIT, CheckPlan, dry_run
from local_eval.runs.imported import work_at_import
from local_eval.runs.submissions import TRAVELS, Submission, SubmissionError


def check_submission(name: str, task: str, device: str, sandbox: Sandbox | None = None) -> list[str]:
    """Check a submission by name or path; returns remarks that are no errors.

    Raises:
        SubmissionError: the contract is broken; the message says where and what to change.
        SandboxError: the sandbox cannot be had here.
    """
    submission = Submission.find(name)
    if sandbox is not None:
        sandbox.check(submission, device)
    book = submission.notebook()
    remarks = [*(book.left_out if book else ()), *foreign_imports(submission), *work_at_import(submission)]
    plan = CheckPlan(submission, task, device, sandbox)
    ((_, result),) = run_jobs(dry_run, plan, [0], workers=1, timeout=2 * TIME_LIMIT, title="dry run")
    if isinstance(result, Failure):
        raise SubmissionError(with_path(submission, result))
    return remarks + result


def with_path(submission: Submission, failure: Failure) -> str:
    """A failure's text, which names the submission's file once."""
    text = failure.as_text().rstrip()
    return text if failure.reason.startswith(str(submission.path)) else f"{submission.path}: {text}"


def foreign_imports(submission: Submission) -> list[str]:
    """Remarks on imports that a stand-alone notebook cannot take along."""
    remarks = []
    for node in ast.walk(submission.tree()):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names = [node.module or "."] if isinstance(node, ast.ImportFrom) else names
        for name in names:
            if name.split(".")[0] not in TRAVELS:
                where = submission.place(node.lineno)
                remarks.append(f"{where}: imports {name}, which an exported notebook cannot take along")
    return remarks
