"""Oracles are trained in TF32 only where a comparison on this task, card and torch did not tell such ones apart."""

import json
from dataclasses import replace

import pytest

from local_eval import bench
from local_eval.__main__ import main
from local_eval.cli import grading
from local_eval.grader import Grader
from local_eval.oracles import oracles
from local_eval.oracles.oracles import (
    GATE,
    GATE_MODELS,
    KIND_TESTS,
    OraclePlan,
    gate_for,
    one_job,
    read_gate,
    remark_on_precision,
)
from local_eval.oracles.train_many import Trainer
from local_eval.store.errors import InputError, WorkError
from tests.conftest import TINY, in_this_process

FINE = dict.fromkeys(KIND_TESTS, 0.4)
HERE = {"torch": "2.14.1"}


@pytest.fixture
def card(monkeypatch):
    """This machine says that it has a card."""
    monkeypatch.setattr(oracles, "card_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(oracles, "versions", lambda device, card: HERE | {"device": f"cuda {card}"})


def gate(**changes):
    return gate_for("task-1", "cuda", 256, FINE) | changes


def test_a_comparison_is_taken_if_it_is_of_this_task_card_and_torch_and_saw_no_difference(tmp_path, card):
    path = tmp_path / "gate.json"
    path.write_text(json.dumps({"task": "digits", GATE: gate()}))
    assert read_gate(path, "task-1", "cuda") == gate()
    for content, reason in {
        "no JSON": "holds no comparison",
        "[1]": "holds no comparison",
        json.dumps({"pools_tf32": 0.2}): "holds no comparison",
        json.dumps({GATE: None}): "holds no comparison",
        json.dumps({GATE: gate(chances=[0.5])}): "holds no comparison",
        json.dumps({GATE: gate(chances=dict.fromkeys(KIND_TESTS, "high"))}): "holds no comparison",
        json.dumps({GATE: gate(models=float("inf"))}): "holds no comparison",
        json.dumps({GATE: gate(models=GATE_MODELS - 1)}): "compared 127 oracles of each kind",
        json.dumps({GATE: gate(task="task-2")}): "is about the task task-2, and this is task-1",
        json.dumps({GATE: gate(device="cuda Tesla T4")}): "is about the device cuda Tesla T4, and this is cuda NVIDIA",
        json.dumps({GATE: gate(torch="2.6.0")}): "is about the torch 2.6.0",
        json.dumps({GATE: gate(chances={})}): "does not say whether forgetting quality tells",
        json.dumps({GATE: gate(chances={KIND_TESTS[0]: 0.5})}): "does not say whether retain accuracy",
        json.dumps({GATE: gate(chances=FINE | {"test accuracy": 0.01})}): r"by test accuracy \(chance 0.010\)",
        json.dumps({GATE: gate(chances=FINE | {"forgetting quality": float("nan")})}): "by forgetting quality",
    }.items():
        path.write_text(content)
        with pytest.raises(InputError, match=f"--tf32 .*gate.json.*{reason}"):
            read_gate(path, "task-1", "cuda")
    path.write_bytes(b"\xff\xfe")
    for wrong in (path, tmp_path, tmp_path / "none.json"):
        with pytest.raises(InputError, match="holds no comparison of pools .*bench --parts tf32"):
            read_gate(wrong, "task-1", "cuda")


def test_what_bench_writes_is_what_the_oracles_ask_for(tiny, tmp_path, card, monkeypatch):
    """On a CPU, where TF32 changes nothing, so the pools are of one kind."""
    monkeypatch.setattr(bench, "run_jobs", in_this_process)
    found = bench.pools_bench(TINY, tiny, "cpu", 16, ("fast", "tf32"))
    assert found.keys() == {"pools_fast", "pools_tf32", GATE}
    assert set(found[GATE]["chances"]) == set(KIND_TESTS)
    bench.save(found, tmp_path / "gate.json")
    with pytest.raises(InputError, match="compared 16 oracles"):
        read_gate(tmp_path / "gate.json", tiny.fingerprint(), "cpu")
    monkeypatch.setattr(oracles, "GATE_MODELS", 16)
    assert read_gate(tmp_path / "gate.json", tiny.fingerprint(), "cpu") == found[GATE]


def test_a_cpu_has_no_tf32_to_compare_and_a_card_compares_it_with_the_pools_or_alone():
    for parts, device, expected in (
        (["pools"], "cpu", ("plain", "fast")), (["metric"], "cuda", ()), (["tf32"], "cuda", ("fast", "tf32")),
        (["pools"], "cuda:1", ("plain", "fast", "tf32")), (["tf32", "pools"], "cuda", ("plain", "fast", "tf32")),
    ):  # fmt: skip
        assert bench.kinds_of_pools(parts, device) == expected
    with pytest.raises(WorkError, match="a GPU's arithmetic, and --device is cpu"):
        bench.kinds_of_pools(["tf32"], "cpu")


def test_records_and_scores_say_which_oracles_were_trained_in_it(tiny, monkeypatch):
    asked = []

    def trainer(spec, device, forget_too, tf32):
        asked.append(tf32)
        return Trainer(tiny, tiny.retain)

    monkeypatch.setattr(oracles, "trainer_of", trainer)
    plan = OraclePlan(TINY, tiny.fingerprint(), "cpu", 4)
    plain, rounded = (one_job(each, 0) for each in (plan, replace(plan, tf32=FINE)))
    assert asked == [False, True]
    assert not plain[0].facts.keys() & {"precision", GATE}
    assert rounded[0].facts["precision"] == "tf32" and rounded[0].facts[GATE] == FINE
    assert rounded[0].identity == plain[0].identity, "they are taken for oracles of the task, which is what was shown"
    assert remark_on_precision(list(plain.values())) == ()
    (note,) = remark_on_precision([*plain.values(), rounded[1]])
    assert note.startswith("1 of 5 oracles were trained in TF32")


def test_the_command_refuses_before_it_trains_and_hands_on_what_was_found(tmp_path, card, monkeypatch, capsys):
    path, seen = tmp_path / "gate.json", []
    monkeypatch.setattr(grading, "device_of", lambda request: "cuda")
    monkeypatch.setattr(Grader, "finish_oracles", lambda self: seen.append(self._oracle_plan.tf32) or [])
    command = ["oracles", "--task", TINY, "--out", str(tmp_path), "--runs", "16"]
    path.write_text(json.dumps({GATE: gate()}))
    assert main([*command, "--tf32", str(path)]) == 2
    assert "is about the task task-1" in capsys.readouterr().err and seen == []
    fitting = gate(task=Grader(TINY, tmp_path).fingerprint)
    path.write_text(json.dumps({GATE: fitting}))
    assert main([*command, "--tf32", str(path)]) == 0
    assert main(command) == 0
    assert seen == [fitting, None], "never unless it is asked for"
