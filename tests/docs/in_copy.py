"""What the examples of CONTRIBUTING do once they are in the kit; test_docs.py runs this in a copy that has them."""

import runpy
from pathlib import Path

import numpy as np

from local_eval.__main__ import main
from local_eval.runs import check
from local_eval.store.records import Evaluation, Record, record_path, save_record
from tests.conftest import TINY, in_this_process

COPY = Path(__file__).parents[2]
RUNS = 16


def test_the_method_and_the_task_pass_the_check(monkeypatch, capsys):
    monkeypatch.setattr(check, "run_jobs", in_this_process)
    assert main(["check", "shrink_perturb", "--task", TINY, "--device", "cpu"]) == 0
    assert main(["check", "baseline_finetune", "--task", "stripes", "--device", "cpu"]) == 0
    assert "check: line" not in capsys.readouterr().out, "it can travel to Kaggle"


def test_the_attack_reads_a_finished_grading(tmp_path, monkeypatch, capsys, tiny):
    rng = np.random.default_rng(0)
    for folder, shift in (("oracles", 0.0), ("mine-0-seed0", 3.0)):
        for index in range(RUNS):
            logits = rng.normal(0, 1, (len(tiny.forget), 3)).astype(np.float32)
            logits[np.arange(len(logits)), tiny.forget.labels.numpy()] += shift
            save_record(record_path(tmp_path / folder, index), Record(Evaluation(logits, 1.0, 1.0), {}, {}))
    monkeypatch.setattr("sys.argv", ["attack_grading.py", TINY, str(tmp_path / "mine-0-seed0")])
    runpy.run_path(str(COPY / "attack_grading.py"), run_name="__main__")
    assert capsys.readouterr().out == f"epsilon 50.00, N = {RUNS}\n", "this shift is seen without error"
