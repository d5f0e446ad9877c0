"""Results of one original model never meet those of another, and none is lost when another is graded."""

import contextlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from local_eval.__main__ import main
from local_eval.api import grade, with_given
from local_eval.cli.looking import facts_of
from local_eval.grade_given import WEIGHTS, Given, score_folder
from local_eval.grader import Grader
from local_eval.oracles.oracles import OraclePlan
from local_eval.report.leaderboard import Entry
from local_eval.report.result import Result
from local_eval.store.errors import InputError
from local_eval.store.sealed import load_state
from local_eval.tasks.evaluate import initial_net
from local_eval.tasks.loading import load_task
from local_eval.tasks.names import with_changes
from tests.conftest import TINY, unmeasured, work_here

pytestmark = pytest.mark.usefixtures("without_a_pool")
RUNS = 2


def write_original(tiny, seed, path):
    """An original model of one's own."""
    torch.save({"state_dict": initial_net(tiny, seed).state_dict()}, path)
    return path


@pytest.fixture
def mine(tmp_path, tiny):
    """mine(seed) -> the file of such a model."""
    return lambda seed: write_original(tiny, seed, tmp_path / f"mine{seed}.pth")


@pytest.fixture(autouse=True)
def oracles_there(graded_once, tmp_path):
    """In out/ are the tiny task's oracles and nothing else."""
    shutil.copytree(graded_once / "out", tmp_path / "out", ignore=shutil.ignore_patterns("mine-*", "original*"))


@pytest.fixture(scope="module")
def graded_from_both(graded_once, tmp_path_factory, tiny):
    """As `graded_once`, and graded from mine5.pth too, of which the command says what is in said.txt."""
    place = shutil.copytree(graded_once, tmp_path_factory.mktemp("both") / "graded")
    other = ["--original", str(write_original(tiny, 5, place / "mine5.pth"))]
    with pytest.MonkeyPatch.context() as patch, open(place / "said.txt", "w") as said:
        work_here(patch)
        unmeasured(patch)
        with contextlib.redirect_stdout(said):
            assert main(["grade", str(place / "mine.py"), *where(place), "--runs", "16", *other, "--no-report"]) == 0
    return place


def where(place):
    return ["--task", TINY, "--out", str(place / "out"), "--device", "cpu"]


def everything(out):
    """All finished files by path, with when they were written."""
    return {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}


def graded(spec, out, submission):
    grader = Grader(spec, out, runs=RUNS)
    grader.finish_oracles()
    done, failed = grader.make_runs(submission)
    assert len(done) == RUNS and not failed
    return grader, {index: run.evaluation.forget_logits.tobytes() for index, run in done.items()}


def test_each_original_has_files_and_runs_of_its_own_and_shares_the_oracles(tmp_path, submission, mine):
    specs = [TINY, with_changes(TINY, {"original": str(mine(5))}), with_changes(TINY, {"original": str(mine(6))})]
    first = [graded(spec, tmp_path / "out", submission()) for spec in specs]
    before = everything(tmp_path / "out")
    again = [graded(spec, tmp_path / "out", submission()) for spec in reversed(specs)]
    assert everything(tmp_path / "out") == before, "nothing is made twice, in whatever order"
    assert [runs for _, runs in reversed(again)] == [runs for _, runs in first]
    assert len({runs[0] for _, runs in first}) == 3
    graders = [grader for grader, _ in first]
    assert len({grader.folder for grader in graders}) == 1
    assert graders[0].original_file.name == "original.npz"
    assert len({grader.original_file for grader in graders}) == len({g.original_hash() for g in graders}) == 3
    assert len({grader.run_plan(submission()).folder_name for grader in graders}) == 3
    for grader in graders:
        assert grader.run_plan(submission()).identity(0)["original"] == grader.original_hash()


def test_an_original_that_is_the_tasks_own_meets_its_results(tmp_path, submission, mine):
    own, _ = graded(TINY, tmp_path / "out", submission())
    torch.save(load_state(own.original_file), tmp_path / "copy.pth")
    before = everything(tmp_path / "out")
    same, _ = graded(with_changes(TINY, {"original": str(tmp_path / "copy.pth")}), tmp_path / "out", submission())
    assert everything(tmp_path / "out") == before
    assert same.original_file == own.original_file and same.other_original() == ()


def test_a_leaderboard_of_the_tasks_own_original_does_not_speak_of_another(tmp_path, mine):
    for number in (5, None):
        grader = Grader(TINY, tmp_path / "out", RUNS)
        grader.finish_originals()
        path = mine(number) if number else tmp_path / "copy.pth"
        if not number:
            torch.save(load_state(grader.original_file), path)
        named = Grader(with_changes(TINY, {"original": str(path)}), tmp_path / "out", RUNS)
        found = [Entry("a", Result({"ceiling": 0.2, "ceiling_interval": [0, 1]}), np.zeros((1, 1)))]
        assert ("original" in facts_of(named, found)) == bool(number)


def test_an_original_graded_first_does_not_take_the_place_of_the_tasks_own(tmp_path, submission, mine):
    other, _ = graded(with_changes(TINY, {"original": str(mine(5))}), tmp_path / "out", submission())
    assert not (other.folder / "original.npz").exists()
    own, _ = graded(TINY, tmp_path / "out", submission())
    assert own.original_file == own.folder / "original.npz" and own.original_hash() != other.original_hash()


TASK = """
from dataclasses import replace
from local_eval.tasks.loading import load_task

def task():
    return replace(load_task({tiny!r}), original={original!r})
"""


