"""The leaderboard reads what is on disk, makes nothing, and says what does not belong on it and why."""

import json
import re
import shutil

import numpy as np
import pytest

from local_eval import on_disk
from local_eval.__main__ import main
from local_eval.grader import Grader
from local_eval.metric.score import ScoreError
from local_eval.on_disk import entries, graded_confidences
from local_eval.store.records import Evaluation, Record, record_path, save_record
from tests.conftest import GOOD, TINY

RUNS = 16
FACTS = {"seconds": 2.0, "device": "cpu x86_64", "torch": "2", "numpy": "2"}


def save(grader: Grader, folder: str, identity, shift: float, count: int = RUNS, **facts) -> None:
    rng = np.random.default_rng(len(folder) + int(100 * shift))
    forget = grader.task.forget
    for index in range(count):
        logits = rng.normal(0, 1, (len(forget), 3)).astype(np.float32)
        logits[np.arange(len(logits)), forget.labels.numpy()] += shift
        record = Record(Evaluation(logits, 0.9, 0.8), identity(index), FACTS | facts)
        save_record(record_path(grader.folder / folder, index), record)


@pytest.fixture(scope="module")
def out(tmp_path_factory, original_out):
    """Outputs with oracles, two methods, and much that does not belong on their board."""
    path = tmp_path_factory.mktemp("disk")
    grader = Grader(TINY, path, RUNS)
    grader.folder.mkdir()
    for file in (original_out / grader.folder.name).glob("original*"):  # and nothing that other tests have left there
        shutil.copy(file, grader.folder)
    save(grader, "oracles", grader.oracle_identity, 0.0)
    for name, shift in (("near", 0.1), ("far", 2.0)):
        (path / f"{name}.py").write_text(GOOD.replace("0.01", f"{0.01 + shift}"))
        plan = grader.run_plan(str(path / f"{name}.py"))
        save(grader, plan.folder_name, plan.identity, shift)
        grader.score(str(path / f"{name}.py"))
    plan = grader.run_plan("baseline_finetune")
    save(grader, plan.folder_name, plan.identity, 0.5)  # run, not scored
    save(grader, "few-0-seed0", lambda k: plan.identity(k) | {"submission": "0"}, 0.5, 9)
    for seed, count in ((3, RUNS), (12, 1)):
        other = {"submission": "1", "seed": seed}
        save(grader, f"near-1-seed{seed}", lambda k, other=other: plan.identity(k) | other, 0.5, count)
    save(grader, "card-2-seed0", lambda k: plan.identity(k) | {"submission": "2"}, 0.5, device="cuda H100")
    save(grader, "old-3-seed0", lambda k: plan.identity(k) | {"submission": "3", "original": "another"}, 0.5, 1)
    save(grader, "bad-4-seed0", lambda k: plan.identity(k) | {"submission": "4"}, 0.5, 1)
    (record_path(grader.folder / "bad-4-seed0", 0)).write_bytes(b"damaged")
    return path


@pytest.fixture(scope="module")
def found(out):
    return entries(Grader(TINY, out, RUNS))


def test_what_was_graded_or_run_with_this_n_and_seed_is_on_the_board(found):
    rows, _, oracles = found
    assert sorted(row.name for row in rows) == ["baseline_finetune", "far", "near"]
    assert oracles.shape == rows[0].confidences.shape == (RUNS, 16)
    assert {row.name: row.official for row in rows} == {"baseline_finetune": True, "far": False, "near": False}


def test_a_score_on_disk_and_one_made_anew_say_the_same(found, out):
    grader = Grader(TINY, out, RUNS)
    score, _ = grader.score("baseline_finetune")
    (result,) = (row.result for row in found[0] if row.name == "baseline_finetune")
    assert (result["score"], tuple(result["interval"])) == (score.score, score.interval)
    assert np.array_equal(
        graded_confidences(grader, "baseline_finetune"),
        next(row.confidences for row in found[0] if row.name == "baseline_finetune"),
    )
    (grader.folder / grader.run_plan("baseline_finetune").folder_name / "score.json").unlink()


