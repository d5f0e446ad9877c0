"""`report` draws what was graded, of a submission or of checkpoints; `grade` does at its end, and never fails by it."""

import json
import shutil

import numpy as np
import pytest
import torch

from local_eval.__main__ import main
from local_eval.cli import grading as drawing
from local_eval.grader import Grader
from local_eval.oracles.original import finish_original
from local_eval.report.result import checksum, read_score
from local_eval.runs.checkpoints import save_checkpoint
from local_eval.store.records import Evaluation, Record, record_path, save_record
from tests.conftest import GOOD, TINY, in_this_process, unmeasured
from tests.report.page.looking import Page

pytestmark = pytest.mark.draws
RUNS = 16
FACTS = {"seconds": 1.0, "device": "cpu", "torch": "2"}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A folder with a scored submission that has a setting, of made-up models, and the commands' common end."""
    out = tmp_path_factory.mktemp("graded")
    (out / "mine.py").write_text("SCALE = 1.0\n" + GOOD.replace("0.01", "0.01 * SCALE"))
    name, grader, rng = f"{out / 'mine.py'}[SCALE=0.5]", Grader(TINY, out / "out", RUNS), np.random.default_rng(0)
    finish_original(grader.task, grader.fingerprint, grader.folder / "original.npz", "cpu")
    plan = grader.run_plan(name)
    for folder, identity in (("oracles", grader.oracle_identity), (plan.folder_name, plan.identity)):
        for k in range(RUNS):
            logits = rng.normal(size=(len(grader.task.forget), 3)).astype(np.float32)
            record = Record(Evaluation(logits, 0.8, 0.7), identity(k), FACTS)
            save_record(record_path(grader.folder / folder, k), record)
    end = ["--task", TINY, "--out", str(out / "out"), "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        unmeasured(patch)
        assert main(["score", name, *end, "--runs", str(RUNS)]) == 0
    return out, name, end


@pytest.fixture(autouse=True)
def no_processes(without_a_pool, monkeypatch):
    monkeypatch.setattr("local_eval.isolation.share_gpu.run_jobs", in_this_process)


def folder_of(out, start="mine"):
    return next((out / "out").glob(f"tiny-*/{start}-*/score.json")).parent


def test_report_draws_what_was_scored(graded, capsys):
    out, name, end = graded
    page = folder_of(out) / "report.html"
    assert not page.exists()
    assert main(["report", name, *end]) == 0
    assert str(page) in capsys.readouterr().out
    text = Page(page).text
    score = read_score(page.with_name("score.json"))
    assert f"{score['score']:.4f}" in text and "SCALE = 0.5" in text
    assert "The method" in text and "SCALE 0.5 changed from 1.0" in text and "net.eval()" in text
    assert "grade 'mine.py[SCALE=0.5]' --task tiny_task.py --runs 16 --seed 0" in text
    assert str(out) not in page.read_text(), "nobody's folders travel with the page"


def test_grade_draws_at_its_end_also_for_checkpoints_which_report_draws_again(graded, capsys, tiny):
    out, _, end = graded
    torch.manual_seed(0)
    for k in range(RUNS):
        save_checkpoint(tiny.make_net().state_dict(), out / "theirs", k)
    assert main(["grade", str(out / "theirs"), *end]) == 0
    page = folder_of(out, "checkpoints") / "report.html"
    assert f"report: {page}" in capsys.readouterr().out
    before = page.read_bytes()
    page.unlink()
    assert main(["report", str(out / "theirs"), *end]) == 0
    assert page.read_bytes() == before
    text = Page(page).text
    assert "of 2 graded here" in text and "made elsewhere" in text


def test_a_failure_to_draw_is_told_in_one_line_and_the_score_stays_and_no_report_draws_none(
    graded, capsys, monkeypatch
):
    out, name, end = graded

    def fails(*_):
        raise ZeroDivisionError("no\nroom")

    monkeypatch.setattr(drawing, "write_page", fails)
    (folder_of(out) / "score.json").unlink()
    assert main(["grade", name, *end, "--runs", str(RUNS)]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines()[-1] == "no report: ZeroDivisionError: no room"
    assert "written to" in said.out and read_score(folder_of(out) / "score.json")["runs"] == RUNS
    assert main(["grade", name, *end, "--runs", str(RUNS), "--no-report"]) == 0
    said = capsys.readouterr()
    assert "report" not in said.err and "report: " not in said.out


def test_without_a_score_or_with_other_runs_the_command_says_what_to_do(graded, tmp_path, capsys):
    out, name, end = graded
    assert main(["report", name, *end, "--seed", "7"]) == 2
    assert "make one first: python -m local_eval grade" in capsys.readouterr().err
    copy = shutil.copytree(out, tmp_path / "copy")
    moved = [*end[:3], str(copy / "out"), *end[4:]]
    (folder_of(copy) / "0003.npz").unlink()
    assert main(["report", name, *moved]) == 2
    assert "a score of 16 runs, but 15 runs" in capsys.readouterr().err
    shutil.copytree(folder_of(out), folder_of(copy), dirs_exist_ok=True)
    content = read_score(folder_of(copy) / "score.json")
    content["epsilons"][0] += 1
    write_sealed(folder_of(copy) / "score.json", content)
    assert main(["report", name, *moved]) == 2
    assert "have changed since they were scored" in capsys.readouterr().err
    del content["notes"]
    write_sealed(folder_of(copy) / "score.json", content)
    assert main(["report", name, *moved]) == 2
    assert "is of an earlier version, without notes" in capsys.readouterr().err


def write_sealed(path, content):
    path.write_text(json.dumps(content | {"sha256": checksum(content)}))
