"""Checkpoints from anywhere grade as the runs that made them, and what is wrong or hostile is named and refused."""

import io
import json
import os
import pickle
import stat
import tracemalloc
import zipfile

import pytest
import torch

from local_eval.__main__ import main
from local_eval.grader import Grader
from local_eval.runs.checkpoints import Checkpoints, checkpoint_name
from local_eval.store.states import CheckpointError
from local_eval.tasks.digits import NarrowResNet
from tests.conftest import TINY, in_this_process
from tests.tiny_task import tiny_net

N = 3


def saved(state=None) -> bytes:
    """A checkpoint file's content."""
    buffer = io.BytesIO()
    torch.save(tiny_net().state_dict() if state is None else state, buffer)
    return buffer.getvalue()


@pytest.fixture
def archive(tmp_path):
    """archive(files) -> path of a zip with these (name or ZipInfo, content) pairs beside good checkpoints 0..N-1."""

    def archive(files=(), good=range(N), kind=zipfile.ZIP_STORED, prefix=""):
        path = tmp_path / "submission.zip"
        with zipfile.ZipFile(path, "w", kind) as made:
            for index in good:
                made.writestr(prefix + checkpoint_name(index), saved())
            for name, content in files:
                made.writestr(name, content)
        return path

    return archive


def load_all(path) -> None:
    checkpoints, net = Checkpoints.find(path, tiny_net()), tiny_net()
    for index in range(len(checkpoints.names)):
        checkpoints.load(index, net)


def refused(path, reported) -> None:
    with pytest.raises(CheckpointError, match=reported) as error:
        load_all(path)
    assert path.name in str(error.value)


def test_good_archives_load(archive):
    for prefix in ("", "kaggle/tmp/"):
        for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            path = archive(prefix=prefix, kind=kind)
            assert len(Checkpoints.find(path, tiny_net()).names) == N
            load_all(path)


def test_half_precision_loads_as_full(archive):
    half = tiny_net().half().state_dict()
    path = archive([(checkpoint_name(N), saved(half))])
    net = tiny_net()
    Checkpoints.find(path, net).load(N, net)
    assert net.fc.weight.dtype == torch.float32
    assert torch.equal(net.fc.weight, half["fc.weight"].float())
    assert not torch.equal(net.fc.weight, tiny_net().fc.weight)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_wrong_names_numbers_and_sizes_are_named(archive):
    for files, reported in (
        ([("unlearned_checkpoint_5.pth", b"x")], "4 checkpoints, the highest number is 5.*missing: 3, 4"),
        ([("unlearned_checkpoint_1.pth", b"x")], "checkpoint 1 is there twice"),
        ([("kaggle/tmp/unlearned_checkpoint_1.pth", b"x")], "checkpoint 1 is there twice"),
        ([("unlearned_checkpoint_01.pth", b"x")], "'unlearned_checkpoint_01.pth'"),
        ([("readme.txt", b"x")], "'readme.txt'"),
        ([("../../unlearned_checkpoint_3.pth", b"x")], r"holds '../../unlearned"),
        ([("/etc/unlearned_checkpoint_3.pth", b"x")], r"holds '/etc/unlearned"),
        ([("kaggle/tmp/../unlearned_checkpoint_3.pth", b"x")], "only files"),
        ([("C:\\unlearned_checkpoint_3.pth", b"x")], "only files"),
        ([("unlearned_checkpoint_3.pth", b"")], "unlearned_checkpoint_3.pth is cut off"),
        ([("unlearned_checkpoint_3.pth", saved()[:-100])], "unlearned_checkpoint_3.pth is cut off"),
        ([("unlearned_checkpoint_3.pth", b"\x00" * 10**8)], "has 100000000 bytes"),
    ):
        refused(archive(files), reported)


def changed(**changes) -> dict:
    state = tiny_net().state_dict() | changes
    return {key: value for key, value in state.items() if value is not None}


def test_what_is_not_this_networks_state_dict_is_named(archive):
    for state, reported in (
        (changed(**{"fc.bias": None}), "foreign keys: fc.bias"),
        (changed(extra=torch.zeros(1)), "foreign keys: extra"),
        (changed(**{"fc.bias": torch.zeros(7)}), r"fc.bias has shape \(7,\), expected \(3,\)"),
        (changed(**{"fc.bias": torch.tensor([0.0, float("nan"), 0.0])}), "fc.bias holds NaN"),
        (changed(**{"fc.bias": torch.tensor([0.0, float("inf"), 0.0]).half()}), "fc.bias holds NaN or infinite"),
        (changed(**{"fc.bias": torch.zeros(3, dtype=torch.int64)}), "fc.bias is torch.int64"),
        (changed(**{"fc.bias": torch.tensor([0.0, 1e300, 0.0], dtype=torch.float64)}), "fc.bias holds NaN or infinite"),
        ([1, 2], "holds no state dict"),
        ({"fc.bias": 3}, "holds no state dict"),
    ):
        refused(archive([(checkpoint_name(N), saved(state))]), reported)


