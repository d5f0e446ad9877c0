"""On a real Ray cluster: a grading equals the local one bit for bit, and survives a lost node and a killed driver.

These need Ray and start it, so they are apart from the others: make test-ray
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from local_eval.cluster.bootstrap import private_folder
from local_eval.cluster.ray_engine import RayEngine
from local_eval.grader import Grader
from local_eval.isolation.child import Failure
from local_eval.runs.one_run import seed_everything
from tests.conftest import GOOD, TINY

ROOT = Path(__file__).parents[2]
RUNS = 16
MISSING = [name for name in ("ray", "cloudpickle") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(bool(MISSING), reason=f"{' and '.join(MISSING)} not installed: make test-ray"),
]
FAST_DEATHS = {
    "worker_niceness": 0,
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 5,
}
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
READS = """
import time
from pathlib import Path
time.sleep(0.2)
with torch.no_grad():
    for weight in net.parameters():
        weight *= float((Path(__file__).parent / "scale.txt").read_text()) * float(open(HERE).read())
"""


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with a core each; the driver sits on the first."""
    from ray.cluster_utils import Cluster

    environment = pytest.MonkeyPatch()
    environment.setenv("PYTHONPATH", str(ROOT))  # for the jobs below; the kit's own code is sent
    made = Cluster(
        initialize_head=True, head_node_args={**NODE, "include_dashboard": False, "_system_config": FAST_DEATHS}
    )
    made.add_node(**NODE)
    made.wait_for_nodes()
    yield made
    import ray

    ray.shutdown()
    made.shutdown()
    environment.undo()


@pytest.fixture
def reader(body, tmp_path, monkeypatch):
    """A submission that reads a file beside itself and one in the folder where the command is given."""
    (tmp_path / "scale.txt").write_text("0.5")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "here.txt").write_text("1.5")
    monkeypatch.chdir(tmp_path / "here")
    return body(READS.replace("HERE", repr(str(tmp_path / "here" / "here.txt"))))


def graders(out, original_out, cluster):
    """Two graders of the tiny task, here and on the cluster, which share nothing but the original model."""
    found = []
    for name, engine in (("local", None), ("ray", RayEngine(cluster and cluster.address))):
        grader = Grader(TINY, out / name, runs=RUNS, workers=1 if engine is None else None, engine=engine)
        original = Grader(TINY, original_out).folder / "original.npz"
        grader.folder.mkdir(parents=True)
        (grader.folder / "original.npz").write_bytes(original.read_bytes())
        found.append(grader)
    return found


def check_same(one, other):
    assert one.keys() == other.keys()
    for index in one:
        a, b = one[index], other[index]
        assert np.array_equal(a.evaluation.forget_logits, b.evaluation.forget_logits), index
        assert a.evaluation.retain_accuracy == b.evaluation.retain_accuracy
        assert a.evaluation.test_accuracy == b.evaluation.test_accuracy
        assert np.array_equal(a.evaluation.controls.right, b.evaluation.controls.right)
        assert a.identity == b.identity
        assert a.facts.get("read") == b.facts.get("read"), "what was read is told as on this machine"


def test_a_grading_equals_the_local_one_also_when_a_node_is_killed_in_the_middle(
    cluster, tmp_path, original_out, reader
):
    local, ray = graders(tmp_path / "out", original_out, cluster)
    here, there = local.finish_oracles(), ray.finish_oracles()
    check_same(dict(enumerate(here)), dict(enumerate(there)))
    done, failures = local.finish_runs(reader)
    assert not failures
    nodes, killed = list(cluster.worker_nodes), []
    folder = ray.folder / ray.run_plan(reader).folder_name
    engine = ray.engine

    class Killing:
        run_jobs = engine.run_jobs

        def run_on_device(self, *arguments):
            for index, result in engine.run_on_device(*arguments):
                yield index, result
                if len(list(folder.glob("*.npz"))) == 5 and not killed:
                    killed.append(nodes[0])
                    cluster.remove_node(nodes[0], allow_graceful=False)

    ray = replace(ray, engine=Killing())
    survived, lost = ray.finish_runs(reader)
    assert killed and not lost
    check_same(done, survived)
    assert local.score(reader)[0].score == ray.score(reader)[0].score
    cluster.add_node(**NODE)


def look_around(plan, _):
    """What the process that works finds, as a text; any other kind of result would not travel."""
    import torch

    import local_eval

    facts = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OF_THE_DRIVER")}
    facts |= {"kit": local_eval.__file__, "threads": torch.get_num_threads(), "folder": os.getcwd()}
    return Failure(json.dumps(facts | {"knows Ray": "ray" in sys.modules}))


