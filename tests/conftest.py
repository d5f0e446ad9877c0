"""What the tests share: one thread, the tiny task with its original model, and submissions written on the fly."""

import contextlib
import os
import shutil
from collections.abc import Callable
from multiprocessing.context import ForkContext
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from local_eval.__main__ import main
from local_eval.grader import Grader
from local_eval.isolation import pool
from local_eval.oracles.original import finish_original
from local_eval.tasks import check
from local_eval.tasks.loading import load_task
from tests import tiny_task

TINY = str(Path(__file__).parent / "tiny_task.py")
GOOD = """
import torch

def unlearning(net, retain_loader, forget_loader, val_loader):
    with torch.no_grad():
        for weight in net.parameters():
            weight += 0.01 * torch.randn_like(weight)
    net.eval()
"""


def winners_first(names) -> list:
    """Names as test parameters; baselines other than the starter are marked slow where a test takes ten seconds."""
    from local_eval.report.compare import rank_and_official_score

    quick = {name for name in names if rank_and_official_score(name)[0] != "-"} | {"baseline_finetune"}
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


def pytest_configure(config):
    """Hide the card, on which what is given no --device would train, from all but the tests that are marked `gpu`."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(autouse=True)
def a_card_if_it_needs_one(request):
    """A test marked `gpu` is skipped without one."""
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("there is no GPU here")


@pytest.fixture(autouse=True)
def one_thread():
    """Workers use one thread; results are compared with theirs to the bit."""
    torch.set_num_threads(1)


class Forking(ForkContext):
    """Stands in for the pool's way to start processes."""

    def __init__(self):
        self.made = []

    def Process(self, *given, **named):  # noqa: N802 (multiprocessing's name)
        self.made.append(super().Process(*given, **named))
        return self.made[-1]


@pytest.fixture(autouse=True)
def forked_workers(request, monkeypatch):
    """A pool's workers are forked from this process, which has loaded torch: real ones, without seconds of imports.

    Those of a test that is marked `spawned` start as they do for a user.
    """
    if "spawned" not in request.keywords:
        monkeypatch.setattr(pool, "_Spawning", Forking)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Decoded pixels are kept in a folder of the test's own, not in the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "unlearning-kit"


@pytest.fixture(autouse=True)
def no_report(request, monkeypatch):
    """`grade` draws no page, which takes two seconds, unless a test is marked `draws`."""
    if "draws" not in request.keywords:
        monkeypatch.setattr("local_eval.cli.grading.report_after_grading", lambda *_: None)


@pytest.fixture(autouse=True)
def tiny_network_is_known(monkeypatch):
    """The tiny task's network is tried where the session loads it, not each of the hundreds of times that tests do."""

    def check_others(task, path, really=check.check_network):
        code = getattr(task.make_net, "__code__", None)
        own = str(path) == TINY and code is not None and code.co_filename == TINY
        if not own or (task.recipe, task.num_classes) != (tiny_task.RECIPE, 3):
            really(task, path)

    monkeypatch.setattr(check, "check_network", check_others)


@pytest.fixture(autouse=True)
def no_further_measures(request, monkeypatch):
    """Gradings leave out the further measures, a second of each, unless a test is marked `draws`."""
    if "draws" not in request.keywords:
        unmeasured(monkeypatch)


def unmeasured(patch: pytest.MonkeyPatch) -> None:
    """Do for a fixture of a wider scope what `no_further_measures` does for tests."""
    patch.setattr("local_eval.grader.further_measures", lambda *_: [])


@pytest.fixture
def without_a_pool(monkeypatch):
    """Stages work in this process: no worker has to import torch, which is most of a small grading's time."""
    work_here(monkeypatch)


def work_here(patch: pytest.MonkeyPatch) -> None:
    """Do for a fixture of a wider scope what `without_a_pool` does for a test."""
    patch.setattr("local_eval.isolation.share_gpu.run_jobs", in_this_process)


def in_this_process(function, argument, indices, workers, *_, **__):
    """Stands in for `run_jobs`; a run still gets a process of its own."""
    assert isinstance(workers, int), "run_jobs takes a number"
    return ((index, function(argument, index)) for index in indices)


@pytest.fixture
def score_alone():
    """A grading gives the score without a projection, which takes seconds."""
    from tests.report.page.simulated import projecting

    with projecting(False):
        yield


@pytest.fixture(scope="session")
def tiny():
    return load_task(TINY)


@pytest.fixture(scope="session")
def original_out(tmp_path_factory, tiny):
    """An output folder in which the tiny task's original model is trained."""
    out = tmp_path_factory.mktemp("out")
    grader = Grader(TINY, out)
    finish_original(tiny, grader.fingerprint, grader.folder / "original.npz", "cpu")
    return out


@pytest.fixture(scope="session")
def tiny_grader(original_out):
    """A grader of that folder, which has loaded its task."""
    return Grader(TINY, original_out, runs=16)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that make(folder) fills once for all of pytest's processes; to be read, and copied by who writes."""
    root = factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    with FileLock(root / f"{name}.lock"):
        if not (root / name).exists():
            (root / f"{name}-begun").mkdir()
            make(root / f"{name}-begun")
            (root / f"{name}-begun").rename(root / name)
    return root / name


def grade_tiny(folder: Path) -> None:
    """Grade GOOD, as mine.py, into out/ as a user would, and keep in said.txt what the command says."""
    (folder / "mine.py").write_text(GOOD)
    where = ["--task", TINY, "--runs", "16", "--out", str(folder / "out"), "--device", "cpu", "--workers", "1"]
    torch.set_num_threads(1)
    with (
        pytest.MonkeyPatch.context() as patch,
        open(folder / "said.txt", "w") as said,
        contextlib.redirect_stdout(said),
    ):
        patch.setattr(pool, "_Spawning", Forking)
        assert main(["grade", str(folder / "mine.py"), *where, "--no-report"]) == 0


@pytest.fixture(scope="session")
def graded_once(tmp_path_factory):
    """mine.py, graded with 16 runs on the tiny task into out/, and said.txt, by workers; only to be read."""
    return made_once(tmp_path_factory, "graded-once", grade_tiny)


@pytest.fixture
def tiny_graded(graded_once, tmp_path):
    """A copy of `graded_once` of the test's own."""
    return shutil.copytree(graded_once, tmp_path / "graded")


@pytest.fixture
def submission(tmp_path):
    """write(source, name) -> path of a submission with that source; GOOD by default."""

    def write(source: str = GOOD, name: str = "mine") -> str:
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        return str(path)

    return write


@pytest.fixture
def body(submission):
    """write(lines) -> path of a submission whose `unlearning` has these lines after GOOD's."""

    def write(lines: str, name: str = "mine") -> str:
        return submission(GOOD + "".join(f"    {line}\n" for line in lines.splitlines()), name)

    return write
