"""The disk that `grade` says it will take is what it takes, and only what is missing counts."""

from local_eval.grader import Grader
from local_eval.runs.plan import checkpoint_size, record_size
from local_eval.store.records import record_path
from tests.conftest import TINY


def test_the_sizes_are_those_on_disk(original_out, submission, tiny, without_a_pool):
    grader = Grader(TINY, original_out, runs=4)
    path = submission(name="roomy")
    assert " and 4 runs, 4 checkpoints and a zip of 4 need about" in grader.disk_needed(path, keep=True)
    grader.make_runs(path, keep=True)
    runs = grader.folder / grader.run_plan(path).folder_name
    record = record_path(runs, 0).stat().st_size
    checkpoint = (runs / "checkpoints" / "unlearned_checkpoint_0.pth").stat().st_size
    assert 0.7 * record < record_size(tiny) < 1.5 * record
    assert checkpoint <= checkpoint_size(tiny) < 1.5 * checkpoint + 10**5
    record_path(runs, 3).unlink()
    (runs / "checkpoints" / "unlearned_checkpoint_2.pth").unlink()
    assert " and 1 run, 1 checkpoint and a zip of 4 need about" in grader.disk_needed(path, keep=True)
    assert "checkpoint" not in grader.disk_needed(path)