def test_a_job_finds_the_sent_kit_and_what_a_local_worker_sets(
    cluster, tmp_path, original_out, submission, monkeypatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    grader = graders(tmp_path / "out", original_out, cluster)[1]
    plan = replace(grader.run_plan(submission()), reads={"environment": {"OF_THE_DRIVER": ""}})
    monkeypatch.setenv("OF_THE_DRIVER", "yes")
    with closing(grader.engine.run_on_device("cpu", look_around, plan, [0], None, 60, "look")) as jobs:
        ((_, found),) = jobs
    found = json.loads(found.reason)
    assert found["kit"].startswith(str(private_folder()))
    assert found["folder"] == os.getcwd(), "the driver's, below a folder that is not told of"
    assert found["OMP_NUM_THREADS"] is None, "Ray sets it, and it changes the order of sums"
    assert found["OF_THE_DRIVER"] == "yes"
    assert found["threads"] == 1
    assert not found["knows Ray"], "a submission finds what it finds here"


MISBEHAVES = {2: "os.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(600)", 4: "time.sleep(600)", 6: "os._exit(3)"}


def test_runs_that_misbehave_fail_as_they_do_here_and_the_others_are_made(cluster, tmp_path, original_out, body):
    import torch

    lines = "import os, signal, time\n"
    for index, does in MISBEHAVES.items():
        seed_everything(0, index)
        lines += f"if torch.initial_seed() == {torch.initial_seed()}:\n"
        lines += "".join(f"    {line}\n" for line in does.splitlines())
    grader = replace(graders(tmp_path / "out", original_out, cluster)[1], timeout=5.0)
    done, failures = grader.finish_runs(body(lines))
    assert sorted(failures) == sorted(MISBEHAVES)
    assert len(done) == RUNS - len(MISBEHAVES)
    assert "the worker process in charge of it died (signal SIGKILL" in failures[2].reason
    assert "still running after its limit of 5 s" in failures[4].reason
    assert "exit code 3" in failures[6].reason


def test_checkpoints_come_back(cluster, tmp_path, original_out, submission):
    local, ray = graders(tmp_path / "out", original_out, cluster)
    kept = []
    for grader in (local, ray):
        _, failures = grader.finish_runs(submission(), keep=True)
        assert not failures
        folder = grader.folder / grader.run_plan(submission()).folder_name / "checkpoints"
        kept.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert kept[0] == kept[1]
    assert len(kept[0]) == RUNS


def test_a_node_that_cannot_be_used_is_told_by_every_job(cluster, tmp_path, original_out, submission):
    grader = graders(tmp_path / "out", original_out, cluster)[1]
    plan = replace(grader.run_plan(submission()), reads={})
    ((_, failure),) = grader.engine.run_on_device("cpu", fails, plan, [3], None, 60, "fails")
    assert isinstance(failure, Failure)
    assert "ValueError: told to" in failure.reason


def fails(*_):
    raise ValueError("told to")


def test_a_driver_that_was_killed_goes_on_and_nothing_of_it_is_left(tmp_path, original_out, body):
    import ray

    ray.shutdown()  # the command has a Ray of its own
    local = graders(tmp_path / "out", original_out, None)[0]
    path = body("import time\ntime.sleep(0.3)")
    undisturbed, _ = local.finish_runs(path)
    out = tmp_path / "out" / "ray"
    given = ["run", path, "--task", TINY, "--runs", str(RUNS), "--out", str(out), "--device", "cpu"]
    command = [sys.executable, "-m", "local_eval", *given, "--engine", "ray"]
    folder = out / local.folder.name / local.run_plan(path).folder_name
    mark = f"TEST_OF_RAY_{os.getpid()}"
    for stop_after in (4, None):
        driver = subprocess.Popen(command, cwd=ROOT, env=os.environ | {mark: "1"}, start_new_session=True)
        while stop_after and len(list(folder.glob("*.npz"))) < stop_after:
            assert driver.poll() is None
            time.sleep(0.02)
        if stop_after:
            driver.send_signal(signal.SIGKILL)
            before = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.npz")}
        assert driver.wait(240) == (-signal.SIGKILL if stop_after else 0)
        end = time.monotonic() + 90  # what Ray has started and not used yet looks rarely
        while marked(mark) and time.monotonic() < end:
            time.sleep(0.1)
        assert marked(mark) == []
    assert all((folder / name).stat().st_mtime_ns == made for name, made in before.items()), "none is made twice"
    check_same(undisturbed, replace(local, out=out).finish_runs(path)[0])


def marked(mark: str) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if mark in process.environ() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            pass
    return found


def test_an_address_at_which_nothing_answers_is_told(submission):
    import ray

    ray.shutdown()
    given = ["--task", TINY, "--device", "cpu", "--engine", "ray", "--address", "127.0.0.1:1"]
    command = [
        sys.executable,
        "-m",
        "local_eval",
        "run",
        submission(GOOD),
        *given,
        "--out",
        str(Path(submission()).parent),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1
    assert "error: no Ray cluster answers at '127.0.0.1:1'" in done.stderr
