"""The benchmark measures both ways at once and writes the ratios; its FLOP count is the known one."""

import json

import pytest
import torch
from torchvision.models import resnet18

from local_eval import bench
from local_eval.__main__ import main
from local_eval.bench import flop_per_image, matrix_gflops
from tests.conftest import TINY, in_this_process


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """One process, this one, and few repeats: how fast something is, is not what is tested."""
    monkeypatch.setattr(bench, "run_jobs", in_this_process)
    monkeypatch.setattr(bench, "default_workers", lambda device: 1)
    for name, value in (("ROUNDS", 1), ("STEPS", 2), ("BATCHES", 2), ("JOBS_PER_PROCESS", 2)):
        monkeypatch.setattr(bench, name, value)


@pytest.mark.slow
def test_every_part_prints_its_ratio_and_writes_it(tmp_path, submission, capsys):
    out, mine = tmp_path / "bench.json", submission()
    parts = ["--parts", "metric", "loader", "oracles", "runs", "pools"]
    small = ["--models", "16", "--pool", "8", "--submission", mine]
    assert main(["bench", "--task", TINY, "--device", "cpu", *parts, *small, "--write", str(out)]) == 0
    found, said = json.loads(out.read_text()), capsys.readouterr().out
    for part in ("metric", "loader", "oracle", "runs"):
        assert found[f"{part}_speedup"] > 0
    assert said.count("ratio") == 4
    assert found["metric_speedup"] == pytest.approx(found["metric_plain_seconds"] / found["metric_seconds"])
    assert found["oracle_speedup"] == pytest.approx(found["oracle_steps"] / found["oracle_plain_steps"])
    assert found["projected_minutes"]["oracles, once per task"] == pytest.approx(512 / found["oracles_per_minute"])
    assert found["projected_minutes"]["runs"] == pytest.approx(512 / max(found["runs_per_minute"].values()))
    assert found["commit"] and found["hardware"] and found["torch"] == torch.__version__
    assert {"pools_mixed", "pools_plain", "pools_fast"} <= found.keys()


def test_a_submission_that_fails_is_told(submission, capsys):
    broken = submission("def unlearning(net, retain_loader, forget_loader, val_loader):\n    raise ValueError\n")
    assert main(["bench", "--task", TINY, "--device", "cpu", "--parts", "runs", "--submission", broken]) == 1
    assert "fails on this task" in capsys.readouterr().err


def test_resnet18_costs_217_mflop_an_image():
    assert flop_per_image(resnet18(num_classes=10), (32, 32)) == pytest.approx(217.3e6, rel=1e-3)


def test_the_matrix_rate_is_one_that_a_cpu_can_have():
    assert 0.1 < matrix_gflops(torch.device("cpu"), size=256) < 100_000
