"""What killed writers leave is removed by the next one, and what will be written is told before."""

import os
import shutil

import pytest

from local_eval.store.files import OutputError, free_disk_in, in_bytes, locked


def test_what_a_killed_writer_left_in_part_is_removed_and_nothing_else(tmp_path):
    dead, living = 2**22 - 1, os.getpid()  # the kernel's largest number of a process
    (tmp_path / "checkpoints").mkdir()
    left = [tmp_path / f".0001.npz.{dead}.partial", tmp_path / "checkpoints" / f".a.pth.{dead}.partial"]
    kept = [tmp_path / f".0002.npz.{living}.partial", tmp_path / "0003.npz", tmp_path / ".x.partial.npz"]
    for file in left + kept:
        file.write_bytes(b"x")
    with locked(tmp_path):
        assert not [file for file in left if file.exists()]
        assert not [file for file in kept if not file.exists()]


def test_the_disk_that_will_be_needed_is_told_or_is_not_there(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    folder = tmp_path / "not" / "yet"
    assert free_disk_in(folder, 12_000_000, "3 runs").startswith(f"3 runs need about 12 MB of disk in {folder}, where")
    with pytest.raises(OutputError, match="make room or choose another --out"):
        free_disk_in(folder, free * 2, "3 runs")
    assert not folder.exists()


@pytest.mark.parametrize(
    "size, text", [(0, "1 kB"), (1500, "2 kB"), (2e6, "2 MB"), (999e6, "999 MB"), (2.34e9, "2.3 GB")]
)
def test_sizes_read_well(size, text):
    assert in_bytes(size) == text
