"""A competition on the tiny task, made once as a host makes it; tests take copies."""

import contextlib
import hashlib
import io
import json
import shutil
from pathlib import Path

import pytest
import torch

from local_eval.__main__ import main
from local_eval.isolation import pool
from tests.conftest import GOOD, TINY, Forking, made_once, unmeasured
from tests.report.page.simulated import projecting

WHERE = ["--workers", "1", "--device", "cpu"]
KEY = hashlib.sha256(b"the key of the tests").hexdigest()
ZERO = GOOD  # hardly forgets
HUNDRED = """
import torch
from torch.nn import functional as F

def unlearning(net, retain_loader, forget_loader, val_loader):
    for module in net.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    net.train()
    weights = list(net.parameters())
    for batch in retain_loader:
        loss = F.cross_entropy(net(batch["image"]), batch["age_group"])
        for weight, slope in zip(weights, torch.autograd.grad(loss, weights)):
            weight.data -= 0.01 * slope.sign()  # as AdamW's first steps, without the time that it takes to import
    net.eval()
"""


@contextlib.contextmanager
def quickly():
    """Workers are forked, and nothing is done that only tells more: projections, further measures, proofs of speed."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch, projecting(False):
        patch.setattr(pool, "_Spawning", Forking)
        patch.setattr("local_eval.grader.networks_per_job", lambda *_: 1)  # several at once would be proven first
        patch.setattr("local_eval.grader.remark_on_training", lambda *_: "")
        patch.setattr("local_eval.tasks.check.check_network", lambda *_: None)  # the session has tried the tiny one
        unmeasured(patch)
        yield patch


def make_course(folder: Path) -> None:
    """zero.py, hundred.py and a competition in course/ whose scale they are; said.txt is what the command says."""
    (folder / "zero.py").write_text(ZERO)
    (folder / "hundred.py").write_text(HUNDRED)
    anchors = [str(folder / f"{name}.py") for name in ("zero", "hundred")]
    asked = ["--task", TINY, "--runs", "16", "--anchors", *anchors, "--hours", "1.5", "--looks", "3"]
    with quickly() as patch, open(folder / "said.txt", "w") as said, contextlib.redirect_stdout(said):
        patch.setattr("secrets.token_hex", lambda count: KEY[: 2 * count])  # the same parts each time that tests run
        assert main(["host", "init", str(folder / "course"), *asked, *WHERE]) == 0


@pytest.fixture(scope="session")
def course_made(tmp_path_factory):
    """The folder that `make_course` fills; only to be read."""
    return made_once(tmp_path_factory, "course", make_course)


@pytest.fixture
def course(course_made, tmp_path):
    """A copy of the competition, of the test's own."""
    return shutil.copytree(course_made / "course", tmp_path / "course")


def judged(course: Path, file: str, name: str, *more: str) -> tuple[int, dict, str]:
    """What `host judge` ends with, the object on its standard output, and its standard error."""
    out, err = io.StringIO(), io.StringIO()
    with quickly(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["host", "judge", str(course), file, "--as", name, *WHERE, *more])
    assert out.getvalue().count("\n") == 1
    return code, json.loads(out.getvalue()), err.getvalue()
