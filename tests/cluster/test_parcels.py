"""What is sent to a node is unpacked there once, whole or not at all, in a folder that is the user's own."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from local_eval.cluster import bootstrap
from local_eval.cluster.bootstrap import STALE, place, private_folder
from local_eval.cluster.node import home_path, kit_parcel, name_of, packed_path

PARCEL = {"a.txt": b"one", "files/deep/b.bin": bytes(1000)}
SIZES = {file: len(content) for file, content in PARCEL.items()}


def arrays():
    return {file: np.frombuffer(content, np.uint8) for file, content in PARCEL.items()}


def never():
    raise AssertionError("it is there already")


def test_a_parcel_is_unpacked_once(tmp_path):
    folder = place(tmp_path, "name", SIZES, arrays)
    assert {file: (folder / file).read_bytes() for file in PARCEL} == PARCEL
    assert place(tmp_path, "name", SIZES, never) == folder
    assert [p.name for p in tmp_path.iterdir() if p.name != "cache"] == ["name"], "nothing half is left"


@pytest.mark.parametrize("damage", [lambda f: (f / "a.txt").unlink(), lambda f: (f / "a.txt").write_bytes(b"")])
def test_a_folder_that_something_has_tidied_up_is_made_anew(tmp_path, damage):
    damage(place(tmp_path, "name", SIZES, arrays))
    assert (place(tmp_path, "name", SIZES, arrays) / "a.txt").read_bytes() == b"one"


def test_half_a_parcel_is_nothing(tmp_path):
    def full():
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        place(tmp_path, "name", SIZES, full)
    with pytest.raises(OSError, match="could not be made whole"):
        place(tmp_path, "name", SIZES, lambda: {"a.txt": b"one"})
    assert not list(tmp_path.rglob("*.bin"))


def test_folders_that_nobody_uses_any_more_are_removed_by_the_next(tmp_path):
    old, new = place(tmp_path, "old", SIZES, arrays), place(tmp_path, "new", SIZES, arrays)
    os.utime(old, (time.time() - STALE - 60,) * 2)
    place(tmp_path, "newest", SIZES, arrays)
    assert not old.exists()
    assert new.exists()


def test_a_folder_in_which_others_can_write_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap.tempfile, "tempdir", str(tmp_path))
    base = private_folder()
    assert base.stat().st_mode & 0o777 == 0o700
    base.chmod(0o777)
    with pytest.raises(PermissionError, match="not this user's own folder"):
        private_folder()
    base.rmdir()
    base.symlink_to(tmp_path)
    with pytest.raises((PermissionError, FileExistsError)):
        private_folder()


def test_paths_of_a_node_become_paths_of_home_again(tmp_path):
    assert home_path(str(tmp_path / packed_path("/home/me/x.npz")), tmp_path) == "/home/me/x.npz"
    assert home_path("/data/x.npz", tmp_path) == "/data/x.npz"


def test_a_parcels_name_is_its_content():
    assert name_of(PARCEL) == name_of(dict(reversed(PARCEL.items())))
    assert len({name_of(p) for p in (PARCEL, PARCEL | {"a.txt": b"two"}, {"a.txt": b"one"}, {})}) == 4


def test_the_sent_kit_stands_alone_and_a_ray_worker_does_not_load_torch(tmp_path):
    """On a node without a kit, in a Python that sees nothing but the parcel and the installed packages."""
    sizes = {file: len(content) for file, content in kit_parcel().items()}
    folder = place(tmp_path, "kit", sizes, kit_parcel)
    code = "import sys; from local_eval.cluster import node; assert 'torch' not in sys.modules;print(node.__file__)"
    where = {"PYTHONPATH": str(folder), "PATH": os.environ["PATH"]}
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=where, capture_output=True, text=True)
    assert said.stdout.strip() == str(folder / "local_eval/cluster/node.py"), said.stderr
