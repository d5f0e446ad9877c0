"""Pixels are kept by the content of the files, and damage to what was kept is noticed."""

import os

import numpy as np
import pytest
import torch

from local_eval.tasks.data.images import open_pixels, read_images, save_pixels
from tests.made_up import write_image


def test_other_pixels_of_the_same_size_and_time_are_seen(tmp_path):
    for ending in ("bmp", "tif"):  # whose files have one length whatever they show
        file = tmp_path / f"a.{ending}"
        write_image(file, 1)
        about, before = os.stat(file), read_images([file]).clone()
        write_image(file, 2)
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
        assert (os.stat(file).st_size, os.stat(file).st_mtime_ns) == (about.st_size, about.st_mtime_ns)
        assert not torch.equal(read_images([file]), before)


def test_the_same_content_under_other_names_and_times_is_not_decoded_again(tmp_path, cache):
    write_image(tmp_path / "a.png", 1)
    read_images([tmp_path / "a.png"])
    os.rename(tmp_path / "a.png", tmp_path / "b.png")
    os.utime(tmp_path / "b.png", (1, 1))
    read_images([tmp_path / "b.png"])
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("place", [20, 130, 128 + 3 * 32 * 32 // 2, -80, -66, -1])
def test_a_flipped_bit_anywhere_in_the_cache_is_noticed_and_the_pixels_decoded_anew(tmp_path, cache, place):
    write_image(tmp_path / "a.png", 1)
    before = read_images([tmp_path / "a.png"]).clone()
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[place] ^= 1
    file.write_bytes(damaged)
    assert open_pixels(file, 1) is None
    assert torch.equal(read_images([tmp_path / "a.png"]), before)
    assert file.read_bytes() == whole


@pytest.mark.parametrize("change", [lambda whole: whole[:-71], lambda whole: whole + b"x", lambda whole: whole[:50]])
def test_a_cache_without_its_seal_or_with_more_behind_it_is_not_taken(tmp_path, change):
    file = tmp_path / "x.npy"
    assert save_pixels(file, np.zeros((2, 3, 4, 4), dtype=np.uint8))
    assert open_pixels(file, 2) is not None
    file.write_bytes(change(file.read_bytes()))
    assert open_pixels(file, 2) is None


def test_a_sealed_file_is_still_one_that_numpy_reads(tmp_path):
    images = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    save_pixels(tmp_path / "x.npy", images)
    assert np.array_equal(np.load(tmp_path / "x.npy"), images)
    assert open_pixels(tmp_path / "x.npy", 3) is None, "of another number of images"
