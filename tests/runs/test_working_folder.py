"""A run has a folder for itself, what it looked for and missed is part of it, and it counts as it stood at its end."""

import os
from pathlib import Path

import numpy as np
import pytest

from local_eval.grader import Grader
from local_eval.isolation.child import Failure
from local_eval.methods.identity import Reads
from local_eval.methods.submission import Submission
from local_eval.runs.check import CheckPlan, dry_run
from local_eval.runs.one_run import data_of, one_run
from tests.conftest import GOOD, TINY

SCALES = "with torch.no_grad():\n    for w in net.parameters(): w *= scale\n"
ASKS = {  # ways of asking whether there is a file F of a folder D, which is a module M
    "Path.exists": "found = Path(F).exists()",
    "Path.is_file": "found = Path(F).is_file()",
    "os.path.isfile": "found = os.path.isfile(F)",
    "os.stat": "try: os.stat(F); found = True\nexcept OSError: found = False",
    "os.stat by its name": "try: os.stat(path=F); found = True\nexcept OSError: found = False",
    "os.access": "found = os.access(F, os.R_OK)",
    "open": "try: found = bool(open(F))\nexcept OSError: found = False",
    "os.open": "try: found = bool(os.open(F, os.O_RDONLY))\nexcept OSError: found = False",
    "os.listdir": "found = M + '.py' in os.listdir(D)",
    "os.scandir": "found = any(e.name == M + '.py' for e in os.scandir(D))",
    "iterdir": "found = F in map(str, Path(D).iterdir())",
    "glob": "found = bool(glob.glob(D + '/extra*'))",
    "rglob": "found = bool(list(Path(D).rglob('*.py')))",
    "import": "sys.path.insert(0, D)\ntry: exec(f'import {M}'); found = True\nexcept ImportError: found = False\n"
    "sys.path.remove(D)",
    "import_module": "sys.path.append(D)\ntry: importlib.import_module(M); found = True\n"
    "except ImportError: found = False\nsys.path.remove(D)",
    "find_spec": "sys.path.append(D)\nfound = importlib.util.find_spec(M) is not None\nsys.path.remove(D)",
}
PLAIN = "import glob, importlib, importlib.util, os, sys, tempfile\nfrom pathlib import Path\n"


@pytest.fixture
def run(tiny_grader):
    """run(path, index) -> what becomes of a run of a submission."""
    return lambda path, index=1: one_run(tiny_grader.run_plan(path), index)


def same(one, other) -> bool:
    return np.array_equal(one.evaluation.forget_logits, other.evaluation.forget_logits)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder in which commands are given, apart from the submission's."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def test_what_it_saves_under_a_plain_name_is_its_own_goes_with_it_and_is_not_what_it_read(run, body, folder):
    saves = (
        "import os\nassert os.listdir('.') == []\nassert not os.path.exists('best.pth')\n"
        "torch.save(net.state_dict(), 'best.pth')\nos.makedirs('deep/er')\nopen('deep/er/x', 'w').write('1')\n"
        "net.load_state_dict(torch.load('best.pth'))\nassert open('deep/er/x').read() == '1'"
    )
    plain, found = run(body("pass", "plain")), run(body(saves))
    assert same(plain, found)
    read = found.facts["read"]
    assert read["files"] == {} and read["untold"] == []
    assert list(folder.iterdir()) == []
    (folder / "best.pth").mkdir()  # nothing that would be read
    assert Reads.from_json(read).changes() == []


