"""Make a run of a shared method again, and compare it with the record in the file, bit by bit.

This runs foreign code, so nothing here is called unless somebody has asked for it; in the sandbox, where there is one.

How to run it: python -m local_eval open FILE --rerun 7
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from local_eval.grader import Grader
from local_eval.isolation.child import Failure
from local_eval.isolation.share_gpu import run_on_device
from local_eval.methods.submission import Submission
from local_eval.oracles.original import original_digest
from local_eval.runs.one_run import WORKER_GRACE, one_run
from local_eval.runs.plan import RunPlan
from local_eval.shared.contents import METHOD, Shared
from local_eval.shared.verifying import FACTS, bits_differ
from local_eval.store.errors import WorkError
from local_eval.store.for_others import SharedError
from local_eval.tasks.names import NET, files_in, split_changes, task_names


def task_of(shared: Shared, named: str | None) -> str:
    """The task on which a run is to be made again: the one that is named, or one of the kit's own.

    Raises:
        SharedError: none is named, and it is not the kit's alone; a file's task is never looked for on the disk.
    """
    if named:
        return named
    spec = shared.result["task_spec"]
    bare, changes = split_changes(spec)
    network = str(changes.get(NET, ""))
    if bare in task_names() and not files_in(changes) and not {":", "/", "\\"} & set(network):
        return spec
    raise SharedError(f"{shared.path} was graded on {spec}, which does not come with the kit; name it with --task")


@contextlib.contextmanager
def _written_out(shared: Shared) -> Iterator[Submission]:
    """The method as a file of its own, in a folder that is removed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder).resolve() / METHOD
        path.write_bytes(shared.method.source.encode())
        found = Submission.find(str(path))
        if found.digest() != shared.method.digest:
            names = ", ".join(sorted(shared.method.common))
            raise SharedError(f"{shared.path}: its code uses files of the kit that are others here: {names}")
        yield found


def make_again(shared: Shared, grader: Grader, indices: Sequence[int], sandbox: str | None) -> dict[int, str]:
    """Make runs of a shared method again, one after the other, and compare bits.

    Args:
        grader: of the task, with the device, the time limit, and the folder where the original model is looked for.
        sandbox: the level that runs are confined to; None for none.
    Returns:
        For every run an empty text if it is the same to the bit, or what differs.
    Raises:
        SharedError: the task or the original model is another one, or there is no such run.
        SandboxError: the sandbox cannot be had here.
        WorkError: a run failed.
    """
    if gone := [k for k in indices if k not in shared.runs]:
        raise SharedError(f"{shared.path} holds no run {gone[0]}; it has {min(shared.runs)} to {max(shared.runs)}")
    if grader.fingerprint != shared.fingerprint:
        raise SharedError(
            f"{shared.path} was graded on a task with the fingerprint {shared.fingerprint}; "
            f"{grader.task_spec} has {grader.fingerprint}"
        )
    with _written_out(shared) as submission, tempfile.TemporaryDirectory() as place:
        confined = replace(grader, seed=shared.result["seed"], sandbox=sandbox)
        box = confined.sandbox_of_runs()
        if box is not None:
            box = replace(box, hidden=(*box.hidden, str(shared.path.resolve())))
            box.check(submission, grader.device)
        original = _original(shared, grader, Path(place))
        plan = replace(confined.run_plan(submission), original=original, sandbox=box, timeout=grader.timeout)
        return dict(_compared(shared, plan, indices))


def _original(shared: Shared, grader: Grader, place: Path) -> Path:
    """The file of the original model from which the runs started. Raises SharedError if there is another one here."""
    wanted = shared.result["made_from"]["original"]
    if shared.weights is not None:
        path = place / "original.npz"  # of arrays alone, verified when it was read
        path.write_bytes(shared.weights)
    else:
        grader.finish_originals()
        path = grader.original_file
    if (found := original_digest(path)) != wanted:
        advice = "the file's own" if shared.weights is not None else "that of this machine; ask for one with --weights"
        raise SharedError(f"{shared.path}: its runs start from the original model {wanted}, and {found} is {advice}")
    return path


def _compared(shared: Shared, plan: RunPlan, indices: Sequence[int]) -> Iterator[tuple[int, str]]:
    limit = 2 * plan.timeout + WORKER_GRACE
    jobs = run_on_device(plan.device, one_run, plan, list(indices), 1, limit, "runs made again")
    with contextlib.closing(jobs):
        for index, made in jobs:
            if isinstance(made, Failure):
                raise WorkError(f"run {index} of {shared.path} failed here: {made.reported()}")
            differ = bits_differ(made.evaluation, shared.runs[index].evaluation)
            yield index, differ and f"{differ}; {made_otherwise(made.facts, shared.runs[index].facts)}"


def made_otherwise(here: Mapping, there: Mapping) -> str:
    """In what two records were made with other things, which may be why they differ."""
    other = [f"{key} {there.get(key)}, here {here.get(key)}" for key in FACTS[1:] if here.get(key) != there.get(key)]
    if not other:
        return "device, instructions and versions are the same, so the same source should give the same bits"
    return f"it was made with {', '.join(other)}, which round otherwise"
