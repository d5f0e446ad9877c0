"""The driver keeps a cluster busy and no busier, shares GPUs as a trial shows, and loses no job. No Ray is needed."""

from collections import Counter
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from local_eval.__main__ import main
from local_eval.cluster import ray_engine as connection
from local_eval.cluster import ray_engine as driver
from local_eval.cluster.node import packed
from local_eval.cluster.ray_engine import AHEAD, ClusterError, RayEngine
from local_eval.isolation.child import Failure
from studies.cluster import Nothing, SimulatedRay, simulated_cost
from tests.conftest import TINY

FULL = Failure("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")


class FakeRay(SimulatedRay):
    """Nodes that answer at once with what `answer(share, index)` gives: bytes, or an error of Ray's."""

    def __init__(self, nodes, answer):
        super().__init__(nodes, 0.0, b"")
        self.answer, self.cancelled = answer, []

    def get(self, ref):
        super().get(ref)
        found = self.answer(*self.asked[ref])
        if isinstance(found, Exception):
            raise found
        return found

    def cancel(self, ref, force):
        self.cancelled.append(ref)


@dataclass
class FakeCluster:
    """connection.Cluster with a fake Ray; notes which share of a GPU every task was started with."""

    ray: FakeRay
    cards: int = 0
    size = "fake"

    def __post_init__(self):
        self.ray.asked, self.shares = {}, Counter()

    def task(self, work, function, argument, gpus=0.0, max_calls=0):
        def start(index, timeout):
            self.shares[work, gpus] += 1
            ref = self.ray.start()
            self.ray.asked[ref] = (work, gpus, index, argument)
            return ref

        return start

    def slots(self, share):
        return int(self.cards / share) if share else 4


def engine(answer, cards=0):
    made = RayEngine.__new__(RayEngine)
    made.cluster = FakeCluster(FakeRay(4, answer), cards)
    return made


def number(work, gpus, index, argument):
    return packed(Failure(str(index)))


def reasons(jobs):
    return {index: result.reason for index, result in jobs}


@pytest.mark.parametrize("workers, most", [(None, AHEAD * 4), (3, 3)])
def test_every_job_is_made_and_only_so_many_are_in_flight_as_keep_the_cluster_busy(workers, most):
    made = engine(number)
    assert reasons(made.run_jobs(None, Nothing(), list(range(50)), workers, None, "jobs")) == {
        k: str(k) for k in range(50)
    }
    assert made.cluster.ray.most == most


def test_leaving_early_cancels_what_is_in_flight():
    made = engine(number)
    jobs = made.run_jobs(None, Nothing(), list(range(50)), 5, None, "jobs")
    next(jobs)
    jobs.close()
    assert len(made.cluster.ray.cancelled) == 4


def test_a_job_that_is_lost_or_answers_nonsense_fails_and_the_others_go_on():
    lost = SimulatedRay.exceptions.RayError("the node died\nits node was terminated")
    made = engine(lambda w, g, index, a: {1: lost, 2: b"nonsense"}.get(index) or packed(Failure("made")))
    found = reasons(made.run_jobs(None, Nothing(), [0, 1, 2, 3], None, None, "jobs"))
    assert found[0] == found[3] == "made"
    assert found[1] == "lost on the cluster (RayError): its node was terminated"
    assert "a node sent something unreadable" in found[2]


@dataclass(frozen=True)
class Unknown(Nothing):
    """Jobs of which nobody knows what they read."""

    known: bool = False

    def is_known(self):
        return self.known

    def having_made(self, result):
        return replace(self, known=True, parcels=[{"read by": result.reason.encode()}])


def test_the_first_job_is_made_here_where_it_is_not_known_what_the_jobs_read(monkeypatch):
    here = lambda device, function, argument, indices, *_: ((k, Failure(f"{k} here")) for k in indices)  # noqa: E731
    monkeypatch.setattr(driver, "run_on_device", here)
    made = engine(lambda w, g, index, argument: packed(Failure(argument.luggage()[0]["read by"].decode())))
    found = reasons(made.run_on_device("cpu", None, Unknown(), [7, 8, 9], None, 60.0, "jobs"))
    assert found == {7: "7 here", 8: "7 here", 9: "7 here"}
    assert made.cluster.shares == {("make_job", 0.0): 2}


def on_cards(answer, count=40, workers=None):
    made = engine(answer, cards=2)
    return made, reasons(made.run_on_device("cuda", None, Nothing("cuda"), list(range(count)), workers, 60.0, "jobs"))


def test_a_trial_on_one_gpu_says_which_share_of_one_the_other_jobs_get():
    def answer(work, gpus, index, argument):
        if work == "make_trial":
            return 3, [(k, packed(Failure(f"{k} in the trial"))) for k in index[:9]]
        return number(work, gpus, index, argument)

    made, found = on_cards(answer)
    assert found == {k: f"{k} in the trial" if k < 9 else str(k) for k in range(40)}
    assert made.cluster.shares == {("make_trial", 1.0): 1, ("make_job", 0.3333): 31}


