"""cifar10 is the starting kit's task, from torchvision's files or from image folders."""

import pickle
import shutil
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch.utils.data import random_split
from torchvision import transforms
from torchvision.datasets import CIFAR10
from torchvision.models import resnet18

from local_eval.tasks.loading import download_task, load_task
from local_eval.tasks.names import TaskError
from tests.made_up import check_gradable, write_image

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
KIT = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def write_python_files(where):
    """torchvision's files, with 20 images in each of five training batches and 22 test images."""
    folder, random = where / "cifar-10-batches-py", np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name in [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]:
        size = 22 if name == "test_batch" else 20
        data = random.integers(0, 256, (size, 3072), dtype=np.uint8)
        batch = {"data": data, "labels": random.integers(0, 10, size).tolist(), "batch_label": name, "filenames": []}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}))


@pytest.fixture
def no_checksums(monkeypatch):
    """Let torchvision take any content of its files; they must all be there nevertheless."""
    for name in ("train_list", "test_list"):
        monkeypatch.setattr(CIFAR10, name, [[file, None] for file, _ in getattr(CIFAR10, name)])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": None})


@pytest.fixture
def python_files(tmp_path, no_checksums):
    write_python_files(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def folders(tmp_path, narrow_networks):
    """Six training and two test images a class, in image folders."""
    for part, size in (("train", 6), ("test", 2)):
        for label, name in enumerate(NAMES):
            for k in range(size):
                write_image(tmp_path / "data" / part / name / f"{k}.{'png' if k % 2 else 'JPEG'}", (size, label, k))
            (tmp_path / "data" / part / name / "notes.txt").write_text("passed over")
    return tmp_path / "data"


def test_the_splits_are_the_starting_kits(python_files):
    index = np.random.default_rng(1).permutation(100)[:30]
    np.save(python_files / "forget_idx.npy", index)
    task = load_task(f"cifar10:{python_files}")
    to_tensor = transforms.Compose([transforms.ToTensor(), KIT])
    train = CIFAR10(python_files, train=True, transform=to_tensor)
    held_out = CIFAR10(python_files, train=False, transform=to_tensor)
    test, validation = random_split(held_out, [0.5, 0.5], generator=torch.Generator().manual_seed(42))
    retain = [train[k] for k in range(100) if k not in index]
    expected = {"retain": retain, "forget": [train[k] for k in index], "validation": validation, "test": test}
    for name, examples in expected.items():
        split = task.splits[name]
        assert split.labels.tolist() == [label for _, label in examples]
        assert torch.allclose(split.pixels(slice(None)), torch.stack([image for image, _ in examples]), atol=1e-5)
    assert task.class_weights() is None
    assert task.recipe.epochs == 30
    assert task.make_net.func is resnet18
    assert task.make_net().fc.out_features == 10


def test_without_the_index_file_a_fixed_tenth_is_forgotten(python_files):
    task, again = (load_task(f"cifar10:{python_files}") for _ in range(2))
    assert {name: len(s) for name, s in task.splits.items()} == {
        "retain": 90,
        "forget": 10,
        "validation": 11,
        "test": 11,
    }
    assert task.fingerprint() == again.fingerprint()
    assert sorted(torch.cat([task.retain.image_id, task.forget.image_id]).tolist()) == list(range(100))


def test_image_folders_are_read_class_by_class(folders):
    task = load_task(f"cifar10:{folders}")
    assert {name: len(s) for name, s in task.splits.items()} == {
        "retain": 54,
        "forget": 6,
        "validation": 10,
        "test": 10,
    }
    for split in task.splits.values():
        for image, label, number in zip(split.images, split.labels.tolist(), split.image_id.tolist()):
            part, of_class, size = ("train", number, 6) if number < 60 else ("test", number - 60, 2)
            assert label == of_class // size
            name = sorted((folders / part / NAMES[label]).glob("?.*"))[of_class % size]
            assert np.array_equal(image, write_image(name, (size, label, int(name.stem))))


def test_cifar10_can_be_graded(folders, tmp_path, monkeypatch):
    assert check_gradable(tmp_path, f"cifar10:{folders}", monkeypatch) == "cifar10"


def test_the_default_place_is_data_and_without_data_both_layouts_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = "no CIFAR-10 in data: .*cifar-10-batches-py.*--download.*train/<class>/.*test/<class>/"
    for name in ("cifar10", "competition_like"):
        with pytest.raises(TaskError, match=message):
            load_task(name)


def test_damaged_or_missing_python_files_are_told(tmp_path, python_files, monkeypatch):
    (python_files / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(TaskError, match="cifar-10-batches-py is damaged or incomplete; .*--download"):
        load_task(f"cifar10:{python_files}")
    monkeypatch.undo()  # with the real checksums
    write_python_files(tmp_path / "wrong")
    with pytest.raises(TaskError, match="damaged or incomplete"):
        load_task(f"cifar10:{tmp_path / 'wrong'}")


@pytest.mark.parametrize(
    "index, message",
    [
        (np.array([1.0, 2.0]), "list of integers, got float64"),
        (np.zeros((2, 2), dtype=int), r"list of integers, got int64 \(2, 2\)"),
        (np.array([0, 100]), "from 0 to 99, each once"),
        (np.array([-1, 5]), "from 0 to 99, each once"),
        (np.array([5, 5]), "from 0 to 99, each once"),
        (np.array([], dtype=int), "at least one"),
        (np.array(["a", None], dtype=object), "cannot be read"),
        (np.arange(100), "retain set is empty"),
    ],
)
def test_an_unusable_index_file_is_refused(python_files, index, message):
    np.save(python_files / "forget_idx.npy", index, allow_pickle=True)
    with pytest.raises(TaskError, match=message):
        load_task(f"cifar10:{python_files}")


def test_a_broken_index_file_is_refused(python_files):
    (python_files / "forget_idx.npy").write_text("<html>not found</html>")
    with pytest.raises(TaskError, match="forget_idx.npy cannot be read"):
        load_task(f"cifar10:{python_files}")


def test_the_index_file_is_refused_with_image_folders(folders):
    np.save(folders / "forget_idx.npy", np.arange(6))
    with pytest.raises(TaskError, match="forget_idx.npy counts images in the order of torchvision's files"):
        load_task(f"cifar10:{folders}")


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda root: (root / "train" / "zebra").mkdir(), "train/zebra holds no .png or .jpg images; every class"),
        (lambda root: (root / "test" / "zebra").mkdir(), "test/zebra: train/ has no class of that name"),
        (lambda root: (root / "test" / "cat").rename(root / "cat"), "test/cat holds no .png or .jpg images"),
        (lambda root: write_image(root / "test" / "cat" / "z.png", 0, (31, 32)), "z.png is 31x32 .*resize"),
        (lambda root: (root / "test" / "cat" / "z.png").write_text(""), "z.png cannot be read"),
    ],
)
def test_unusable_image_folders_are_told(folders, make, message):
    make(folders)
    with pytest.raises(TaskError, match=message):
        load_task(f"cifar10:{folders}")


