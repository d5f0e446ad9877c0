"""`measures` and `relearn` tell what they found, write it beside the score, and leave score and records as they are."""

import json

import pytest

from local_eval.__main__ import main
from local_eval.report.page import figures
from local_eval.runs.checkpoints import save_checkpoint
from local_eval.tasks.evaluate import initial_net
from tests.conftest import TINY


@pytest.fixture(autouse=True)
def here(without_a_pool):
    """All work is done in this process."""


def written(folder):
    """Score, records and checkpoints of a folder of runs and of its task: what nothing may change."""
    kept = [path for path in folder.parent.rglob("*") if path.suffix in (".npz", ".npy") or path.name == "score.json"]
    return {path: path.read_bytes() for path in kept if "relearn" not in path.parts and "weights" not in path.parts}


def where(graded):
    return ["--task", TINY, "--out", str(graded / "out"), "--device", "cpu"]


def test_measures_are_printed_and_written_beside_the_score(tiny_graded, capsys):
    path, (folder,) = str(tiny_graded / "mine.py"), (tiny_graded / "out").glob("tiny-*/mine-*")
    before = written(folder)
    assert main(["measures", path, *where(tiny_graded), "--runs", "16"]) == 0
    said = capsys.readouterr().out
    assert "mine on tiny, N = 16: measures on request" in said and "RMIA AUC" in said and "the original 0." in said
    found = json.loads((folder / "measures-N16.json").read_text())
    keys = [row["key"] for row in found["measures"]]
    assert {"rmia_auc", "iam_tpr", "ulira_published", "klom_published_95", "ruli_tpr_vulnerable"} <= set(keys)
    assert (found["runs"], found["references"], found["submission"]) == (16, 1, "mine")
    assert main(["measures", path, *where(tiny_graded), "--runs", "16", "--references", "2", "--markdown"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "| measure | mine | perfect (95 %) | original |" and len(table) == 2 + len(keys)
    assert written(folder) == before


def test_measures_of_runs_that_are_not_there_or_of_finished_models_are_bad_input(tiny_graded, tmp_path, capsys):
    assert main(["measures", str(tiny_graded / "mine.py"), *where(tiny_graded), "--runs", "17"]) == 2
    assert "1 of 17 runs is missing (16)" in capsys.readouterr().err
    (tmp_path / "models").mkdir()
    assert main(["measures", str(tmp_path / "models"), *where(tiny_graded)]) == 2
    assert "holds finished models; measures needs runs" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["measures", *where(tiny_graded)])
    assert stopped.value.code == 2


def test_relearning_is_told_written_and_drawn_and_changes_nothing(tiny_graded, capsys, monkeypatch):
    path, (folder,) = str(tiny_graded / "mine.py"), (tiny_graded / "out").glob("tiny-*/mine-*")
    before, drawn = written(folder), []
    monkeypatch.setattr(figures, "as_png", lambda figure: drawn.append(len(figure.axes)) or b"png")
    how = [*where(tiny_graded), "--models", "2", "--relearn-epochs", "3"]
    assert main(["relearn", path, *how]) == 0
    said = capsys.readouterr().out
    assert "relearning mine on tiny: 2 models a side, 3 epochs on the retain set alone" in said
    assert "epoch 3" in said and "over the epochs:" in said
    found = json.loads((folder / "relearn.json").read_text())
    assert [row["epoch"] for row in found["epochs"]] == [0, 1, 2, 3] and found["learning_rate"] == pytest.approx(1e-3)
    assert len(found["curves"]["oracles"]) == 2 and set(found["on_average"]) >= {"words", "accuracy", "gained"}
    assert (folder / "relearn.png").read_bytes() == b"png" and drawn == [2]
    assert written(folder) == before, "neither graded runs nor oracles are written anew"
    assert main(["relearn", path, *how, "--tenth"]) == 0
    assert "a tenth of the forget set" in capsys.readouterr().out and (folder / "relearn-tenth.json").exists()
    assert main(["relearn", path, *where(tiny_graded), "--models", "1"]) == 2
    assert "give 2 or more, or there is no interval" in capsys.readouterr().err


def test_checkpoints_that_a_grading_kept_are_relearned_and_runs_that_fail_are_told(tiny, tiny_graded, body, capsys):
    path, (folder,) = str(tiny_graded / "mine.py"), (tiny_graded / "out").glob("tiny-*/mine-*")
    for index in (0, 1, 7):  # as after a grading whose folder has lost some since
        save_checkpoint(initial_net(tiny, index).state_dict(), folder / "checkpoints", index)
    assert main(["relearn", path, *where(tiny_graded), "--models", "2", "--relearn-epochs", "1"]) == 0
    assert not list((folder / "relearn").glob("*.npz")), "nothing was run again"
    broken = body("raise ValueError('broken')", "broken")
    assert main(["relearn", broken, *where(tiny_graded), "--models", "2"]) == 1
    assert "ValueError: broken" in capsys.readouterr().err
