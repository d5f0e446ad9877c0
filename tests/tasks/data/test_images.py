"""Image files are read as Pillow reads them, once for all processes, and what cannot be read is named."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.io import ImageReadMode, read_image
from torchvision.transforms import Resize

from local_eval.tasks.data.images import read_images
from local_eval.tasks.names import TaskError
from tests.made_up import write_image


@pytest.fixture
def files(tmp_path):
    """Nine files of all kinds that can be read, 20 pixels wide and 12 high."""
    paths = [tmp_path / f"{k}.{suffix}" for k, suffix in enumerate(["png", "jpg", "jpeg"] * 3)]
    for k, path in enumerate(paths):
        write_image(path, k, size=(20, 12), mode="L" if k > 5 else "RGB")
    write_image(paths[3], 3, size=(20, 12), mode="RGBA")
    return paths


def test_pixels_are_those_of_each_file_in_order(files):
    images = read_images(files)
    assert images.dtype == torch.uint8
    assert images.shape == (9, 3, 12, 20)
    for image, file in zip(images, files):
        assert np.array_equal(image.permute(1, 2, 0), np.asarray(Image.open(file).convert("RGB")))


def test_resizing_is_torchvisions_on_the_uint8_tensor(files):
    images = read_images(files[:3], resize=(8, 6))
    for image, file in zip(images, files):
        plain = torch.from_numpy(np.asarray(Image.open(file)).transpose(2, 0, 1).copy())
        assert torch.equal(image, Resize((8, 6))(plain))
    assert torch.equal(images[0], Resize((8, 6))(read_image(str(files[0]), ImageReadMode.RGB)))


def test_the_second_reading_comes_from_the_cache_and_is_the_same(files, cache, monkeypatch):
    first = read_images(files)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(Image, "open", None)
    second = read_images(files)
    assert torch.equal(first, second)
    second.zero_()
    assert torch.equal(first, read_images(files)), "whoever writes into his pixels changes nobody else's"


def test_changed_files_other_orders_and_other_sizes_are_read_anew(files):
    before = read_images(files)
    assert torch.equal(read_images(files[::-1]), before.flip(0))
    assert read_images(files, resize=(4, 4)).shape == (9, 3, 4, 4)
    write_image(files[0], 99, size=(20, 12))
    assert not torch.equal(read_images(files)[0], before[0])


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b"", lambda whole: b"PK" * 99]
)
def test_a_damaged_cache_is_replaced(files, cache, damage):
    before = read_images(files).clone()
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.unlink()
    file.write_bytes(damage(whole))
    assert torch.equal(read_images(files), before)
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_does_no_harm(files, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert read_images(files).shape == (9, 3, 12, 20)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert read_images(files).shape == (9, 3, 12, 20)


def test_the_cache_lies_in_the_home_folder_by_default(files, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    read_images(files)
    assert list((tmp_path / "home" / ".cache" / "unlearning-kit").glob("*.npy"))


def test_what_cannot_be_read_is_named_with_its_place(files, tmp_path):
    def message(file):
        with pytest.raises(TaskError) as caught:
            read_images([*files, file], [f"list.csv, row {k}" for k in range(2, 12)])
        return str(caught.value)

    assert message(tmp_path / "no.png") == f"list.csv, row 11: image {tmp_path / 'no.png'} does not exist"
    broken = tmp_path / "broken.png"
    broken.write_bytes(files[0].read_bytes()[:300])
    assert f"row 11: image {broken} cannot be read" in message(broken)
    broken.write_text("no image at all")
    assert f"row 11: image {broken} cannot be read" in message(broken)
    assert f"{tmp_path} cannot be read" in message(tmp_path), "a folder"
    assert "x.png cannot be read (Not a directory)" in message(files[0] / "x.png")
    write_image(tmp_path / "wide.png", 0, size=(21, 12))
    assert "row 11: image" in message(tmp_path / "wide.png")
    assert f"is 21x12 (width x height), but {files[0]} is 20x12; resize" in message(tmp_path / "wide.png")
    Image.fromarray(np.full((12, 20), 40_000, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert "has pixels of kind I;16; save it as 8-bit RGB" in message(tmp_path / "deep.png")


def test_without_places_the_file_alone_is_named(tmp_path):
    with pytest.raises(TaskError, match=f"^image {tmp_path / 'no.png'} does not exist"):
        read_images([tmp_path / "no.png"])
    with pytest.raises(TaskError, match="no images to read"):
        read_images([])


def test_a_file_that_disappears_while_it_is_read_is_named(files, monkeypatch):
    from local_eval.tasks.data import images

    monkeypatch.setattr(images, "_cache_file", lambda *_: None)
    os.unlink(files[4])
    with pytest.raises(TaskError, match="4.jpg does not exist"):
        read_images(files)
