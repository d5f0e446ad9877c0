"""What a cheat tries gives it nothing: it is refused, or it scores what its method scores without the attempt."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from local_eval.host import judging
from local_eval.host.competition import PUBLIC, How, opened
from local_eval.isolation.sandbox import probe
from local_eval.methods.submission import Submission
from local_eval.runs.one_run import finish_runs, seed_everything
from tests.conftest import GOOD
from tests.host.conftest import judged, quickly
from tests.host.test_similarity import renamed
from tests.runs.test_hidden_test_set import SPY as MEMORY

needs_sandbox = pytest.mark.skipif(any(probe().values()), reason="this kernel lacks layers of the sandbox")

# Whatever one of these finds ends the run. So does a sandbox that was never entered; what is denied goes on.
ATTEMPTS = {
    "reads the rules": "open(COURSE + '/competition.json').read()",
    "reads the key": "open(COURSE + '/private/key').read()",
    "lists the host's folder": "os.listdir(COURSE + '/private')",
    "lists its own folder": "os.listdir(os.path.dirname(__file__))",
    "lists the others' entries": "os.listdir(os.path.dirname(os.path.dirname(__file__)))",
    "reads an oracle": "open(ORACLE, 'rb').read()",
    "reads the original of the part": "open(os.path.dirname(os.path.dirname(ORACLE)) + '/original.npz', 'rb').read()",
    "reads the oracles that come with the kit": "open(SHIPPED, 'rb').read()",
    "writes into the log": "open(COURSE + '/log.jsonl', 'a')",
    "removes the log": "os.remove(COURSE + '/log.jsonl')",
    "changes the rules": "open(COURSE + '/competition.json', 'w')",
    "reads what the host's process knows": "open(f'/proc/{os.getppid()}/mem', 'rb')",
    "reads how the host's process was called": "open(f'/proc/{os.getppid()}/cmdline').read()[0]",
    "asks the network": "socket.socket()",
    "kills the judge": "os.kill(os.getppid(), 9)",
}
SPY = """
import importlib, os, socket, sys
COURSE, ORACLE, SHIPPED = {places!r}
ATTEMPTS = {attempts!r}

def attempt():
    for what, line in ATTEMPTS.items():
        try:
            exec(line, globals())
        except OSError:
            continue
        raise RuntimeError("IT DID: " + what)
"""
PATCHES = """
    kit = lambda name: importlib.import_module("local" + "_eval." + name)
    metric, score, evaluate = kit("metric.metric"), kit("metric.score"), kit("tasks.evaluate")
    metric.example_epsilons = score.example_epsilons = lambda *a, **k: 0 * a[0].sum(axis=0)
    metric.forgetting_points = score.forgetting_points = lambda *a, **k: a[0] + 1
    evaluate.evaluate = evaluate.predict = None
    score.compute_score = None
    torch.nn.functional.softmax = None
"""


def write(folder: Path, source: str, name: str) -> str:
    path = folder / f"{name}.py"
    path.write_text(source)
    return str(path)


def mallory(course: Path) -> str:
    """GOOD, which looks for everything first, patches the grader, and carries the winner's code along."""
    oracle = next((course / "private" / "parts" / "public").rglob("oracles/0000.npz"))
    shipped = str(Path(probe.__code__.co_filename).parents[1] / "tasks" / "digits_oracles.npz")
    head = SPY.format(places=(str(course), str(oracle), shipped), attempts=ATTEMPTS)
    winner = renamed(Submission.find("fanchuan").source()).replace("def unlearning", "def theirs")
    body = GOOD.partition("    with torch.no_grad():")
    return f"{head}\n{winner}\n{body[0]}    attempt()\n{PATCHES}{body[1]}{body[2]}"


@needs_sandbox
def test_looking_patching_and_copying_change_no_score_and_the_copy_is_flagged(course, tmp_path):
    before = {path: path.read_bytes() for path in course.glob("*.json*")}
    code, found, said = judged(course, write(tmp_path, mallory(course), "mine"), "mallory")
    assert code == 0 and found["valid"], found
    assert found["relative"]["value"] == pytest.approx(0.0, abs=1e-9), "to the digit what the same method gets: ZERO"
    assert found["budget"]["within"] and found["sandbox"] == "full"
    (hidden,) = (course / "private" / "judged").glob("*.json")
    hidden = json.loads(hidden.read_text())
    assert "fanchuan" in hidden["flagged"], "whose code it has"
    assert any("exec" in what for what in hidden["hides"])
    assert hidden["verdict"] == "valid" and hidden["score"] != found["public"]["score"], "another part"
    assert "fanchuan" in said and "fanchuan" not in json.dumps(found)
    assert str(hidden["score"]) not in json.dumps(found) + said
    assert all(path.read_bytes() == content for path, content in before.items() if path.name != "log.jsonl")


