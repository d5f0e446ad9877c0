"""An exported notebook, alone in an empty folder, makes the very checkpoints that the repository makes.

Each notebook runs in a kernel of its own that cannot import the repository, on a made-up competition.
"""

import os
import zipfile
from dataclasses import replace

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell

from local_eval.isolation.child import Failure
from local_eval.kaggle.export import submission_notebook
from local_eval.methods.submission import ROOT, Submission, submission_names
from local_eval.runs.checkpoints import checkpoint_name
from local_eval.runs.one_run import one_run
from local_eval.runs.plan import RunPlan
from tests.competition import make_competition
from tests.conftest import TINY, winners_first

ALONE = """
import importlib.util, os
assert os.listdir() == [], os.listdir()
for package in ("common", "local_eval", "submissions"):
    assert importlib.util.find_spec(package) is None, package
"""
RUNS, SEED = 2, 5


@pytest.fixture(scope="module")
def competition(tmp_path_factory):
    return make_competition(tmp_path_factory.mktemp("kaggle"))


def execute(text: str, folder, parameters: dict, first: str = "", **more: str) -> str:
    """Run a notebook in a folder and a fresh kernel, parameters replaced, `first` before all; returns what it printed.

    Of our environment the kernel gets neither paths nor a GPU, and it computes with one thread, as the workers do.
    """
    notebook = nbformat.reads(text, as_version=4)
    (place,) = [k for k, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", [])]
    replaced = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    notebook.cells.insert(place + 1, new_code_cell(replaced))
    notebook.cells.insert(0, new_code_cell(first))
    hidden = ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME")
    env = {k: v for k, v in os.environ.items() if k not in hidden}
    env |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONNOUSERSITE": "1", **more}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute(env=env)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


@pytest.fixture
def empty(tmp_path):
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def parameters(competition, tmp_path) -> dict:
    (tmp_path / "working").mkdir()
    return {
        "INPUT": str(competition[0]),
        "TMP": str(tmp_path / "tmp"),
        "WORKING": str(tmp_path / "working"),
        "RUNS": RUNS,
        "SEED": SEED,
    }


@pytest.mark.parametrize("name", winners_first(submission_names()))
def test_a_notebook_reproduces_the_repositorys_checkpoints_to_the_bit(name, competition, tmp_path, empty):
    _, task, original = competition
    execute(submission_notebook(Submission.find(name)), empty, parameters(competition, tmp_path), ALONE)
    ours = tmp_path / "ours"
    plan = replace(RunPlan.of(name, str(task), "", original, SEED, "cpu"), checkpoints=ours)
    for index in range(RUNS):
        result = one_run(plan, index)
        assert not isinstance(result, Failure), result
        expected = torch.load(ours / checkpoint_name(index))
        found = torch.load(tmp_path / "tmp" / checkpoint_name(index))
        assert found.keys() == expected.keys()
        differing = [key for key in expected if not torch.equal(found[key], expected[key])]
        assert not differing, f"run {index} of {name} differs in {differing[:3]}"
        assert found["fc.weight"].dtype == torch.float32
    first, second = (torch.load(ours / checkpoint_name(k))["fc.weight"] for k in range(RUNS))
    assert not torch.equal(first, second), "equality would mean nothing if all runs were the same"
    with zipfile.ZipFile(tmp_path / "working" / "submission.zip") as archive:
        assert archive.namelist() == [f"kaggle/tmp/{checkpoint_name(k)}" for k in range(RUNS)]


def test_a_repository_within_reach_would_be_noticed(competition, tmp_path, empty):
    text = submission_notebook(Submission.find("baseline_finetune"))
    with pytest.raises(CellExecutionError, match=r"AssertionError.*: common"):
        execute(text, empty, parameters(competition, tmp_path), ALONE, PYTHONPATH=str(ROOT))


def test_the_walkthrough_runs_in_its_folder_and_shows_score_and_histograms(tmp_path, submission):
    text = (ROOT / "notebooks" / "walkthrough.ipynb").read_text()
    changed = {"SUBMISSION": submission(), "TASK": TINY, "RUNS": 16, "OUT": str(tmp_path / "outputs")}
    said = execute(text, ROOT / "notebooks", changed)
    assert "ceiling" in said
    assert "worst forgotten: epsilon" in said
    assert "retrained  " in said