def test_jobs_for_which_a_gpu_was_too_full_are_made_by_fewer_at_once():
    made, found = on_cards(lambda w, g, k, a: packed(FULL if g < 0.5 and k % 2 else Failure(str(k))), workers=4)
    assert found == {k: str(k) for k in range(40)}
    assert made.cluster.shares == {("make_job", 0.25): 40, ("make_job", 0.5): 20}


def test_a_job_that_alone_needs_more_than_a_gpu_has_fails():
    _, found = on_cards(lambda *_: packed(FULL), count=4, workers=2)
    assert set(found.values()) == {FULL.reason}


def test_an_oracle_has_a_gpu_to_itself():
    made = engine(number, cards=2)
    assert len(reasons(made.run_jobs(None, Nothing("cuda:1"), [0, 1, 2], None, None, "oracles"))) == 3
    assert made.cluster.shares == {("make_job", 1.0): 3}


def test_a_failed_trial_is_told():
    made = engine(lambda *_: SimulatedRay.exceptions.RayError("no CUDA here"), cards=1)
    with pytest.raises(ClusterError, match="the trial on a node's GPU failed: no CUDA here"):
        list(made.run_on_device("cuda", None, Nothing("cuda"), [0, 1], None, 60.0, "jobs"))


def test_the_drivers_cost_for_a_job_does_not_grow_with_their_number(monkeypatch):
    monkeypatch.setattr("studies.cluster.JOB_SECONDS", 0.0)
    content = packed(Failure("x"))
    few, many = (min(simulated_cost(jobs, content)["cpu_ms_per_job"] for _ in range(3)) for jobs in (300, 3000))
    assert many < 2 * few + 0.05


def ray_here(monkeypatch, cpus=8, gpus=0, **more):
    """A Cluster on a fake module of Ray, with these resources."""
    monkeypatch.setattr(connection, "PACKAGES", ())
    made, options, sent = connection.Cluster(), {}, []

    def remote(**given):
        options.update(given)
        return lambda function: SimpleNamespace(remote=lambda *arguments: sent.append(arguments))

    by_value = SimpleNamespace(register_pickle_by_value=lambda module: None)
    room = {"CPU": float(cpus)} | ({"GPU": float(gpus)} if gpus else {})
    ray = SimpleNamespace(remote=remote, put=lambda _: object(), cloudpickle=by_value, cluster_resources=lambda: room)
    made.__dict__["ray"] = ray
    return made, options, sent


class Big(Nothing):
    """Jobs that need a large file, always the same."""

    def luggage(self):
        return [{"data": bytes(10**7)}]


def test_retries_are_for_lost_nodes_only_and_what_is_sent_with_a_job_is_small(monkeypatch):
    made, options, sent = ray_here(monkeypatch)
    big = Big()
    start = made.task("make_job", print, big, gpus=0.25)
    for index in range(3):
        start(index, 60.0)
    assert options == {"max_retries": 3, "retry_exceptions": False, "num_cpus": 1, "num_gpus": 0.25, "max_calls": 0}
    assert all(sum(len(part) for part in job if isinstance(part, bytes)) < 10_000 for job in sent)
    assert sent[0][0][1][2] is sent[2][0][1][2], "the data is put into the store once"
    assert made.task("make_job", print, big, 0.25)(3, None) is None
    assert sent[3][0][1][2] is sent[0][0][1][2], "also for other jobs with the same data"


def test_slots_are_cores_or_shares_of_gpus_and_a_cluster_without_gpus_is_told(monkeypatch):
    assert ray_here(monkeypatch, cpus=8)[0].slots(0.0) == 8
    assert ray_here(monkeypatch, cpus=8, gpus=2)[0].slots(0.25) == 8
    assert ray_here(monkeypatch, cpus=4, gpus=2)[0].slots(0.25) == 4
    assert ray_here(monkeypatch, cpus=64, gpus=2)[0].slots(1.0) == 2
    with pytest.raises(ClusterError, match="no GPU.*--device cpu"):
        ray_here(monkeypatch, cpus=8)[0].slots(1.0)


def test_without_ray_one_sentence_says_how_to_get_it(monkeypatch, capsys, submission, tmp_path):
    monkeypatch.setattr(connection, "PACKAGES", ("ray", "no_such_package"))
    given = ["run", submission(), "--task", TINY, "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main([*given, "--engine", "ray"]) == 2
    said = capsys.readouterr().err
    assert "no_such_package, which is not installed: " in said
    assert "-m pip install -r requirements-cluster.txt" in said
    assert main([*given, "--address", "auto"]) == 2
    assert "goes with --engine ray" in capsys.readouterr().err
