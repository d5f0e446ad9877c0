"""Several originals and several seeds are graded beside the official way, and their runs never mix with its runs."""

import json
import shutil

import numpy as np
import pytest

from local_eval.__main__ import main
from local_eval.grader import Grader, SeveralOriginals, repeats_of, with_seeds
from local_eval.metric.score import ScoreError
from local_eval.oracles import oracles
from local_eval.oracles.original import original_digest, save_original
from local_eval.runs.one_run import one_run
from local_eval.store.records import Controls, Evaluation, Record, record_path, save_record
from local_eval.tasks.evaluate import evaluate, initial_net
from tests.conftest import GOOD, TINY
from tests.made_up import in_this_process

RUNS, ORIGINALS = 16, 3
NOTHING = "def unlearning(net, retain_loader, forget_loader, val_loader):\n    pass\n"


@pytest.fixture(scope="module")
def made_up():
    """Any evaluation of the tiny task, different each time."""
    rng = np.random.default_rng(0)

    def draw():
        retain, test = rng.standard_normal((2, 24, 3)).astype(np.float32)
        controls = Controls(rng.standard_normal((96, 3)).astype(np.float32), test, np.ones((4, 3), np.int64))
        return Evaluation(rng.standard_normal((16, 3)).astype(np.float32), 0.9, 0.8, controls)

    return draw


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory, tiny, made_up):
    """An output folder with everything that a score from one original or from three asks for, with two seeds."""
    out = tmp_path_factory.mktemp("graded")
    (out / "mine.py").write_text(GOOD)
    grader = Grader(TINY, out, runs=RUNS)
    save_original(grader.folder / "original.npz", initial_net(tiny, 9).state_dict(), grader.fingerprint)
    several, facts = SeveralOriginals.like(grader, ORIGINALS), {"seconds": 1.0, "device": "cpu", "torch": "1"}
    for k in range(ORIGINALS):
        weights = record_path(grader.folder / "originals" / "weights", k)
        save_original(weights, initial_net(tiny, k).state_dict(), grader.fingerprint)
    plans = [one.run_plan(str(out / "mine.py")) for g in (grader, several) for one in with_seeds(g, range(2))]
    folders = [(grader.folder / plan.folder_name, plan.identity) for plan in plans]
    folders.append((grader.folder / "oracles", grader.oracle_identity))
    folders.append((grader.folder / "originals", several._original_plan.identity))
    for folder, identity in folders:
        for k in range(RUNS):
            save_record(record_path(folder, k), Record(made_up(), identity(k), facts))
    return out


@pytest.fixture
def graded(tmp_path, on_disk):
    """A grader with one original, one with three, and the submission; in a copy of the folder."""
    shutil.copytree(on_disk, tmp_path / "out")
    grader = Grader(TINY, tmp_path / "out", runs=RUNS)
    return grader, SeveralOriginals.like(grader, ORIGINALS), str(tmp_path / "out" / "mine.py")


def score_command(grader, path, *more):
    where = ["--task", TINY, "--out", str(grader.out), "--device", "cpu", "--runs", str(RUNS)]
    return main(["score", path, *where, *more])


def test_both_scores_and_every_seed_are_told_and_kept_apart(graded, capsys):
    grader, several, path = graded
    assert score_command(grader, path, "--originals", str(ORIGINALS), "--repeat", "2") == 0
    said = capsys.readouterr().out
    assert "from one original model" in said
    assert f"from {ORIGINALS} original models in turn" in said
    assert said.count("seeds 0 to 1: ") == 2
    assert "all against the same oracles, which hides up to half of the variance" in said
    found = {}
    for name, kind in (("one", grader), ("three", several)):
        for one in with_seeds(kind, range(2)):
            file = grader.folder / one.run_plan(path).folder_name / "score.json"
            found[name, one.seed] = json.loads(file.read_text())
    assert {key: score["originals"] for key, score in found.items()} == {
        ("one", 0): 1, ("one", 1): 1, ("three", 0): ORIGINALS, ("three", 1): ORIGINALS
    }  # fmt: skip
    for name in ("one", "three"):
        repeats = found[name, 0]["repeats"]
        assert repeats["scores"] == pytest.approx([found[name, 0]["score"], found[name, 1]["score"]])
        assert (repeats["seeds"], repeats["oracles"], found[name, 1]["repeats"]) == ([0, 1], "shared", None)