class Evil:
    """Unpickled, it would write a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_a_malicious_pickle_is_refused_and_not_run(archive, tmp_path):
    trap = tmp_path / "trap"
    refused(archive([(checkpoint_name(N), saved({"fc.weight": Evil(trap)}))]), r"would call .*mkdir")
    refused(archive([(checkpoint_name(N), pickle.dumps(Evil(trap)))]), "not a file that torch.save writes")
    refused(archive([(checkpoint_name(N), saved({"fc.weight": bytearray(9)}))]), "would call")
    assert not trap.exists()


def test_a_zip_slip_archive_writes_nothing(archive, tmp_path):
    refused(archive([("../slipped/unlearned_checkpoint_3.pth", saved())]), "only files")
    assert {p.name for p in tmp_path.iterdir()} == {"submission.zip"}
    assert not (tmp_path.parent / "slipped").exists()


def test_links_are_refused_in_archives_and_folders(archive, tmp_path):
    link = zipfile.ZipInfo(checkpoint_name(N))
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    refused(archive([(link, "/etc/passwd")]), "is a link")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / checkpoint_name(0)).write_bytes(saved())
    load_all(folder)
    (folder / checkpoint_name(1)).symlink_to(folder / checkpoint_name(0))
    refused(folder, "is a link")


def test_bombs_are_refused_before_they_grow(archive):
    zeros = b"\x00" * 500_000  # small enough for a checkpoint, but it shrinks a thousandfold
    refused(archive([(checkpoint_name(N), zeros)], kind=zipfile.ZIP_DEFLATED), "weights do not compress like that")
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as bomb:  # inside a harmless-looking checkpoint
        bomb.writestr("archive/data.pkl", b"\x00" * 10**8)
    refused(archive([(checkpoint_name(N), inner.getvalue())]), "packed as torch.save never does")


def test_an_archive_that_lies_about_sizes_is_refused(archive):
    path = archive([(checkpoint_name(N), b"\x00" * 10**6)])
    content = path.read_bytes()
    path.write_bytes(content.replace((10**6).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    refused(path, "damaged|cut off")


def test_a_truncated_archive_and_a_missing_one_are_told(archive, tmp_path):
    path = archive()
    path.write_bytes(path.read_bytes()[:-50])
    refused(path, "cut off")
    refused(tmp_path / "none.zip", "does not exist")


def grade(out, *more) -> list[str]:
    return ["grade", *more, "--task", TINY, "--out", str(out), "--workers", "1", "--device", "cpu"]


@pytest.mark.usefixtures("without_a_pool", "score_alone")
def test_runs_and_their_checkpoints_give_the_same_score(tiny_graded, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("local_eval.isolation.share_gpu.run_jobs", in_this_process)
    out, path = tiny_graded / "out", str(tiny_graded / "mine.py")
    assert main(grade(out, path, "--runs", "16", "--keep-checkpoints", "--budget-hours", "1e-4")) == 3
    assert "NOT A VALID SCORE" in capsys.readouterr().out
    (runs,) = out.glob("tiny-*/mine-*/score.json")
    assert json.loads(runs.read_text())["within_budget"] is False
    assert json.loads(runs.read_text())["runs_over_budget"] == list(range(16))
    kept = runs.parent / "submission.zip"
    assert main(grade(out, str(kept))) == 0
    assert main(grade(out, str(runs.parent / "checkpoints"))) == 0
    scores = [json.loads(file.read_text()) for file in out.glob("tiny-*/*/score.json")]
    assert len(scores) == 3
    for key in ("score", "epsilons", "interval", "retain_accuracy", "test_accuracy", "runs"):
        assert scores[0][key] == scores[1][key] == scores[2][key], key
    assert [s["within_budget"] for s in scores].count(None) == 2
    with zipfile.ZipFile(kept) as archive, zipfile.ZipFile(tmp_path / "few.zip", "w") as few:
        for name in archive.namelist()[:15]:
            few.writestr(name, archive.read(name))
    assert main(grade(out, str(tmp_path / "few.zip"))) == 2
    with zipfile.ZipFile(kept, "a") as archive:
        archive.writestr(checkpoint_name(16), saved({"a": torch.zeros(1)}))
    assert main(grade(out, str(kept))) == 2
    assert "checkpoint 16: " in capsys.readouterr().err


def test_one_checkpoint_at_a_time_is_in_memory(tmp_path):
    net, path = NarrowResNet(16, num_classes=10), tmp_path / "submission.zip"
    content = saved(net.state_dict())
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(4):
            archive.writestr(checkpoint_name(index), content)
    tracemalloc.start()
    checkpoints = Checkpoints.find(path, net)
    for index in range(4):
        checkpoints.load(index, net)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(content) < peak < 3 * len(content)


def test_a_kept_checkpoint_that_is_not_what_was_written_is_named_and_made_again(
    original_out, submission, without_a_pool, capsys
):
    grader = Grader(TINY, original_out, runs=6)
    path = submission(name="damaged")
    grader.make_runs(path, keep=True)
    folder = grader.folder / grader.run_plan(path).folder_name
    file = folder / "checkpoints" / "unlearned_checkpoint_4.pth"
    whole = file.read_bytes()
    file.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    capsys.readouterr()
    written = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.npz")}
    grader.make_runs(path, keep=True)
    assert f"{file} is damaged" in capsys.readouterr().err
    assert file.read_bytes() == whole
    assert {p.name for p in folder.glob("*.npz") if p.stat().st_mtime_ns != written[p.name]} == {"0004.npz"}
