"""Checkpoints under plain names and in plain forms are read as what they are, and one line says how."""

import io
import tarfile
import zipfile
from collections import OrderedDict

import pytest
import torch
from torch import nn

from local_eval.__main__ import main
from local_eval.runs.checkpoints import Checkpoints
from local_eval.store.states import CheckpointError
from tests.conftest import TINY
from tests.tiny_task import tiny_net

N = 3


def saved(state) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def good(k=0):
    """The state dict of a net with random weights."""
    torch.manual_seed(k)
    return tiny_net().state_dict()


GOOD = [good(k) for k in range(N)]
CONTENT = [saved(state) for state in GOOD]


def zipped(tmp_path, files):
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files:
            archive.writestr(name, content)
    return path


def in_folder(tmp_path, files):
    for name, content in files:
        file = tmp_path / "mine" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return tmp_path / "mine"


def loads(path, count=N) -> Checkpoints:
    """Every checkpoint is the net of its number."""
    net = tiny_net()
    found = Checkpoints.find(path, net)
    assert len(found.names) == count
    for k in range(count):
        found.load(k, net)
        assert torch.equal(net.fc.weight, GOOD[k]["fc.weight"])
    return found


def refused(path, reported):
    with pytest.raises(CheckpointError) as caught:
        found = Checkpoints.find(path, tiny_net())
        for k in range(len(found.names)):
            found.load(k, tiny_net())
    assert reported in str(caught.value), caught.value
    assert str(caught.value).count(str(path)) == 1
    assert "\n" not in str(caught.value)


NAMES = (
    "unlearned_checkpoint_{}.pt", "unlearned_checkpoint_{:03}.pth", "checkpoint_{}.pt", "model_{}.pth", "{}.pth",
    "modèle_{}.pth", "größe 1/方法_{}.pth", "unlearned-{:02}.pth", "my models/unlearned_{}.pth", "net{}.pth",
    "kaggle/tmp/model_{}.pth",
)  # fmt: skip


@pytest.mark.parametrize("make", [zipped, in_folder])
def test_plain_names_with_one_number_are_taken_and_said(tmp_path, make):
    for k, name in enumerate(NAMES):
        if make is in_folder and name.startswith("kaggle"):
            continue  # two folders deep is the official zip's
        (tmp_path / str(k)).mkdir()
        found = loads(make(tmp_path / str(k), [(name.format(k), CONTENT[k]) for k in range(N)]))
        assert found.said == f"3 files named as {name.format(0)}"


def test_windows_names_with_backslashes_are_taken(tmp_path):
    loads(zipped(tmp_path, [(f"mine\\unlearned_checkpoint_{k}.pth", CONTENT[k]) for k in range(N)]))
    loads(zipped(tmp_path, [(f"kaggle\\tmp\\unlearned_checkpoint_{k}.pth", CONTENT[k]) for k in range(N)]))


@pytest.mark.parametrize("make", [zipped, in_folder])
def test_what_systems_leave_behind_is_passed_over_and_said(tmp_path, make):
    for below in ("", "mine/"):
        place = tmp_path / f"in {below}"
        (place / "mine" / "__MACOSX").mkdir(parents=True)
        files = [(f"{below}unlearned_checkpoint_{k}.pth", CONTENT[k]) for k in range(N)]
        files += [(f"{below}{name}", b"\0" * 6148) for name in (".DS_Store", "Thumbs.db", "desktop.ini")]
        files += [(f"{below}._unlearned_checkpoint_0.pth", b"x")]
        if make is zipped:
            files += [("__MACOSX/._unlearned_checkpoint_0.pth", b"x"), ("mine/", b"")]
        assert "of the system's files passed over" in loads(make(place, files)).said