@needs_sandbox
def test_what_would_be_worth_something_is_refused_with_a_reason_that_tells_no_folder(course, tmp_path):
    oracle = next((course / "private" / "parts" / "public").rglob("oracles/0000.npz"))
    head = "def unlearning(net, retain_loader, forget_loader, val_loader):\n"
    weights = "W = [" + ", ".join(f"{0.123456789 * k:.9f}" for k in range(9000)) + "]\n" + GOOD
    for name, source, verdict, code, named in (
        ("oracles", f"import numpy as np\n{head}    np.load({str(oracle)!r})\n", "the contract is broken", 2, "denied"),
        ("kit", f"import local_eval.grader\n{head}    pass\n", "the contract is broken", 2, "imports local_eval"),
        ("others", f"import sklearn\n{head}    pass\n", "the contract is broken", 2, "imports sklearn"),
        ("none", "x = 1\n", "the contract is broken", 2, "no function"),
        ("broken", "def unlearning(:\n", "the contract is broken", 2, "not valid Python"),
    ):
        ended, found, _ = judged(course, write(tmp_path, source, name), name)
        assert (ended, found["verdict"]) == (code, verdict) and not found["valid"], (name, found)
        assert found["public"] is found["relative"] is None and named in found["reasons"][0], (name, found)
        assert str(course) not in json.dumps(found) and "Traceback" not in found["reasons"][0], name
    ended, found, _ = judged(course, write(tmp_path, weights, "weights"), "weights")
    assert ended == 2 and "100000 bytes" in found["error"] and "valid" not in found


LATE = GOOD.replace(
    "    with torch", "    import time\n    if torch.initial_seed() not in {dry}:\n        {late}\n    with torch"
)


def seeds_of_dry_runs() -> list[int]:
    found = []
    for index in (0, 1):
        seed_everything(0, index)
        found.append(torch.initial_seed())
    return found


def test_a_late_run_makes_an_entry_invalid_and_so_does_a_clock_that_was_turned_back(course, tmp_path, monkeypatch):
    monkeypatch.setattr("local_eval.host.judging.GRACE", {"cpu": 1.0})
    there = opened(course)
    competition, how = replace(there, rules=replace(there.rules, seconds=1.5)), How("cpu", 1, None)
    turned = "import sys; sys.modules['local_eval.isolation.child']._now = lambda: 0.0"
    for name, line, verdict, named in (
        ("slow", "time.sleep(2.0)", "late", "twice"),
        ("turned", f"{turned}; time.sleep(30)", "late", "twice"),
        ("odd", turned, "a run failed", "its clock was changed"),
    ):
        path = write(tmp_path, LATE.format(dry=seeds_of_dry_runs(), late=line), name)
        with quickly():
            made = judging.made_on(competition, PUBLIC, judging.taken(competition, Path(path), name), how)
        assert made.verdict == verdict and named in made.reasons[0] and made.result is None, (name, made)
        assert judging.budget_of(competition, made)["within"] is (False if verdict == "late" else None), name
        assert judging.told_of(competition, made)["public"] is None


KINDS = """
    import gc
    kinds = {"Record", "Evaluation", "Competition", "Rules", "Grader"}
    print("objects:", kinds & {type(one).__name__ for one in gc.get_objects()})
"""


@needs_sandbox
@pytest.mark.spawned
def test_neither_the_key_nor_an_oracle_lies_in_the_memory_of_a_run(course, tmp_path):
    competition = opened(course)
    grader = competition.grader(PUBLIC, How("cpu", 1, "full"))
    logits = grader.cached_oracles()[3].evaluation.forget_logits
    known = {
        "the key": competition.key,
        "the key as it is written": competition.key.hex().encode(),
        "logits of an oracle": logits.tobytes()[:96],
        "a seed of another part": str(competition.secret("private forget set")).encode() + b"'",
        "its own forget set": grader.task.forget.images[2].numpy().tobytes()[300:396],
    }
    halves = {name: [(text[: len(text) // 2], text[len(text) // 2 :])] for name, text in known.items()}
    path = write(tmp_path, MEMORY.format(halves=halves).replace("    raise", KINDS + "    raise"), "memory")
    shape = len(grader.task.forget), grader.task.num_classes
    plan = replace(grader.run_plan(path), sandbox=grader.sandbox_of_runs())
    _, failures = finish_runs(plan, tmp_path / "runs", 1, shape, 1, timeout=120.0)
    counts = {name: int(count) for name, count in re.findall(r"'([^']+)': (\d+)", failures[0].reason)}
    assert counts.pop("its own forget set") == 1, "else it would have looked for nothing"
    assert counts == dict.fromkeys(known.keys() - {"its own forget set"}, 0)
    assert "objects: set()" in failures[0].printed, failures[0]
