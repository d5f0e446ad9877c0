"""The table is generated, states what it was measured on, and leaves the rest of a file alone."""

import json
from types import SimpleNamespace

import pytest

from local_eval.__main__ import main
from local_eval.report.compare import rank_agreement, rank_and_official_score, write_between_markers
from local_eval.store.files import OutputError
from tests.conftest import TINY


def test_ranks_and_official_scores_are_read_from_the_docstrings():
    found = {name: rank_and_official_score(name) for name in ("fanchuan", "amnesiacs", "jiaxi_sun")}
    assert found == {"fanchuan": ("1", "0.0985"), "amnesiacs": ("6", "0.0783"), "jiaxi_sun": ("7", "-")}
    for name in ("scrub", "random_mask"):  # none, and one that nobody confirmed
        assert rank_and_official_score(name) == ("-", "-")


@pytest.mark.usefixtures("without_a_pool")
def test_one_command_grades_and_writes_the_table(tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- table tiny -->\nold\n<!-- end table tiny -->\nafter\n")
    saved = tmp_path / "results" / "tiny.json"
    arguments = ["compare", "baseline_finetune", "seif_achour", "--task", TINY, "--runs", "16", "--workers", "2"]
    assert main([*arguments, "--out", str(tmp_path / "o"), "--write", str(readme), "--save", str(saved)]) == 0
    text = readme.read_text()
    assert text.startswith("before\n<!-- table tiny -->\n| method | rank |")
    assert text.endswith("<!-- end table tiny -->\nafter\n")
    assert "old" not in text
    assert "| `seif_achour` | 3 |" in text
    assert "N = 16" in text
    content = json.loads(saved.read_text())
    assert set(content["methods"]) == {"baseline_finetune", "seif_achour"}
    assert content["runs"] == 16


@pytest.mark.parametrize(
    "order, expected",
    [
        (["fanchuan", "kookmin", "scrub", "seif_achour", "oleszko"], 1.0),
        (["oleszko", "seif_achour", "kookmin", "fanchuan"], -1.0),
        (["kookmin", "fanchuan", "seif_achour"], 0.5),
    ],
)
def test_our_order_is_compared_with_the_official_ranks(order, expected):
    scores = {name: SimpleNamespace(score=1.0 - 0.1 * place) for place, name in enumerate(order)}
    ranked = len(set(order) - {"scrub"})
    assert rank_agreement(scores) == (pytest.approx(expected), ranked)


def test_a_file_without_markers_is_refused(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("nothing")
    with pytest.raises(OutputError, match="<!-- table digits -->"):
        write_between_markers(path, "table digits", "text")