@pytest.mark.parametrize(
    "name, reason",
    [
        ("few-0", "9 of 16 runs are on disk"),
        ("near-1", "another seed: 3, 12"),
        ("card-2", "made on cuda, most on cpu"),
        ("old-3", "graded with another original"),
        ("bad-4-seed0", "0000.npz"),
    ],
)
def test_what_is_left_out_is_told_with_the_reason(found, name, reason):
    reported = {one.name: one.reason for one in found[1]}
    assert reason in reported[name]
    assert len(reported) == 5


def test_another_n_or_seed_has_another_board_or_none(out):
    with pytest.raises(ScoreError, match="16 oracles are in .*needs as many"):
        entries(Grader(TINY, out, 17))
    with pytest.raises(ScoreError, match="nothing in .* with seed 5"):
        entries(Grader(TINY, out, RUNS, seed=5))
    rows, left_out, _ = entries(Grader(TINY, out, RUNS, seed=3))
    assert [row.name for row in rows] == ["near-1"]
    assert {"far", "near"} <= {one.name for one in left_out}


def test_runs_that_are_not_there_cannot_be_compared(out):
    with pytest.raises(ScoreError, match="0 of 16 runs"):
        graded_confidences(Grader(TINY, out, RUNS), "fanchuan")


def test_the_command_prints_the_board_writes_it_in_every_form_and_makes_no_runs(out, tmp_path, capsys):
    before = sorted(out.rglob("*.npz"))
    grader = Grader(TINY, out, RUNS)
    folder = grader.workspace.of(grader.run_plan(str(out / "far.py")).folder_name)
    (folder / "report.html").write_text("the page of far")
    files = [tmp_path / "b.csv", tmp_path / "b.json", out / "b.html", tmp_path / "b.png", tmp_path / "else.html"]
    written = ("--write-csv", "--json", "--html", "--write", "--write")
    options = [str(part) for pair in zip(written, files) for part in pair]
    assert main(["leaderboard", "--task", TINY, "--runs", "16", "--out", str(out), "--device", "cpu", *options]) == 0
    said = capsys.readouterr().out
    assert "tiny, N = 16, seed 0: 3 methods" in said and "left out: few-0: 9 of 16 runs are on disk" in said
    assert [row["method"] for row in json.loads(files[1].read_text())["rows"]][-1] == "far"
    assert files[0].read_text().startswith("rank,tier,method") and files[3].read_bytes().startswith(b"\x89PNG")
    ((link, name),) = re.findall(r'<a href="([^"]*)">([^<]*)</a>', files[2].read_text())
    assert name == "far" and (out / link).read_text() == "the page of far"
    assert "<a " not in files[4].read_text() and "</html>" in files[4].read_text()
    assert sorted(out.rglob("*.npz")) == before


def test_of_several_pages_the_board_links_to_the_one_of_its_own_n(tmp_path, monkeypatch):
    at_16 = tmp_path / "n16"
    at_16.mkdir()
    monkeypatch.setattr(on_disk, "kept_at", lambda folder, runs: (at_16 / "score.json", None) if runs == 16 else None)
    assert on_disk._page(tmp_path, 16) is None
    for place, expected in ((tmp_path, tmp_path), (at_16, at_16)):
        (place / "report.html").write_text("")
        assert on_disk._page(tmp_path, 16) == expected / "report.html"
    assert on_disk._page(tmp_path, 64) == tmp_path / "report.html"


def test_two_names_are_held_against_each_other_after_the_table(out, capsys):
    names = [str(out / "near.py"), str(out / "far.py")]
    assert main(["compare", *names, "--task", TINY, "--runs", "16", "--out", str(out), "--device", "cpu"]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith(f"{names[0]} is better than {names[1]} at N = 16 (difference +0.")
