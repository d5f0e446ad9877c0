"""What a submission does to its process in one run reaches no other run, and leaves nothing behind.

Each row misbehaves in run 5 alone, some of them together. The grader's side of all runs is this process, as it is a
worker's: so whatever leaks out of a run 5 would be seen in a run after it, whose record must be that of the
well-behaved submission, bit for bit. What becomes of run 5 itself is in the row: "equal", or a piece of the reason why
it failed.
"""

import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from local_eval.isolation.child import Failure
from local_eval.runs.one_run import one_run, seed_everything

LIMIT = 30.0  # seconds for a run; none of the rows is to come near it
TRAINS = """
import torch
from torch import nn
from torch.nn import functional as F

def unlearning(net, retain_loader, forget_loader, val_loader):
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for batch in retain_loader:
        optimizer.zero_grad()
        F.cross_entropy(net(batch["image"]), batch["age_group"]).backward()
        optimizer.step()
    with torch.no_grad():
        for weight in net.parameters():
            weight += 0.01 * torch.randn_like(weight)
    net.eval()
"""
# name -> (what run 5 does after it has trained, what becomes of run 5)
ROWS = {
    "threads of torch": ("torch.set_num_threads(4)", "equal"),
    "mkldnn off": ("torch.backends.mkldnn.set_flags(False)", "equal"),
    "default dtype": ("torch.set_default_dtype(torch.float64)", "equal"),
    "deterministic flags": ("torch.use_deterministic_algorithms(True)\ntorch.backends.cudnn.benchmark = True", "equal"),
    "gradients off": ("torch.set_grad_enabled(False)", "equal"),
    "global hook": ("nn.modules.module.register_module_forward_hook(lambda m, i, o: o * 0)", "equal"),
    "function mode": (
        "class Doubles(torch.overrides.TorchFunctionMode):\n"
        "    def __torch_function__(self, f, types, args=(), kwargs=None):\n"
        "        found = f(*args, **(kwargs or {}))\n"
        "        return found * 2 if f in (F.conv2d, F.linear) else found\n"
        "Doubles().__enter__()",
        "equal",
    ),
    "autocast": ("torch.autocast('cpu', dtype=torch.bfloat16).__enter__()", "equal"),
    "inference mode": ("global kept\nkept = torch.inference_mode()\nkept.__enter__()", "equal"),
    "device context": ("torch.device('meta').__enter__()", "equal"),
    "SGD.step": ("torch.optim.SGD.step = lambda self: None", "equal"),
    "cross entropy": ("F.cross_entropy = nn.functional.cross_entropy = lambda *a, **k: torch.zeros(())", "equal"),
    "DataLoader": ("torch.utils.data.DataLoader.__iter__ = lambda self: iter(())", "equal"),
    "numpy.argmax": ("import numpy\nnumpy.argmax = numpy.isfinite = lambda *a, **k: 0", "equal"),
    "clocks": ("import time\ntime.time = time.perf_counter = time.monotonic = lambda: 0.0", "equal"),
    "the task's network": (
        "import sys\nfor m in list(sys.modules.values()):\n    if hasattr(m, 'NarrowResNet'): m.NarrowResNet = None\n"
        "    if hasattr(m, 'tiny_net'): m.tiny_net = None",
        "equal",
    ),
    "Tensor.argmax": ("torch.Tensor.argmax = lambda self, *a, **k: torch.zeros(len(self)).long()", "equal"),
    "modules replaced": (
        "import sys\nfor n in ('json', 'numpy', 'local_eval.store.records'): sys.modules[n] = None",
        "equal",
    ),
    "grader patched": (
        "import sys\ne = sys.modules['local_eval.tasks.evaluate']\ne.predict = e.evaluate = lambda *a, **k: None",
        "equal",
    ),
    "environment": ("import os\nos.environ.clear()\nos.environ['OMP_NUM_THREADS'] = '7'", "equal"),
    "working directory": ("import os\nos.chdir('/')", "equal"),
    "warnings": ("import warnings\nwarnings.simplefilter('error')", "equal"),
    "SIGALRM": ("import signal\nsignal.alarm(1)", "equal"),
    "SIGALRM and a sleep": ("import signal, time\nsignal.alarm(1)\ntime.sleep(5)", "SIGALRM"),
    "SIGTERM ignored": ("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)", "equal"),
    "thread": ("import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()", "equal"),
    "child": ("import subprocess\nsubprocess.Popen(['sleep', '600'])", "equal"),
    "child in its own session": (
        "import subprocess\nsubprocess.Popen(['sleep', '600'], start_new_session=True)",
        "equal",
    ),
    "grandchild that got away": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(600)\n    os._exit(0)",
        "equal",
    ),
    "fork that comes back": ("import os\nos.fork()", "equal"),
    "a dozen children": (
        "import os, time\n"
        "for k in range(12):\n    if os.fork() == 0:\n        k % 2 and os.setsid()\n        time.sleep(600)",
        "equal",
    ),
    "background printer": ("import subprocess\nsubprocess.Popen(['yes'], start_new_session=True)", "equal"),
    "atexit": ("import atexit, time\natexit.register(time.sleep, 600)", "equal"),
    "os._exit": ("import os\nos._exit(0)", r"without an answer \(exit code 0\)"),
    "os._exit patched": ("import os\nos._exit = os.kill = os.write = lambda *a: None", "equal"),
    "all files closed": ("import os\nos.closerange(0, 4096)", "close all files"),
    "result's file emptied": (
        "import os\n"
        "for n in range(3, 64):\n    try: os.ftruncate(n, 0); os.write(n, b'+nonsense')\n    except OSError: pass",
        "handed over",
    ),
    "tens of megabytes": ("for _ in range(40): print('x' * 1_000_000)", "equal"),
    "own group": ("import os, signal\nos.killpg(0, signal.SIGKILL)", "SIGKILL"),
    "real-time signal": ("import os\nos.kill(os.getpid(), 40)", "signal 40"),
    "recursion": ("import sys\nsys.setrecursionlimit(60)", "equal|RecursionError|without an answer"),
    "open": ("import builtins, io\nbuiltins.open = io.open = None", "equal"),
    "garbage collector": ("import gc\ngc.disable()\ngc.freeze()", "equal"),
    "random state": ("import random, numpy\ntorch.manual_seed(1)\nrandom.seed(1)\nnumpy.random.seed(1)", "equal"),
    "data and labels written": (
        "retain_loader.dataset.split.images.zero_()\nval_loader.dataset.split.labels.zero_()",
        "data of the retain and validation set was changed",
    ),
    "excepthook and trace": ("import sys\nsys.settrace(lambda *a: None)\nsys.excepthook = None", "equal"),
    "error without words": (
        "class Mute(BaseException):\n    def __str__(self): raise KeyError\nraise Mute()",
        "without an answer",
    ),
}  # fmt: skip
# Rows that hinder none of those after them: one run does them all. The last may.
TOGETHER = (
    ("threads of torch", "mkldnn off", "deterministic flags", "random state", "garbage collector", "clocks",
     "environment", "working directory", "default dtype"),
    ("global hook", "function mode", "SGD.step", "cross entropy", "DataLoader", "numpy.argmax", "Tensor.argmax",
     "the task's network", "grader patched", "modules replaced"),
    ("gradients off", "autocast", "inference mode", "device context", "excepthook and trace", "warnings"),
    ("SIGTERM ignored", "thread", "child", "child in its own session", "grandchild that got away",
     "background printer", "a dozen children", "tens of megabytes", "atexit"),
)  # fmt: skip
ALONE = [(name,) for name in ROWS if not any(name in names for names in TOGETHER)]