def test_identities_of_runs_from_one_original_are_what_they_always_were(graded):
    grader, several, path = graded
    plan, other = grader.run_plan(path), several.run_plan(path)
    official = original_digest(grader.folder / "original.npz")
    expected = {"kind": "run", "task": grader.fingerprint, "submission": plan.submission_hash, "original": official}
    assert plan.identity(5) == expected | {"seed": 0, "index": 5}
    assert plan.made_from() == expected | {"seed": 0, "index": None}
    digests = [original_digest(record_path(grader.folder / "originals" / "weights", k)) for k in range(ORIGINALS)]
    assert [other.identity(k)["original"] for k in range(7)] == [digests[k % ORIGINALS] for k in range(7)]
    assert len({official, *digests}) == ORIGINALS + 1
    assert other.made_from()["originals"] == ORIGINALS
    assert other.folder_name == f"{plan.folder_name}-originals{ORIGINALS}"


def test_a_run_from_another_original_is_foreign(graded, capsys):
    grader, several, path = graded
    one, three = (grader.folder / g.run_plan(path).folder_name for g in (grader, several))
    record_path(three, 5).write_bytes(record_path(one, 5).read_bytes())
    with pytest.raises(ScoreError, match="1 of 16 runs is missing"):
        several.score(path)
    assert "belongs to something else: original differ" in capsys.readouterr().err


def test_a_run_starts_from_its_own_original(graded, tiny, submission):
    _, several, _ = graded
    plan = several.run_plan(submission(NOTHING, "nothing"))
    for index in (1, ORIGINALS + 2):
        expected = evaluate(initial_net(tiny, index % ORIGINALS), tiny).forget_logits
        assert np.array_equal(one_run(plan, index).evaluation.forget_logits, expected)


def test_seeds_have_oracles_of_their_own_where_there_are_enough(graded, made_up):
    grader, _, path = graded
    for k in range(RUNS, 2 * RUNS):
        record = Record(made_up(), grader.oracle_identity(k), {"device": "cpu", "torch": "1"})
        save_record(record_path(grader.folder / "oracles", k), record)
    assert repeats_of(with_seeds(grader, range(2)), path).oracles == "disjoint"
    assert repeats_of(with_seeds(grader, range(3))[:1], path) is None


def test_weights_are_added_to_originals_that_lack_them_and_are_repaired(tmp_path, monkeypatch):
    monkeypatch.setattr("local_eval.isolation.share_gpu.run_jobs", in_this_process)
    several = SeveralOriginals(TINY, tmp_path, runs=RUNS, originals=2)
    folder = several.folder / "originals"
    without = several._original_plan.__class__(TINY, several.fingerprint, "cpu", 4, forget_too=True)
    oracles.finish_oracles(without, folder, 2, several._shape, 1)  # as `headroom` leaves them
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.npz")}
    assert "0 are there" in several.disk_of_originals()
    several.finish_originals()
    assert {p.name: p.stat().st_mtime_ns for p in folder.glob("*.npz")} == before
    assert sorted(p.name for p in (folder / "weights").glob("*.npz")) == ["0000.npz", "0001.npz"]
    whole = record_path(folder / "weights", 1).read_bytes()
    record_path(folder / "weights", 1).write_bytes(whole[:-9])
    assert "1 are there" in several.disk_of_originals()
    several.finish_originals()
    assert record_path(folder / "weights", 1).read_bytes() == whole, "trained again to the bit"


def test_numbers_that_make_no_sense_are_bad_input(tmp_path, submission, capsys):
    where = ["--task", TINY, "--out", str(tmp_path), "--device", "cpu", "--runs", "16"]
    for wrong in (("--originals", "1"), ("--originals", "17"), ("--repeat", "0")):
        assert main(["grade", submission(), *where, *wrong]) == 2
        assert " ".join(wrong) in capsys.readouterr().err
        assert not list(tmp_path.glob("*/oracles"))
