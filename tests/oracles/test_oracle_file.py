"""Oracles travel in one file and are the same at the other end; a foreign or damaged file is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from local_eval.__main__ import main
from local_eval.grader import Grader
from local_eval.oracles.oracles import load_pool, pool_size, save_pool
from local_eval.store.records import RecordError
from tests.conftest import TINY


def oracles(out, *more):
    return main(["oracles", "--task", TINY, "--runs", "16", "--out", str(out), "--workers", "2", *more])


def no_jobs(function, argument, jobs, *more, **named):
    """Stands in for `run_jobs` where nothing is to be trained."""
    assert jobs == []
    yield from ()


def test_loaded_oracles_are_those_that_were_saved_and_are_not_trained_again(tiny_graded, capsys, monkeypatch):
    places, file = [tiny_graded / "out", tiny_graded / "elsewhere"], tiny_graded / "results" / "pool.npz"
    monkeypatch.setattr("local_eval.isolation.share_gpu.run_jobs", no_jobs)
    assert oracles(places[0], "--save-pool", str(file)) == 0
    assert oracles(places[1], "--load-pool", str(file)) == 0
    assert "16 oracles from" in capsys.readouterr().out
    there, here = (Grader(TINY, place, runs=16).cached_oracles() for place in places)
    assert len(there) == len(here) == 16
    for one, other in zip(there, here):
        assert np.array_equal(one.evaluation.forget_logits, other.evaluation.forget_logits)
        assert one.evaluation.test_accuracy == other.evaluation.test_accuracy
        assert (one.identity, one.facts) == (other.identity, other.facts)


def test_files_of_another_task_and_damaged_ones_are_refused(graded_once, tmp_path):
    grader, file = Grader(TINY, graded_once / "out", runs=16), tmp_path / "pool.npz"
    save_pool(grader.cached_oracles()[:2], file)
    identity, shape = grader.oracle_identity, (16, 3)
    assert len(load_pool(file, identity, shape)) == 2
    with pytest.raises(RecordError, match="another task"):
        load_pool(file, lambda k: identity(k) | {"task": "other"}, shape)
    with pytest.raises(RecordError, match="expected float32"):
        load_pool(file, identity, (17, 3))
    (tmp_path / "half.npz").write_bytes(file.read_bytes()[:200])
    with pytest.raises(RecordError, match="half.npz is no file of oracles"):
        load_pool(tmp_path / "half.npz", identity, shape)
    with np.load(file) as content:
        arrays = dict(content)
    arrays["forget_logits"][0, 0, 0] = np.nan
    np.savez(tmp_path / "nan.npz", **arrays)
    with pytest.raises(RecordError, match="NaN"):
        load_pool(tmp_path / "nan.npz", identity, shape)


def test_a_folder_gets_the_oracles_that_a_newer_version_of_a_task_comes_with(tiny_graded, monkeypatch):
    """And keeps its own: those that are there are not written again."""
    grader, file = Grader(TINY, tiny_graded / "out", runs=16), tiny_graded / "shipped.npz"
    everything = grader.cached_oracles()
    save_pool(everything, file)
    assert (pool_size(file), pool_size(tiny_graded / "none.npz"), pool_size(Path(__file__))) == (16, 1, 1)
    folder = grader.workspace.oracles
    before = (folder / "0003.npz").stat().st_mtime_ns
    for k in range(10, 16):
        (folder / f"{k:04d}.npz").unlink()
    later = Grader(TINY, tiny_graded / "out", runs=16)
    monkeypatch.setitem(later.opened.__dict__, "task", replace(later.task, oracles=file))
    assert len(later.cached_oracles()) == 16
    assert (folder / "0003.npz").stat().st_mtime_ns == before


def test_a_wrong_file_is_bad_input(tmp_path, capsys):
    assert oracles(tmp_path, "--load-pool", str(tmp_path / "missing.npz")) == 2
    assert "missing.npz" in capsys.readouterr().err
