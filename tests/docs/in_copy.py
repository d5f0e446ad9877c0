"""What the examples of docs/extending.md do once they are in the kit; test_docs.py runs this in a copy of it."""

from local_eval.__main__ import main
from local_eval.runs import check
from tests.conftest import TINY, in_this_process


def test_the_method_and_the_task_pass_the_check(monkeypatch, capsys):
    monkeypatch.setattr(check, "run_jobs", in_this_process)
    assert main(["check", "shrink_perturb", "--task", TINY, "--device", "cpu"]) == 0
    assert main(["check", "baseline_finetune", "--task", "stripes", "--device", "cpu"]) == 0
    assert "check: line" not in capsys.readouterr().out, "it can travel to Kaggle"
