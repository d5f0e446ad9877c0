"""An evening with a shared file: written, opened elsewhere, a run made again, compared and ranked; refused in words."""

import shutil

import pytest

from local_eval.__main__ import main
from local_eval.isolation.sandbox import probe
from local_eval.report.result import read_score
from local_eval.shared import verifying
from local_eval.store.for_others import CONTENTS
from tests.conftest import GOOD, TINY
from tests.report.page.looking import Page
from tests.shared.made_shared import changed, edited, with_score


@pytest.fixture(autouse=True)
def plainly(without_a_pool, monkeypatch):
    """Without further measures, which take a second for every score."""
    monkeypatch.setattr("local_eval.shared.again.run_on_device", in_turn)
    monkeypatch.setattr(verifying, "further_measures", lambda *_: [])


@pytest.fixture
def graded(tiny_graded, monkeypatch):
    """A grading, scored anew without further measures; the current folder is its."""
    monkeypatch.chdir(tiny_graded)
    assert main(["score", "mine.py", "--task", TINY, "--device", "cpu", "--out", "out", "--runs", "16"]) == 0
    return tiny_graded


def in_turn(device, function, argument, indices, *_):
    return ((index, function(argument, index)) for index in indices)


def test_what_one_shares_another_opens_makes_again_and_ranks(graded, tmp_path, capsys, monkeypatch):
    here = ["--task", TINY, "--device", "cpu"]
    assert main(["share", "mine.py", *here, "--out", "out"]) == 0
    told = capsys.readouterr().out
    assert "mine-tiny-N16.zip" in told and "python -m local_eval open mine-tiny-N16.zip" in told and "--weights" in told
    monkeypatch.setattr("local_eval.shared.writing.page_of", lambda _: "<!DOCTYPE html>")
    assert main(["share", "mine.py", *here, "--out", "out", "--weights", "--write", "w.zip", "--runs", "16"]) == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("mine-tiny-N16.zip", "w.zip"):
        shutil.move(name, elsewhere)
    score = read_score(next((graded / "out").glob("tiny-*/mine-*/score.json")))
    monkeypatch.chdir(elsewhere)

    capsys.readouterr()
    assert main(["open", "mine-tiny-N16.zip"]) == 0
    said = capsys.readouterr().out
    assert said.count("  ok ") == 5 and "WRONG" not in said and "equal to the bit" in said
    assert f"{score['score']:.4f}" in said and "--rerun 0" in said
    opened = elsewhere / "mine-tiny-N16-opened"
    assert f"{score['score']:.4f}" in Page(opened / "report.html").text
    assert (opened / "method.py").read_text() == GOOD and (opened / CONTENTS).is_file()

    level = "none" if any(probe().values()) else "full"
    again = ["open", "w.zip", "--rerun", "7", "2", "--device", "cpu", "--sandbox", level]
    assert main(again) == 2
    assert "does not come with the kit; name it with --task" in capsys.readouterr().err
    assert main([*again, "--task", TINY]) == 0
    said = capsys.readouterr().out
    assert said.count("the same to the bit") == 2 and "run 7" in said
    assert main(["open", "w.zip", "--rerun", "99", "--task", TINY, "--device", "cpu"]) == 2
    assert "holds no run 99" in capsys.readouterr().err
    assert main(["open", "w.zip", "--rerun", "1", "--task", f"{TINY}[lr=0.5]", "--device", "cpu"]) == 2
    assert "fingerprint" in capsys.readouterr().err

    where = [*here, "--runs", "16", "--out", str(graded / "out")]
    assert main(["compare", "w.zip", str(graded / "mine.py"), *where, "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert "w.zip" in said and said.count(f"{score['score']:.4f}") >= 2 and "cannot tell w.zip" in said
    assert main(["leaderboard", "w.zip", *where]) == 0
    said = capsys.readouterr().out
    assert "mine (w.zip)" in said and "2 methods" in said
    assert main(["grade", "w.zip", *where]) == 2
    assert "made by `share`: python -m local_eval open w.zip shows it" in capsys.readouterr().err


def test_what_was_changed_is_told_and_no_folder_of_ones_own_is_written_into(graded, capsys, monkeypatch):
    monkeypatch.setattr(verifying, "write_page", lambda source, folder, images: folder / CONTENTS)
    monkeypatch.setattr("local_eval.shared.writing.page_of", lambda _: "<!DOCTYPE html>")
    where = ["--task", TINY, "--out", "out", "--device", "cpu"]
    assert main(["share", "mine.py", *where, "--write", "s.zip"]) == 0
    (graded / "s-opened").mkdir()
    (graded / "s-opened" / "report.html").write_text("mine")
    assert main(["open", "s.zip"]) == 2
    assert "choose another with --to" in capsys.readouterr().err
    assert (graded / "s-opened" / "report.html").read_text() == "mine"
    content = (graded / "s.zip").read_bytes()
    (graded / "forged.zip").write_bytes(changed(content, with_score(score=0.18)))
    assert main(["open", "forged.zip"]) == 1
    assert "WRONG  score      the file says 0.18, its records give" in capsys.readouterr().out
    (graded / "forged.zip").write_bytes(changed(content, edited(b"0.01", b"0.02")))
    for command in (["open", "forged.zip"], ["open", "forged.zip", "--rerun", "7", "--task", TINY]):
        assert main(command) == 2
        assert "it is not their source" in capsys.readouterr().err
    assert main(["share", "mine.py", *where, "--write", "s.html"]) == 2
    assert main(["share", "out", *where]) == 2
    assert main(["open", "mine.py"]) == 2
    assert "no file that `share` has made" in capsys.readouterr().err
