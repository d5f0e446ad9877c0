"""An exported notebook, alone in an empty folder, makes the very checkpoints that the repository makes.

On a made-up competition, with a narrower resnet18. One notebook runs in a kernel of its own that cannot import the
repository, as on Kaggle; the others run cell by cell in this process, where the repository's packages are hidden.
They are the committed ones: test_export.py tells that a fresh export is the same to the byte.
"""

import contextlib
import inspect
import os
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest
import torch
from nbclient import NotebookClient
from torchvision.models import resnet18

from local_eval.isolation.child import Failure
from local_eval.kaggle.rehearse import with_parameters
from local_eval.methods.submission import ROOT, submission_names
from local_eval.runs.checkpoints import checkpoint_name
from local_eval.runs.one_run import one_run
from local_eval.runs.plan import RunPlan
from tests.competition import make_competition, narrow_resnet18
from tests.conftest import TINY, winners_first
from tests.tiny_task import TinyResNet

OURS = ("common", "local_eval", "submissions", "tests")
ALONE = f"""
import importlib.util, os
assert os.listdir() == [], os.listdir()
for package in {OURS}:
    assert importlib.util.find_spec(package) is None, package
"""
NARROW = f"""
import torchvision
from torch import nn
from torchvision.models import ResNet as {TinyResNet.__base__.__name__}
from torchvision.models.resnet import BasicBlock

{inspect.getsource(TinyResNet)}

{inspect.getsource(narrow_resnet18)}
torchvision.models.resnet18 = narrow_resnet18
"""
IN_A_KERNEL = "baseline_finetune"
SEED = 5
HIDDEN = ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    return make_competition(tmp_path_factory.mktemp("kaggle"), narrow_resnet18)


@pytest.fixture
def empty(tmp_path):
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def committed(name: str) -> str:
    return (ROOT / "notebooks" / f"{name}.ipynb").read_text()


def in_a_kernel(notebook, folder) -> None:
    """Execute a notebook in a folder and a fresh kernel.

    Of our environment the kernel gets neither paths nor a GPU, and it computes with one thread, as the workers do.
    """
    env = {k: v for k, v in os.environ.items() if k not in HIDDEN}
    env |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONNOUSERSITE": "1"}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute(env=env)


def in_this_process(notebook, folder) -> None:
    """Execute a notebook's code cells one after the other, in a folder."""
    space = {"__name__": "__main__"}
    with contextlib.chdir(folder):
        for cell in notebook.cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, "a cell", "exec"), space)


@contextlib.contextmanager
def repository_hidden():
    """Nothing of ours can be imported in here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr("torchvision.models.resnet18", narrow_resnet18)
        for name in {*OURS, *(name for name in sys.modules if name.partition(".")[0] in OURS)}:
            patch.setitem(sys.modules, name, None)
        yield


def parameters(competition, tmp_path, runs: int) -> dict:
    (tmp_path / "working").mkdir()
    places = {name.upper(): str(tmp_path / name) for name in ("tmp", "working")}
    return {"INPUT": str(competition[0]), **places, "RUNS": runs, "SEED": SEED}


def check_same_checkpoints(name, runs, competition, tmp_path):
    """Are the notebook's state dicts those of the repository's runs, to the bit?"""
    _, task, original = competition
    plan = replace(RunPlan.of(name, str(task), "", original, SEED, "cpu"), checkpoints=tmp_path / "ours")
    for index in range(runs):
        result = one_run(plan, index)
        assert not isinstance(result, Failure), result
        expected = torch.load(tmp_path / "ours" / checkpoint_name(index))
        found = torch.load(tmp_path / "tmp" / checkpoint_name(index))
        assert found.keys() == expected.keys()
        differing = [key for key in expected if not torch.equal(found[key], expected[key])]
        assert not differing, f"run {index} of {name} differs in {differing[:3]}"
        assert found["fc.weight"].dtype == torch.float32


@pytest.mark.parametrize("network", [narrow_resnet18, pytest.param(resnet18, marks=pytest.mark.slow)])
def test_a_notebook_alone_in_a_kernel_reproduces_the_repositorys_checkpoints_to_the_bit(network, tmp_path, empty):
    competition = make_competition(tmp_path, network)
    first = ALONE + (NARROW if network is narrow_resnet18 else "")
    in_a_kernel(with_parameters(committed(IN_A_KERNEL), parameters(competition, tmp_path, 2), first), empty)
    check_same_checkpoints(IN_A_KERNEL, 2, competition, tmp_path)
    first, second = (torch.load(tmp_path / "ours" / checkpoint_name(k))["fc.weight"] for k in range(2))
    assert not torch.equal(first, second), "equality would mean nothing if all runs were the same"
    with zipfile.ZipFile(tmp_path / "working" / "submission.zip") as archive:
        assert archive.namelist() == [f"kaggle/tmp/{checkpoint_name(k)}" for k in range(2)]


@pytest.mark.parametrize("name", winners_first([name for name in submission_names() if name != IN_A_KERNEL]))
def test_every_other_notebook_does_so_cell_by_cell(name, narrow, tmp_path, empty):
    notebook = with_parameters(committed(name), parameters(narrow, tmp_path, 1))
    with repository_hidden():
        in_this_process(notebook, empty)
    check_same_checkpoints(name, 1, narrow, tmp_path)


def test_a_repository_within_reach_would_be_noticed(empty):
    env = {k: v for k, v in os.environ.items() if k not in HIDDEN} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=empty, env=env, capture_output=True, text=True)
    assert done.stderr.endswith("AssertionError: common\n")
    with repository_hidden(), pytest.raises(ImportError):
        exec("from common.losses import kl_to_uniform", {})


@pytest.mark.usefixtures("without_a_pool")
def test_the_walkthrough_runs_in_its_folder_and_shows_score_and_histograms(tiny_graded, capsys):
    text = (ROOT / "notebooks" / "walkthrough.ipynb").read_text()
    changed = {"SUBMISSION": str(tiny_graded / "mine.py"), "TASK": TINY, "RUNS": 16, "OUT": str(tiny_graded / "out")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(ROOT))])
        patch.setenv("MPLBACKEND", "Agg")
        in_this_process(with_parameters(text, changed), ROOT / "notebooks")
        assert str(ROOT) in sys.path
    said = capsys.readouterr().out
    assert "ceiling" in said
    assert "worst forgotten: epsilon" in said
    assert "retrained  " in said