def test_names_that_could_mean_something_else_are_refused(tmp_path):
    for names, reported in (
        (["model_0.pth", "net_1.pth"], "names of one kind"),
        (["model_0.pth", "model_1.pt"], "names of one kind"),
        (["a/model_0.pth", "b/model_1.pth"], "names of one kind"),
        (["model_0.pth", "model_00.pth"], "checkpoint 0 is there twice, as 'model_0.pth' and 'model_00.pth'"),
        (["model_1.pth", "model_2.pth"], "missing: 0"),
        (["epoch_0.pth", "epoch_1.pth"], "whose number seems to be no model's"),
        (["net_step0.pth", "net_step1.pth"], "whose number seems to be no model's"),
        (["run1_model_0.pth", "run1_model_1.pth"], "only files unlearned_checkpoint_0.pth"),
        (["a/b/model_0.pth"], "only files"),
        (["unlearned_checkpoint_０.pth"], "only files"),
        ([], "holds no checkpoints; it needs 16 or more"),
        (["../model_0.pth"], "only files"),
        (["model_0.ckpt"], "only files"),
        (["..\\.DS_Store"], "only files"),
    ):
        refused(zipped(tmp_path, [(name, CONTENT[0]) for name in names]), reported)


def parameters(state):
    return OrderedDict((k, nn.Parameter(v) if v.is_floating_point() else v) for k, v in state.items())


FORMS = {
    "state_dict": (lambda s: {"state_dict": s}, "taken from 'state_dict'"),
    "model beside others": (lambda s: {"model": s, "epoch": 3, "seed": 1}, "taken from 'model' (epoch, seed passed"),
    "net": (lambda s: {"net": s}, "taken from 'net'"),
    "data parallel": (lambda s: {f"module.{k}": v for k, v in s.items()}, "prefix 'module.' taken off"),
    "compiled": (lambda s: {f"_orig_mod.{k}": v for k, v in s.items()}, "prefix '_orig_mod.' taken off"),
    "of a network around it": (lambda s: {f"net.{k}": v for k, v in s.items()}, "prefix 'net.' taken off"),
    "both": (lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()}, "prefix 'module.' taken off"),
    "wrapped and prefixed": (lambda s: {"net": {f"module.{k}": v for k, v in s.items()}}, "taken from 'net', prefix"),
    "float64": (lambda s: {k: v.double() if v.is_floating_point() else v for k, v in s.items()}, "float64 read as"),
    "parameters": (parameters, ""),
    "gradients": (lambda s: {k: v.clone().requires_grad_() if v.is_floating_point() else v for k, v in s.items()}, ""),
    "no counters": (lambda s: {k: v for k, v in s.items() if "num_batches" not in k}, "num_batches_tracked filled in"),
    "one counter less": (lambda s: {k: v for k, v in s.items() if k != "bn1.num_batches_tracked"}, "filled in"),
}


def test_plain_forms_are_taken_and_said(tmp_path):
    for form, (change, reported) in FORMS.items():
        found = loads(zipped(tmp_path, [("unlearned_checkpoint_0.pth", saved(change(good())))]), 1)
        said, _ = found.load(0, tiny_net())
        assert reported in said, form
        assert bool(reported) == bool(said), form


def test_half_precisions_are_read_as_full(tmp_path):
    for kind in (torch.float16, torch.bfloat16):
        half, net = {k: v.to(kind) if v.is_floating_point() else v for k, v in good().items()}, tiny_net()
        found = Checkpoints.find(zipped(tmp_path, [("unlearned_checkpoint_0.pth", saved(half))]), tiny_net())
        assert found.load(0, net)[0] == f"{str(kind)[6:]} read as float32"
        assert torch.equal(net.fc.weight, half["fc.weight"].float())


def test_forms_that_could_mean_something_else_are_refused(tmp_path):
    for change, reported in (
        (lambda s: {"model": s, "ema": s}, "holds several state dicts: model, ema"),
        (lambda s: {"ema": s, "epoch": 1}, "holds a state dict under 'ema' beside other things"),
        (lambda s: {"model": {"net": s}}, "holds no state dict"),
        (lambda s: {"model": s, "extra": torch.zeros(1)}, "beside other things"),
        (lambda s: {(f"module.{k}" if k == "fc.bias" else k): v for k, v in s.items()}, "foreign keys"),
        (lambda s: s | {"fc.bias": torch.full((3,), 1e300, dtype=torch.float64)}, "NaN or infinite"),
        (lambda s: s | {"fc.bias": torch.zeros(1).expand(10**9)}, "has shape (1000000000,)"),
        (lambda s: s | {"fc.bias": torch.zeros(3, dtype=torch.complex64)}, "would call"),
        (
            lambda s: {k: v for k, v in s.items() if k != "bn1.running_mean"},
            "missing or foreign keys: bn1.running_mean",
        ),
    ):
        refused(zipped(tmp_path, [("unlearned_checkpoint_0.pth", saved(change(good())))]), reported)