def test_a_task_is_found_from_where_the_command_was_given(tmp_path, original_out, run, body, monkeypatch):
    monkeypatch.chdir(Path(TINY).parent)
    path, task = body("pass"), Path(TINY).name
    assert isinstance(dry_run(CheckPlan(Submission.find(path), task, "cpu"), 0), list)
    found = one_run(Grader(task, original_out, runs=16).run_plan(path), 1)
    assert same(found, run(path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text("image,label,split\n")
    (tmp_path / "pictures" / "retain").mkdir(parents=True)
    for data in ("mine.csv", "pictures", "cifar10:data"):
        assert data_of(data)[1] == tmp_path / data.rpartition(":")[2], "the run's process stands elsewhere"


def test_that_a_file_was_not_there_is_part_of_a_run(run, body, tmp_path):
    lines, files = f"{PLAIN}answers = []\n", []
    for k, ask in enumerate(ASKS.values()):
        files.append(tmp_path / f"there{k}" / f"extra{k}.py")
        files[k].parent.mkdir()
        lines += f"D, F, M = {str(files[k].parent)!r}, {str(files[k])!r}, 'extra{k}'\n{ask}\nanswers.append(found)\n"
    path = body(f"{lines}assert len(set(answers)) == 1, answers\nscale = 0.5 if found else 1.0\n{SCALES}")
    without = run(path)
    assert not isinstance(without, Failure), without
    reads = Reads.from_json(without.facts["read"])
    assert reads.changes() == [] and reads.untold == ()
    for how, file in zip(ASKS, files):
        file.write_text("A = 1\n")
        (change,) = reads.changes()
        assert str(file.parent) in change, how
        file.unlink()
    for file in files:
        file.write_text("A = 1\n")
    with_it = run(path)
    assert not same(with_it, without), "else this compares nothing"
    reads = Reads.from_json(with_it.facts["read"])
    assert reads.changes() == []
    for how, file in zip(ASKS, files):
        file.unlink()
        assert any(str(file.parent) in change for change in reads.changes()), how
        file.write_text("A = 1\n")


def test_what_libraries_and_the_kit_look_for_on_their_own_is_not_recorded(run, submission):
    uses = GOOD + "    import torchvision, pandas, tempfile, json, unittest, email\n    tempfile.mkdtemp()\n"
    uses += "    torch.optim.AdamW(net.parameters()).step()\n    list(retain_loader)\n"
    found = run(submission(uses))
    assert found.facts["read"] == {"files": {}, "environment": {}, "untold": []}


def test_a_relative_path_to_the_users_folder_is_told_in_one_sentence(run, body, folder):
    (folder / "data").mkdir()
    (folder / "settings.json").write_text("{}")
    for lines in (
        "open('settings.json').read()",
        "import os\nscale = 0.5 if os.path.exists('settings.json') else 1.0",
        "try: open('settings.json')\nexcept OSError: pass",
        "torch.load('settings.json')",
        "import numpy as np\nnp.load('settings.json')",
        "import os\nos.listdir('data')",
        "torch.save(net.state_dict(), 'data/best.pth')",
        "raise RuntimeError('cannot open file data: it is missing')",
    ):
        found = run(body(lines))
        assert isinstance(found, Failure), lines
        name = "data" if "data" in lines else "settings.json"
        assert f"{name} is looked for in the run's own working folder" in found.reason and found.traceback == "", lines
        assert str(folder / name) in found.reason, lines


def test_a_relative_path_that_finds_nothing_yet_voids_the_run_when_it_would(run, body, folder):
    found = run(body("import os\nos.path.exists('settings.json')"))
    reads = Reads.from_json(found.facts["read"])
    assert reads.changes() == []
    (folder / "settings.json").write_text("{}")
    assert str(folder / "settings.json") in reads.changes()[0]


CACHES = "import os\nF = {!r}\nif os.path.exists(F):\n    torch.load(F)\nelse:\n    torch.save(net.state_dict(), F)\n"


def test_a_teacher_kept_in_a_file_is_named_and_the_dry_run_leaves_none(run, body, tmp_path):
    teacher = tmp_path / "teacher.pt"
    path = body(CACHES.format(str(teacher)))
    remarks = dry_run(CheckPlan(Submission.find(path), TINY, "cpu"), 0)
    assert any(str(teacher) in remark for remark in remarks), remarks
    assert not teacher.exists(), "what it made of two batches would be found by the runs"
    first, second = run(path, 0), run(path, 1)
    assert str(teacher) in first.facts["read"]["untold"][0]
    assert Reads.from_json(first.facts["read"]).changes() == [], "it does not void itself"
    assert list(second.facts["read"]["files"]) == [str(teacher)]


LEAVES = {  # what is left, and whether the run is the plain one's or what it is told
    "setitimer": ("import signal\nsignal.signal(signal.SIGALRM, lambda *a: 1 / 0)\n"
                  "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)", ""),
    "a timer of the process's own time": (
        "import signal\nsignal.setitimer(signal.ITIMER_PROF, 0.02, 0.001)", ""),
    "alarm": ("import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.02)", ""),
    "threading.Timer": ("import threading\nw = next(net.parameters())\n"
                        "t = threading.Timer(60, lambda: w.data.zero_())\nt.daemon = True\nt.start()", ""),
    "faulthandler": ("import faulthandler\nfaulthandler.dump_traceback_later(0.02, exit=True)", ""),
    "settrace": ("import sys, threading\ndef t(*a): raise KeyError('traced')\nsys.settrace(t)", ""),
    "setprofile": ("import sys\ndef t(f, e, a):\n    if 'hand' in f.f_code.co_filename: raise KeyError('profiled')\n"
                   "sys.setprofile(t)", ""),
    "a profiler of what is ours": (
        "import sys\ndef t(f, e, a):\n    if 'local_eval' in f.f_code.co_filename: raise KeyError('profiled')\n"
        "sys.setprofile(t)", ""),
    "interrupt_main": ("import _thread, threading\nthreading.Timer(0.02, _thread.interrupt_main).start()", ""),
    "limit of CPU time": ("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, resource.RLIM_INFINITY))", ""),
    "a thread that trains on": (
        "import threading\nw = next(net.parameters())\ndef on():\n    while True: w.data.add_(1e-3)\n"
        "threading.Thread(target=on, daemon=True).start()", "goes on changing the net"),
    "a child that trains on": (
        "import os\nnet.share_memory()\nw = next(net.parameters())\n"
        "if os.fork() == 0:\n    while True: w.data.add_(1e-3)",
        "goes on changing the net"),
}  # fmt: skip


def test_a_run_counts_as_it_stood_when_unlearning_returned(run, body):
    plain = run(body("pass", "plain"))
    for name, (lines, reported) in LEAVES.items():
        found = run(body(lines))
        if reported:
            assert isinstance(found, Failure) and reported in found.reason, f"{name}: {found}"
        else:
            assert not isinstance(found, Failure), f"{name}: {found}"
            assert same(found, plain), name


@pytest.mark.slow
def test_workers_and_repetitions_make_no_difference_to_what_saves_its_best_state(tmp_path, body):
    path = body("torch.save(net.state_dict(), 'best.pth')\nnet.load_state_dict(torch.load('best.pth'))")
    found = [Grader(TINY, tmp_path / f"out{k}", runs=16, workers=k).finish_runs(path) for k in (1, 2)]
    assert all(failures == {} for _, failures in found)
    assert all(same(found[0][0][k], found[1][0][k]) for k in range(16))
    grader = Grader(TINY, tmp_path / "out2", runs=16, workers=2)
    made = {p: os.stat(p).st_mtime_ns for p in Path(grader.folder).rglob("0*.npz")}
    grader.finish_runs(path)
    assert {p: os.stat(p).st_mtime_ns for p in made} == made, "nothing is made twice"


def test_an_english_word_in_an_error_is_no_path_though_a_folder_has_that_name(run, body, folder):
    (folder / "results").mkdir()
    found = run(body("raise RuntimeError('it would open the results, which exist')"))
    assert found.reason == "RuntimeError: it would open the results, which exist"
