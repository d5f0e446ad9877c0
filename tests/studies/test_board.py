"""The board grades its rows on any task, tells failures, and makes nothing twice."""

import csv
import json
import shlex
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest

from local_eval.__main__ import main
from local_eval.cli.parser import make_parser
from local_eval.grader import Grader
from local_eval.metric.uncertainty.projection import Projection
from local_eval.tasks.names import task_names
from studies.board import COLUMNS, measured_value, save_rows
from tests.conftest import GOOD, TINY, made_once, unmeasured, work_here
from tests.metric.test_score import score
from tests.studies.test_rows import GOOD_ROW

SIGMA = GOOD.replace("def unlearning", "SIGMA = 0.01\n\ndef unlearning").replace("0.01 *", "SIGMA *")
BROKEN = SIGMA + "    if SIGMA > 1: raise ValueError('too much noise')\n"


THREE = [("[SIGMA=0.02]", {}), ("[SIGMA=2.0]", {}), ("", {"split": "public"})]


def run_board(folder: Path, variants, *more):
    """Exit code, and the lines of the CSV file that `board` writes of rows: variants of the method in a folder."""
    rows = [replace(GOOD_ROW, variant=str(folder / "mine.py") + settings, **columns) for settings, columns in variants]
    save_rows(rows, folder / "rows.csv")
    where = ["--task", TINY, "--out", str(folder / "out"), "--device", "cpu", "--workers", "1", "--runs", "16"]
    code = main(["board", *where, "--rows", str(folder / "rows.csv"), "--write", str(folder / "board.csv"), *more])
    with open(folder / "board.csv", newline="") as file:
        return code, list(csv.DictReader(file))


def grade_three(folder: Path) -> None:
    """Write mine.py, and grade THREE rows of it into out/; keep in files what is said and the exit code."""
    (folder / "mine.py").write_text(BROKEN)
    with pytest.MonkeyPatch.context() as patch, open(folder / "said.txt", "w") as said:
        work_here(patch)
        unmeasured(patch)
        with open(folder / "errors.txt", "w") as errors, redirect_stdout(said), redirect_stderr(errors):
            code, _ = run_board(folder, THREE)
    (folder / "code").write_text(str(code))


@pytest.fixture(scope="session")
def three(tmp_path_factory):
    """THREE, graded once for all that read it or go on from it."""
    return made_once(tmp_path_factory, "board-of-three", grade_three)


@pytest.fixture
def board(three, tmp_path, without_a_pool):
    """run(variants, *more), going on from THREE in a folder of the test's own, which is tmp_path."""
    shutil.copytree(three, tmp_path, dirs_exist_ok=True)
    return lambda variants, *more: run_board(tmp_path, variants, *more)