def safe(state) -> bytes:
    from safetensors.torch import save

    return save(state)


def test_safetensors_are_read(tmp_path):
    for make in (zipped, in_folder):
        loads(make(tmp_path, [(f"model_{k}.safetensors", safe(good(k))) for k in range(N)]))


def test_damaged_and_foreign_safetensors_are_refused(tmp_path):
    for content, reported in (
        (b"", "cut off"),
        (safe(good())[:-5], "cannot be loaded"),
        (safe(good())[:60], "cut off"),
        ((2**62).to_bytes(8, "little") + b"{}", "cut off"),
        (saved(good()), "no safetensors file"),
        (safe(good() | {"fc.bias": torch.full((3,), float("nan"))}), "NaN"),
        (safe(good() | {"fc.bias": torch.zeros(3, dtype=torch.int32)}), "fc.bias is torch.int32"),
        (safe({"fc.bias": torch.zeros(3)}), "missing or foreign keys"),
    ):
        refused(zipped(tmp_path, [("model_0.safetensors", content)]), reported)


@pytest.mark.parametrize("make", [zipped, in_folder])
def test_a_flipped_bit_in_a_kept_checkpoint_is_noticed(tmp_path, make):
    content = saved({k: v.double() if v.is_floating_point() else v for k, v in good().items()})
    with zipfile.ZipFile(io.BytesIO(content)) as inner:
        largest = max(inner.infolist(), key=lambda info: info.file_size)
        weights = inner.read(largest)
    for share in (0.2, 0.4, 0.6, 0.8):
        place = content.index(weights) + int(share * len(weights))
        damaged = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        if make is in_folder:
            refused(in_folder(tmp_path, [("unlearned_checkpoint_0.pth", damaged)]), "checksum")
            continue
        path = zipped(tmp_path, [("unlearned_checkpoint_0.pth", content)])
        path.write_bytes(path.read_bytes().replace(content, damaged))
        refused(path, "damaged or cut off (Bad CRC-32")


def tar_of(mode):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        archive.addfile(tarfile.TarInfo("unlearned_checkpoint_0.pth"))
    return buffer.getvalue()


def test_other_archives_and_single_files_are_told_in_one_sentence(tmp_path):
    for name, content, reported in (
        ("a.tar.gz", tar_of("w:gz"), "is a gzip archive; unpack it into a folder"),
        ("a.tar", tar_of("w:"), "is a tar archive; unpack it"),
        ("a.tar.xz", tar_of("w:xz"), "is an xz archive; unpack it"),
        ("a.zip", tar_of("w:bz2"), "is a bzip2 archive; unpack it"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c\0\4", "is a 7z archive; unpack it"),
        ("a.rar", b"Rar!\x1a\x07\1\0", "is a rar archive; unpack it"),
        ("a.pth", saved(good()), "is a single checkpoint; a score needs 16 or more"),
        ("a.zip", saved(good()), "is a single checkpoint"),
        ("a.safetensors", safe(good()), "is a single checkpoint"),
        ("a.zip", b"no zip", "is no zip file"),
        ("a.zip", b"", "is no zip file"),
    ):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, reported)


def test_the_command_line_says_it_too(tmp_path, capsys):
    (tmp_path / "a.tar.gz").write_bytes(tar_of("w:gz"))
    assert main(["grade", str(tmp_path / "a.tar.gz"), "--task", TINY, "--device", "cpu", "--out", str(tmp_path)]) == 2
    assert "unpack it into a folder and give that folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["inner.zip", "folder/inner.tar.gz", "b.7z"])
def test_an_archive_in_the_archive_is_told(tmp_path, name):
    refused(zipped(tmp_path, [(name, b"x")]), "an archive in the archive; unpack it")
