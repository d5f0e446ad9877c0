"""`check` tells runs that come out the same though their seeds differ, or differ though they are the same, and why."""

import re

from local_eval.isolation.child import Failure
from local_eval.methods.submission import Submission
from local_eval.runs import check
from local_eval.runs.check import CheckPlan, dry_run, fixed_seeds, on_seeds, unseeded
from tests.conftest import GOOD, TINY

ADD = """
def unlearning(net, retain_loader, forget_loader, val_loader):
    with torch.no_grad():
        for weight in net.parameters():
            weight += {}
"""


def remarks(path):
    found = dry_run(CheckPlan(Submission.find(path), TINY, "cpu"), 0)
    assert not isinstance(found, Failure), found
    return " | ".join(found)


SEEDED = f"import torch\n\ndef seed_everything(seed): torch.manual_seed(seed)\n\n{ADD.format('torch.rand(1)')}"


def test_a_fixed_seed_inside_is_named_with_its_line(submission):
    paths = {}
    for number, seeding in enumerate(("torch.manual_seed(0)", "seed_everything(42)")):
        paths[seeding] = submission(SEEDED.replace("    with", f"    {seeding}\n    with"), f"mine{number}")
        assert f"`{seeding}` in line 7" in " ".join(fixed_seeds(Submission.find(paths[seeding])))
    said = remarks(paths[seeding])
    assert "two seeds gave the same net" in said
    assert f"`{seeding}` in line 7" in said


def test_a_generator_made_at_import_is_named(submission):
    for made, used in (
        ("R = np.random.default_rng(5)", "float(R.random())"),
        ("G = torch.Generator().manual_seed(5)", "torch.rand(1, generator=G)"),
    ):
        path = submission(f"import numpy as np\nimport torch\n{made}\n{ADD.format(used)}")
        assert "5)` in line 3" in " ".join(fixed_seeds(Submission.find(path)))
    said = remarks(path)
    assert "two seeds gave the same net" in said
    assert "5)` in line 3" in said
    assert "gives another net than alone: something survives" in said


def test_what_no_seed_decides_is_named(submission):
    for used, reason in (
        ("time.time_ns() % 1000 * 1e-3", "time_ns()"),
        ("np.random.default_rng().random()", "default_rng()"),
    ):
        path = submission(f"import time\nimport numpy as np\nimport torch\n{ADD.format(f'float({used})')}")
        assert f"{reason}` in line 8" in " ".join(unseeded(Submission.find(path)))
    said = remarks(path)
    assert "one seed gave two nets" in said
    assert f"{reason}` in line 8" in said


def test_what_survives_from_one_run_to_the_next_is_told(submission):
    for made, used, reported in (
        ("COUNT = []", "torch.rand(1) * (COUNT.append(1) or len(COUNT))", "something survives"),
        ("C = {}", "C.setdefault(0, rand())", "two runs in a row in one process gave the same net"),
    ):
        said = remarks(submission(f"import torch\n{made}\ndef rand(): return torch.rand(1)\n{ADD.format(used)}"))
        assert reported in said
        assert f"`{made}` in line 2" in said


LEAVES = """
import torch

def unlearning(net, retain_loader, forget_loader, val_loader):
    loss = net({images}).mean()
    with torch.no_grad():
        for weight, step in zip(net.parameters(), torch.autograd.grad(loss, list(net.parameters()))):
            weight += 1e-3 * step + 1e-2 * torch.randn_like(weight)
    {left}
"""


def test_what_is_left_on_the_net_is_told_as_kaggle_has_one_net_for_all_runs(submission):
    for left, reported in (
        ("net.requires_grad_(False)", "the second of two runs in a row failed.*as on Kaggle: RuntimeError"),
        ("net.half()", "the second of two runs in a row failed.*as on Kaggle: RuntimeError"),
        ("net.fc.register_forward_hook(lambda module, inputs, output: 2 * output)", "something survives.*on the net"),
    ):
        source = LEAVES.format(images="next(iter(retain_loader))['image']", left=left)
        found = dry_run(CheckPlan(Submission.find(submission(source)), TINY, "cpu"), 0)
        assert re.search(reported, found.reason if isinstance(found, Failure) else " | ".join(found)), left


def test_a_good_method_gets_no_such_remark_and_a_gpus_order_of_sums_is_no_fault(submission, tiny):
    mine = Submission.find(submission(GOOD))
    nets = [tiny.make_net().state_dict() for _ in range(4)]
    assert on_seeds(mine, *nets, exact=False) == []
    assert "one seed gave two nets" in on_seeds(mine, *nets)[0]
    assert on_seeds(mine, nets[0], nets[1], nets[1], nets[1]) == []


def test_a_good_method_is_run_three_times_in_two_processes(submission, monkeypatch):
    """Run 1 is made alone and after run 0: if the two agree it can be repeated, and nothing survives."""
    asked, really = [], check._tried
    monkeypatch.setattr(check, "_tried", lambda *given: asked.append(given[4:]) or really(*given))
    remarks(submission(GOOD))
    remarks(submission(f"import time\nimport torch\n{ADD.format('time.time_ns() % 1000 * 1e-3')}", "odd"))
    assert asked == [(1,), (0, 1), (1,), (0, 1), (1,)], "once more only where the two differ"