def test_a_task_whose_original_is_edited_keeps_what_was_graded_from_the_one_before(tmp_path, submission, mine):
    """A, then B, then A again, then none, so that one is trained, then A again."""
    path, found = tmp_path / "cells.py", []
    for number in (5, 6, 5, None, 5):
        path.write_text(TASK.format(tiny=TINY, original=str(mine(number)) if number else None))
        found.append(graded(str(path), tmp_path / "out", submission())[0])
        if number == 5:
            assert found[-1].original_file.name == "original.npz", "where it was kept before there was another"
    names = [grader.original_file.name for grader in found]
    assert names[0] == names[2] == names[4] and len(set(names)) == 3 and names[3] == "original-trained.npz"
    hashes = [grader.original_hash() for grader in found]
    assert hashes[0] == hashes[2] == hashes[4] and len(set(hashes)) == 3
    before = everything(tmp_path / "out")
    graded(str(path), tmp_path / "out", submission())
    assert everything(tmp_path / "out") == before


def test_workers_are_not_told_of_an_original_that_they_have_as_a_file(tmp_path, mine, submission):
    grader = Grader(with_changes(TINY, {"original": str(mine(5)), "epochs": 2}), tmp_path / "out", runs=RUNS)
    plain = Grader(with_changes(TINY, {"epochs": 2}), tmp_path / "out", runs=RUNS)
    assert isinstance(grader._oracle_plan, OraclePlan) and grader._oracle_plan == plain._oracle_plan
    assert grader.run_plan(submission()).task == plain.task_spec


def test_a_score_says_which_original_it_was_and_no_other_stands_beside_it(graded_once, graded_from_both, capsys):
    out, other = graded_from_both / "out", ["--original", str(graded_from_both / "mine5.pth")]
    assert "another original" not in (graded_once / "said.txt").read_text()
    said = (graded_from_both / "said.txt").read_text()
    assert "task: the original model, " in said and "mine5.pth: taken from 'state_dict'" in said
    assert "note: runs start from another original model, mine5.pth" in said
    assert "no prediction; published scores are of runs from the task's own original model" in said
    (own,) = out.glob("tiny-*/mine-*-seed0/score.json")
    (theirs,) = out.glob("tiny-*/mine-*-seed0-original-*/score.json")
    contents = [json.loads(file.read_text()) for file in (own, theirs)]
    assert [content["original"]["file"] for content in contents] == [None, "mine5.pth"]
    assert contents[1]["original"]["hash"] == contents[1]["made_from"]["original"] in theirs.parent.name
    for more, score in (([], contents[0]), (other, contents[1])):
        assert main(["leaderboard", *where(graded_from_both), "--runs", "16", *more]) == 0
        said = capsys.readouterr()
        assert f"{score['score']:.4f}" in said.out
        assert "it was graded with another original" in said.out + said.err
        assert ("--original mine5.pth" in said.out) == bool(more)


def test_a_wrong_original_is_told_before_anything_is_trained(tmp_path, submission, mine, capsys, monkeypatch):
    state = load_task(TINY).make_net().state_dict()
    torch.save(state | {"fc.weight": torch.ones(10, 16), "fc.bias": torch.ones(10)}, tmp_path / "ten.pth")
    monkeypatch.setattr("local_eval.grader.finish_original", None)
    for command in (["grade", submission()], ["run", submission()], ["quick", submission()], ["oracles"], ["headroom"]):
        monkeypatch.chdir(tmp_path)
        assert main([*command, *where(tmp_path / "fresh"), "--original", "ten.pth"]) == 2
        said = capsys.readouterr().err
        assert "ten.pth: fc.weight has shape (10, 16), but in the task's network (3, 16)" in said
        assert "submission" not in said and not (tmp_path / "fresh").exists()


def test_python_takes_the_same_and_also_networks_and_state_dicts(tmp_path, graded_from_both, tiny, mine, monkeypatch):
    """Nothing is made again: weights are the same however they are given."""
    path, out, net = graded_from_both / "mine.py", graded_from_both / "out", initial_net(tiny, 5)
    monkeypatch.setattr("local_eval.runs.one_run.one_run", None)
    assert with_given(TINY, {"original": net}, out) == with_given(TINY, {"original": net.state_dict()}, out)
    (file,) = out.glob("tiny-*/*-original-*/score.json")
    for original in (net, mine(5)):
        file.unlink()
        grade(path, TINY, runs=16, out=out, original=original, device="cpu", workers=1)
        assert file.parent.name.endswith(json.loads(file.read_text())["original"]["hash"])
    for named, message in (
        ({"original": 3}, "original is a int; give the path"),
        ({"original": tmp_path / "none.pth"}, "there is no such file"),
        ({"original": {"a": lambda: 3}}, "original cannot be written to a file"),
        ({"net": lambda: 3}, "give a name such as 'resnet34', or a function"),
        ({"recipe": {"moment": 0.9}}, "a recipe has no 'moment'; did you mean momentum"),
        ({"epochs": 0}, "epochs is 0"),
    ):
        with pytest.raises(InputError, match=message):
            grade(path, TINY, runs=16, out=out, device="cpu", workers=1, **named)


def test_checkpoints_are_graded_apart_for_another_original(tmp_path, tiny, mine):
    own = Grader(TINY, tmp_path / "out", runs=16)
    other = replace(own, task_spec=with_changes(TINY, {"original": str(mine(5))}))
    found = Given("unlearned", tmp_path, WEIGHTS, (), "abc")
    assert score_folder(own, found).name == "checkpoints-abc"
    assert score_folder(other, found).name == f"checkpoints-abc-original-{other.original_hash()}"