@pytest.fixture(scope="module", autouse=True)
def plain_process():
    """As a worker: with a pool of threads a forked process could not start one of its own."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def well_behaved(tiny_grader, tmp_path_factory):
    """Runs 4 to 7 of the submission that does nothing but its work."""
    path = tmp_path_factory.mktemp("good") / "mine.py"
    path.write_text(TRAINS)
    plan = replace(tiny_grader.run_plan(str(path)), timeout=LIMIT)
    return {index: one_run(plan, index) for index in (4, 5, 6, 7)}


def misbehaving(lines: str) -> str:
    seed_everything(0, 5)
    body = "".join(f"        {line}\n" for line in lines.splitlines())
    return f"{TRAINS}    if torch.initial_seed() == {torch.initial_seed()}:\n{body}"


def same(one, other) -> bool:
    a, b = one.evaluation, other.evaluation
    accuracies = [(e.retain_accuracy, e.test_accuracy) for e in (a, b)]
    return np.array_equal(a.forget_logits, b.forget_logits) and accuracies[0] == accuracies[1]


def state_of_this_process():
    """What a leak would change here."""
    here = psutil.Process()
    return {
        "children": [p.pid for p in here.children(recursive=True)],
        "files": here.num_fds(),
        "threads": here.num_threads(),
        "folder": os.getcwd(),
        "environment": {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"},
        "torch": (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()),
        "temporary": list(Path(tempfile.gettempdir()).iterdir()),
    }


def test_what_one_run_does_reaches_no_other(tiny_grader, submission, well_behaved, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    before, last = state_of_this_process(), (*TOGETHER, ALONE[len(ALONE) // 2], ALONE[-1])
    for names in (*TOGETHER, *ALONE):
        lines, becomes = "\n".join(ROWS[name][0] for name in names), ROWS[names[-1]][1]
        assert len(names) == 1 or {ROWS[name][1] for name in names} == {"equal"}
        plan = replace(tiny_grader.run_plan(submission(misbehaving(lines))), timeout=LIMIT)
        fifth = one_run(plan, 5)
        if isinstance(fifth, Failure):
            assert re.search(becomes, fifth.reason), f"{names}: {fifth}"
        else:
            assert "equal" in becomes.split("|"), f"{names}: it was to fail"
            assert same(fifth, well_behaved[5]), names
        assert state_of_this_process() == before, names
        if names in last:
            sixth = one_run(plan, 6)
            assert not isinstance(sixth, Failure), f"{names}: {sixth}"
            assert same(sixth, well_behaved[6]), f"what run 5 of {names}, or of one before it, did has reached run 6"


def test_runs_differ_and_repeat_where_nothing_misbehaves(tiny_grader, submission, well_behaved):
    """Else the table above would compare nothing."""
    plan = tiny_grader.run_plan(submission(TRAINS))
    assert same(one_run(plan, 7), well_behaved[7])
    assert not same(well_behaved[7], well_behaved[6])
    assert not same(well_behaved[4], well_behaved[5])
