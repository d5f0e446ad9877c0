"""A flipped bit or a missing byte anywhere is noticed, and nothing that a file says is believed unchecked."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from local_eval.store.sealed import DamagedFile, load_state, seal, seal_state, unseal

ARRAYS = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "layer1.0.bn1.weight": np.ones(5), "n": np.array(3)}


@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_sealed_comes_back_and_numpy_reads_it_too(tmp_path, compressed):
    path = tmp_path / "x.npz"
    path.write_bytes(seal(ARRAYS, compressed))
    found, sealed = unseal(path)
    assert sealed and found.keys() == ARRAYS.keys()
    with np.load(path, allow_pickle=False) as plain:
        for name, value in ARRAYS.items():
            assert found[name].dtype == value.dtype and (found[name] == value).all() and (plain[name] == value).all()


def test_every_flipped_bit_is_noticed(tmp_path):
    content, path = seal(ARRAYS), tmp_path / "x.npz"
    places = np.random.default_rng(0).choice(8 * len(content), size=1000, replace=len(content) * 8 < 1000)
    for place in [*places, 0, 8 * len(content) - 1]:
        spoilt = bytearray(content)
        spoilt[place // 8] ^= 1 << (place % 8)
        path.write_bytes(spoilt)
        with pytest.raises(DamagedFile, match="x.npz"):
            unseal(path)


def test_every_cut_is_noticed(tmp_path):
    content, path = seal(ARRAYS), tmp_path / "x.npz"
    for length in [*range(0, len(content), 13), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(DamagedFile):
            unseal(path)


def test_a_file_of_before_the_seals_is_read_if_zips_checksums_agree(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, **ARRAYS)
    found, sealed = unseal(path)
    assert not sealed and (found["a"] == ARRAYS["a"]).all()


def member(name, content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def header(shape, kind="<f8"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        member("a.npy", header((2**40,)) + b"x" * 8),  # asks for 8 TiB
        member("a.npy", header((2,), "|O") + pickle.dumps([1, 2])),
        member("a.npy", b"0" * 2**26),  # grows a thousandfold
        member("a.npy", b"no array"),
        b"",
        b"PK",
        b"no zip at all",
    ],
)
def test_hostile_files_are_refused_in_little_memory(tmp_path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(DamagedFile):
        unseal(path)


def test_a_state_dict_keeps_names_types_and_values(tmp_path):
    from torchvision.models import resnet18

    state = resnet18(num_classes=3).state_dict()
    path = tmp_path / "state.npz"
    path.write_bytes(seal_state(state, {"fingerprint": "x"}))
    found = load_state(path)
    assert list(found) == list(state)
    assert all(found[k].dtype == v.dtype and found[k].shape == v.shape and found[k].equal(v) for k, v in state.items())