def test_rows_are_graded_and_written_and_one_that_fails_leaves_the_others_theirs(three):
    out, err = ((three / name).read_text() for name in ("said.txt", "errors.txt"))
    with open(three / "board.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert (three / "code").read_text() == "1"
    assert "ValueError: too much noise" in out
    assert "without a score: " in err and "[SIGMA=2.0]" in err
    for number, one in enumerate(("0.02", "2.0", ""), start=1):
        assert f"{number} of 3: " in out and one in out
    assert list(lines[0]) == [*COLUMNS, "N", "measured", "low", "high", "utility", "command"]
    assert [bool(line["measured"]) for line in lines] == [True, False, True]
    assert {line["N"] for line in lines} == {"16"}
    assert [line["published"] for line in lines] == ["0.08921"] * 3
    for line in (lines[0], lines[2]):
        assert float(line["low"]) <= float(line["measured"]) <= float(line["high"])
        scores = [json.loads(f.read_text()) for f in three.glob("out/tiny-*/mine-*/score.json")]
        assert any(float(line["measured"]) == pytest.approx(s["score"], rel=1e-5) for s in scores)


def test_a_second_call_makes_nothing_again(board, three, tmp_path):
    made = {f: f.stat().st_mtime_ns for f in (tmp_path / "out").rglob("[0-9]*.npz")}
    assert len(made) == 3 * 16, "oracles are shared by both, and the row that failed has no run"
    first = (three / "board.csv").read_text().replace(f"{three}-begun", str(tmp_path)).splitlines()
    assert board(THREE[::2])[0] == 0
    assert made == {f: f.stat().st_mtime_ns for f in (tmp_path / "out").rglob("[0-9]*.npz")}
    assert (tmp_path / "board.csv").read_text().splitlines() == [*first[:2], first[3]]
    code, (one, other, _) = board([*THREE[:1], ("[SIGMA=0.03]", {}), *THREE[2:]], "--finished-only")
    assert code == 1 and one["measured"] and not other["measured"], "no runs are made"
    assert made == {f: f.stat().st_mtime_ns for f in (tmp_path / "out").rglob("[0-9]*.npz")}


def test_the_command_of_a_row_gives_its_score_alone(board, capsys, tmp_path):
    _, (line,) = board(THREE[:1])
    words = shlex.split(line["command"])
    assert words[:4] == ["python", "-m", "local_eval", "grade"]
    assert make_parser().parse_args(words[3:]).runs == 16
    assert main([*words[3:], "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    assert f"= score{float(line['measured']):>26.4f}" in capsys.readouterr().out


@pytest.mark.studies
def test_a_variant_with_more_finished_runs_is_scored_with_all_of_them(board, tmp_path):
    _, (_, line) = board(THREE[::2])
    more = ["--out", str(tmp_path / "out"), "--device", "cpu", "--workers", "1", "--runs", "20"]
    assert main(["grade", line["variant"], "--task", TINY, *more]) == 0
    for flags in ([], ["--finished-only"]):
        code, lines = board(THREE[::2], *flags)
        assert code == 0
        assert [one["N"] for one in lines] == ["16", "20"]
        assert lines[1]["command"].endswith("--runs 20")
    oracle = next(tmp_path.glob("out/tiny-*/oracles/0019.npz"))
    oracle.rename(tmp_path / "away.npz")
    assert board(THREE[2:], "--finished-only")[1][0]["N"] == "19", "a score needs as many oracles as runs"
    assert board(THREE[2:])[1][0]["N"] == "19" and not oracle.exists(), "and nobody asked to train any"
    next(tmp_path.glob("out/tiny-*/mine-*/0003.npz")).unlink()
    next(tmp_path.glob("out/tiny-*/mine-*/0018.npz")).rename(tmp_path / "elsewhere.npz")
    assert {one["N"] for one in board(THREE[::2])[1]} == {"16"}, "nineteen runs with a gap are no more than sixteen"


def test_shipped_oracles_are_unpacked_where_only_finished_runs_are_scored(board, tmp_path, monkeypatch):
    folder = next(tmp_path.glob("out/tiny-*/oracles"))
    taken = []
    monkeypatch.setattr(Grader, "_take_the_tasks_own", lambda self, where: taken.append(where))
    assert board(THREE[:1], "--finished-only")[0] == 0
    assert folder.resolve() in taken


def test_a_part_and_a_confidence_choose_rows(board, capsys):
    rows = [
        ("[SIGMA=0.02]", {}),
        ("", {"family": "other", "part": "test"}),
        ("[SIGMA=0.04]", {"confidence": "?"}),
    ]
    _, lines = board(rows, "--part", "test")
    assert [line["part"] for line in lines] == ["test"]
    _, lines = board(rows, "--part", "tune", "--confidence", "A", "B")
    assert [line["confidence"] for line in lines] == ["B"]


def test_measured_is_the_projection_times_utility_and_the_plain_score_where_there_is_none():
    ratios = {"retain_accuracy_ratio": 0.9, "test_accuracy_ratio": 0.8}
    one = replace(score(16), score=0.072, interval=(0.05, 0.09), projected=None, **ratios)
    assert measured_value(one) == pytest.approx((0.072, 0.05, 0.09))
    there = replace(one, projected=Projection(0.02, 0.01, 0.03, 512))
    assert measured_value(there) == pytest.approx((0.0144, 0.0072, 0.0216))


def test_bad_input_is_told_before_anything_is_trained(tmp_path, capsys, monkeypatch):
    wrong = {"--rows": (str(tmp_path / "no.csv"), "cannot be read"), "--runs": ("8", "too few")}
    wrong |= {"--draw": ("x.foo", "x.foo: a figure can be .svg"), "--part": ("none", "has no row of part none")}
    monkeypatch.setattr("local_eval.cli.parser.BOARD_PARTS", ("tune", "test", "none"))
    for more, reported in (([option, value], reported) for option, (value, reported) in wrong.items()):
        assert main(["board", "--task", TINY, "--out", str(tmp_path / "out"), *more]) == 2
        assert reported in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_task_is_the_small_competition_if_there_is_one():
    there = "competition_small" in task_names()
    assert make_parser().parse_args(["board"]).task == ("competition_small" if there else "digits")
