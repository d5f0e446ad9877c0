"""The driver of the exported notebooks, cell by cell in this process: device, data, time, exact count, mock branch."""

import functools
import random

import nbformat
import numpy as np
import pytest
import torch

from local_eval.kaggle.export import submission_notebook
from local_eval.methods.submission import Submission
from local_eval.runs.one_run import seed_everything
from tests.competition import SIZES, make_competition, narrow_resnet18
from tests.conftest import GOOD
from tests.wild_loaders import USES


@pytest.fixture(scope="module")
def competition(tmp_path_factory):
    return make_competition(tmp_path_factory.mktemp("kaggle"), narrow_resnet18)[0]


@functools.cache
def code_cells(source: str, folder) -> list[tuple[str, bool]]:
    """The code of a submission's notebook, cell by cell; which cell holds the parameters?"""
    (folder / "mine.py").write_text(source)
    notebook = nbformat.reads(submission_notebook(Submission.find(str(folder / "mine.py"))), as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [(cell.source, "parameters" in cell.metadata.get("tags", [])) for cell in cells]


@pytest.fixture
def run(tmp_path, tmp_path_factory, competition, monkeypatch):
    """run(source, last=True, **parameters) -> the namespace after all cells, or all but the last."""
    (tmp_path / "working").mkdir()
    monkeypatch.setattr("torchvision.models.resnet18", narrow_resnet18)

    def run(source: str = GOOD, last: bool = True, **parameters) -> dict:
        code = code_cells(source, tmp_path_factory.getbasetemp())
        places = {"INPUT": str(competition), "TMP": str(tmp_path / "tmp"), "WORKING": str(tmp_path / "working")}
        space = {"__name__": "__main__"}
        for cell, has_parameters in code if last else code[:-1]:
            exec(cell, space)
            if has_parameters:
                space |= {**places, "RUNS": 3, "SEED": 1, **parameters}
        return space

    return run


def test_gpus_without_code_in_this_torch_are_told_apart(run):
    usable = run(last=False)["has_code_for"]
    today = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_90a", "sm_100", "compute_120"]
    assert not usable(6, 0, today), "P100"
    assert usable(7, 5, today), "T4"
    assert usable(8, 9, today), "L4 runs code for sm_86"
    assert usable(12, 1, today), "translated from compute_120"
    assert not usable(7, 0, today)
    assert usable(6, 0, ["sm_60", "sm_70"])


def test_the_competition_is_found_where_kaggle_mounts_it_now_too(run, competition, tmp_path):
    root = tmp_path / "input"
    newer = root / "competitions" / "unlearning"
    newer.parent.mkdir(parents=True)
    newer.symlink_to(competition)
    assert run(last=False, INPUT=str(root / "unlearning"))["INPUT"] == str(newer)
    assert run(last=False)["INPUT"] == str(competition)
    with pytest.raises(FileNotFoundError, match="neither in .*/no nor in .*/competitions/no: attach them"):
        run(last=False, INPUT=str(root / "no"))


def test_a_p100_is_refused_and_the_message_says_what_to_pick(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla P100-PCIE-16GB")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (6, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_70", "sm_75", "compute_90"])
    with pytest.raises(RuntimeError, match=r"P100.*sm_60.*cannot be used.*GPU T4 x2"):
        run(last=False)


def test_without_a_gpu_it_goes_on_and_says_so(run, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run(last=False)["DRIVER_DEVICE"].type == "cpu"
    assert "No GPU found" in capsys.readouterr().out


def test_a_batch_is_the_competitions_dict_of_raw_float_pixels(run):
    space = run(last=False)
    dataset = space["CompetitionDataset"]("retain")
    assert len(dataset) == SIZES["retain"]
    batch = next(iter(space["make_loader"](dataset)))
    assert batch.keys() == {"image", "image_id", "age_group", "age", "person_id"}
    assert batch["image"].dtype == torch.float32
    assert batch["image"].shape == (SIZES["retain"], 3, 32, 32)
    assert batch["image"].max() > 200
    assert batch["age_group"].dtype == torch.int64
    assert isinstance(batch["image_id"][0], str)
    batch["image"].zero_()
    dataset[0]["image"].zero_()
    assert dataset[0]["image"].max() > 0, "changing a batch does not reach the stored images"
    assert dataset.examples[0]["image"].dtype == torch.uint8


def test_what_submissions_read_of_loaders_works_in_a_notebook_too(run, competition):
    space = run(last=False)
    real, made_up = space["CompetitionDataset"]("retain"), space["MadeUpDataset"](20)
    for dataset in (real, made_up):
        for use in USES:
            assert use(space["make_loader"](dataset)), use.__name__


def test_seeds_follow_the_repositorys_rule_and_none_draws_afresh(run):
    space = run(last=False)
    space["seed_run"](7)
    found = torch.rand(1), np.random.rand(), random.random()
    seed_everything(1, 7)
    assert found == (torch.rand(1), np.random.rand(), random.random())
    assert run(last=False, SEED=None)["ENTROPY"] != run(last=False, SEED=None)["ENTROPY"]


def test_the_driver_stops_when_the_projection_passes_the_limit_and_keeps_what_exists(run, tmp_path):
    with pytest.raises(RuntimeError, match=r"stopped after 8 of 12 runs: .* projected, the limit is 0:00:00"):
        run(RUNS=12, HOURS=1e-6)
    assert len(list((tmp_path / "tmp").glob("*.pth"))) == 8
    assert not (tmp_path / "working" / "submission.zip").exists()


def test_any_other_number_of_checkpoints_is_refused(run, tmp_path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "unlearned_checkpoint_3.pth").write_text("left over")
    with pytest.raises(RuntimeError, match="exactly 3 checkpoints.*unlearned_checkpoint_3.pth"):
        run()
    assert not (tmp_path / "working" / "submission.zip").exists()


def test_a_broken_net_is_never_saved(run, tmp_path):
    nan, other = "net.fc.weight.data[0, 0] = float('nan')", "net.fc = torch.nn.Linear(32, 3)"
    for line, reported in ((nan, "NaN"), (other, "shapes")):
        with pytest.raises(RuntimeError, match=f"run 0: .*{reported}"):
            run(GOOD + f"    {line}\n")
        assert not list((tmp_path / "tmp").glob("*.pth"))


def test_nothing_leaks_from_one_run_to_the_next_and_the_bar_shows_running_and_projected_time(run, tmp_path, capsys):
    clean = "net.conv1.weight.grad is None and net.conv1.weight.requires_grad and len(net._modules) == 10"
    source = f"{GOOD}    assert {clean}\n    (net.conv1.weight.sum() * 2).backward()\n"
    run(source + "    net.conv1.weight.requires_grad_(False)\n")
    assert (tmp_path / "tmp" / "unlearned_checkpoint_1.pth").exists(), "the second run found a clean net"
    said = capsys.readouterr().out
    for text in ("3/3", "so far", "projected"):
        assert text in said


def test_empty_txt_leaves_an_empty_submission_and_calibrates(run, tmp_path, capsys):
    mock = tmp_path / "mock"
    mock.mkdir()
    (mock / "empty.txt").write_text("")
    run(INPUT=str(mock), REHEARSAL=(70, 5, 5), HOURS=1e-9)
    assert (tmp_path / "working" / "submission.zip").stat().st_size == 0
    assert not (tmp_path / "tmp").exists()
    said = capsys.readouterr().out
    assert "a stock epoch takes" in said
    assert "more than the" in said