def test_folders_may_hold_other_images_in_other_classes(folders):
    for number, file in enumerate(folders.rglob("*.*[gG]")):
        write_image(file, number, size=(48, 40))
    for name in NAMES[3:]:
        shutil.rmtree(folders / "train" / name)
        shutil.rmtree(folders / "test" / name)
    task = load_task(f"cifar10:{folders}")
    assert task.retain.images.shape[1:] == (3, 40, 48)
    assert task.num_classes == task.make_net().fc.out_features == 3
    with pytest.raises(TaskError, match="has 3 classes; competition_like is cut from the 10 of CIFAR-10"):
        load_task(f"competition_like:{folders}")
    for name in NAMES[1:3]:
        shutil.rmtree(folders / "train" / name)
    with pytest.raises(TaskError, match="train has 1 class folders; it takes two"):
        load_task(f"cifar10:{folders}")


def test_hidden_files_are_passed_over(folders):
    plain = load_task(f"cifar10:{folders}")
    (folders / "train" / "cat" / "._0.png").write_bytes(b"what a Mac leaves on other file systems")
    assert load_task(f"cifar10:{folders}").fingerprint() == plain.fingerprint()


def test_the_folder_of_the_python_files_itself_is_not_the_place_but_its_parent(python_files):
    with pytest.raises(TaskError, match=f"point at the folder that holds cifar-10-batches-py: {python_files}$"):
        load_task(f"cifar10:{python_files / 'cifar-10-batches-py'}")


@pytest.mark.parametrize("name", ["cifar10", "competition_like"])
def test_download_is_torchvisions_and_its_failure_says_what_to_do(name, tmp_path, no_checksums, monkeypatch):
    for error in (URLError("no route"), RuntimeError("File not found or corrupted."), PermissionError("read-only")):
        monkeypatch.setattr(CIFAR10, "download", lambda self, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(TaskError, match="cannot be fetched to .*cs.toronto.edu.*unpack it there"):
            download_task(f"{name}:{tmp_path / 'new'}")
    monkeypatch.setattr(CIFAR10, "download", lambda self: write_python_files(tmp_path / "new"))
    download_task(f"{name}:{tmp_path / 'new'}")
    assert len(load_task(f"cifar10:{tmp_path / 'new'}").test) == 11
