"""Why runs come out the same although their seeds differ, or differ although the seed is the same.

How it is used: `on_seeds(submission, ...)` in runs/check.py, with the weights of dry runs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import torch
from torch import Tensor

from local_eval.runs.submissions import Submission

SEEDING = {"manual_seed", "manual_seed_all", "seed", "seed_everything", "set_seed", "fix_seed", "set_random_seed"}
GENERATORS = {"default_rng", "RandomState", "Random", "Generator", "SeedSequence"}
UNSEEDED = {"urandom", "SystemRandom", "token_bytes", "randbits", "time", "time_ns", "perf_counter", "uuid4", "getpid"}
State = dict[str, Tensor]


def same(one: State, other: State) -> bool:
    """Are two state dicts equal to the bit?"""
    return all(torch.equal(value, other[name]) for name, value in one.items())


def on_seeds(
    submission: Submission, first: State, second: State, again: State, in_a_row: State, exact: bool = True
) -> list[str]:
    """Remarks on the nets of runs.

    Args:
        first, second: of run 0 and of run 1, each alone in a process.
        again: of run 0 once more.
        in_a_row: of run 1 after run 0 in one process, as in Kaggle's loop.
        exact: whether equal runs are equal to the bit here; on a GPU sums may come in another order.
    """
    remarks = []
    if same(first, second):
        text = "two seeds gave the same net: a deterministic method scores 0, because its runs have no spread"
        remarks.append(text + _because(fixed_seeds(submission)))
    elif exact and not same(first, again):
        text = "one seed gave two nets: a run cannot be repeated, which grading allows"
        remarks.append(text + _because(unseeded(submission)))
    elif same(first, in_a_row):
        text = "two runs in a row in one process gave the same net, as they would on Kaggle: that scores 0 there"
        remarks.append(text + _because(fixed_seeds(submission)))
    if exact and same(first, again) and not same(second, in_a_row):
        text = "a run after another in one process, as on Kaggle, gives another net than alone: something survives, "
        text += "in the file or on the net (hooks, requires_grad, half precision)"
        remarks.append(text + _because(kept(submission)))
    return remarks


def _because(places: list[str]) -> str:
    return f"; a likely reason: {', '.join(places[:3])}" if places else ""


def fixed_seeds(submission: Submission) -> list[str]:
    """Calls that seed something with a value of their own, such as '`torch.manual_seed(0)` in line 7'."""
    given = [call for call in _calls(submission) if call.args or call.keywords]
    return [_told(submission, call) for call in given if _name(call) in SEEDING | GENERATORS]


def unseeded(submission: Submission) -> list[str]:
    """Calls whose result no seed decides: fresh generators, the clock, the system."""
    return [
        _told(submission, call)
        for call in _calls(submission)
        if _name(call) in UNSEEDED or _name(call) in GENERATORS | {"seed"} and not (call.args or call.keywords)
    ]


def kept(submission: Submission) -> list[str]:
    """What is made once, when the file is imported, and may change from run to run."""
    found = []
    for node in submission.tree().body:
        values = [node.value] if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None else []
        if any(isinstance(value, ast.Call | ast.List | ast.Dict | ast.Set | ast.ListComp) for value in values):
            found.append(_told(submission, node))
    for node in ast.walk(submission.tree()):
        if isinstance(node, ast.Global):
            found.append(_told(submission, node))
    return sorted(found, key=lambda text: "Generator" not in text and "global" not in text)


def _calls(submission: Submission) -> Iterator[ast.Call]:
    return (node for node in ast.walk(submission.tree()) if isinstance(node, ast.Call))


def _name(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _told(submission: Submission, node: ast.stmt | ast.expr) -> str:
    return f"`{ast.unparse(node)[:60]}` in {submission.place(node.lineno)}"
