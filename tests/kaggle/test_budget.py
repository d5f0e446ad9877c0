"""The budget ranks by work, projects with its uncertainty stated, and its exit code says fits, not, or cannot tell."""

import copy

import pytest
import torch

from local_eval.__main__ import main
from local_eval.cli import kaggle as kaggle_commands
from local_eval.kaggle import budget
from local_eval.kaggle.budget import Cost, Work, counted_passes, project, resized
from local_eval.methods.submission import Submission, submission_path
from tests.conftest import TINY, in_this_process
from tests.tiny_task import tiny_net

COST = Cost(times=(3.9, 4.0, 4.2), steps=4.0, images=4.0, stock_seconds=0.5, saving_seconds=1.0)


def test_the_projection_spans_times_steps_images_and_what_is_known_of_kaggle():
    found = project(COST)
    assert found.low == pytest.approx(3.9 * 9.4 + 1)
    assert found.middle == pytest.approx(4.0 * 10.0 + 1)
    assert found.high == pytest.approx(4.2 * 10.5 + 1)
    wide = Cost((4.0,), steps=2.0, images=9.0, stock_seconds=1.0, saving_seconds=0.0)
    assert (wide.low, wide.middle, wide.high) == (2.0, 4.0, 9.0)
    assert project(wide, 5.0).high == pytest.approx(9 * 5.25)


def test_exit_codes_tell_fits_from_does_not_fit_from_cannot_tell(monkeypatch, submission, capsys):
    path = submission()
    for epochs, verdict, code in (
        (4.0, "fits", 0), (5.6, "cannot tell", 4), (6.1, "does not fit", 3), (9.0, "does not fit", 3)
    ):  # fmt: skip
        cost = Cost((epochs,), epochs, epochs, 0.5, 0.5)
        monkeypatch.setattr(kaggle_commands, "measure", lambda *_, cost=cost: cost)
        assert main(["budget", path]) == code
        said = capsys.readouterr().out
        assert f"Verdict: {verdict}" in said
        assert "projection" in said


def test_a_calibrated_stock_epoch_replaces_the_default(monkeypatch, submission):
    monkeypatch.setattr(kaggle_commands, "measure", lambda *_: COST)
    assert main(["budget", submission()]) == 0
    assert main(["budget", submission(), "--stock-epoch-seconds", "20"]) == 3
    for option in ("--stock-epoch-seconds", "--repeats"):
        with pytest.raises(SystemExit, match="2"):
            main(["budget", submission(), option, "0"])
    assert main(["budget"]) == 2


def test_measuring_sets_the_warm_up_apart_and_pairs_each_run_with_a_stock_epoch(monkeypatch, submission):
    def jobs(function, plan, indices, workers, timeout, title, **_):
        assert workers == 1, "alone on the machine"
        return [(k, Work(seconds=100 if k < 2 else (k % 2 * 3 + 1) * k, steps=2, images=128)) for k in indices]

    monkeypatch.setattr("local_eval.isolation.share_gpu.run_jobs", jobs)
    found = budget.measure(submission(), TINY, "cpu", repeats=3)
    assert found.times == (4 * 3 / 2, 4 * 5 / 4, 4 * 7 / 6)
    assert found.stock_seconds == 4
    assert found.steps == 1
    assert found.saving_seconds > 0


def test_passes_of_copies_count_and_those_without_gradients_count_a_third():
    net, images = tiny_net(), torch.zeros(6, 3, 16, 16)
    with counted_passes(type(net)) as passed:
        net(images)
        with torch.no_grad():
            copy.deepcopy(net)(images)
    net(images)
    assert passed["steps"] == pytest.approx(4 / 3)
    assert passed["images"] == pytest.approx(6 * 4 / 3)


def test_sizes_stand_to_each_other_as_in_the_competition(tiny):
    found = resized(tiny, budget.SIZES)
    assert len(found.retain) / len(found.forget) == pytest.approx(23_500 / 480, rel=0.01)
    assert len(found.validation) == 750
    assert len(tiny.retain) == 96


def test_twice_the_epochs_cost_twice_and_a_failing_submission_is_told(submission, monkeypatch, capsys):
    monkeypatch.setattr(budget, "SIZES", {"retain": 128, "forget": 16, "validation": 16})
    monkeypatch.setattr("local_eval.isolation.share_gpu.run_jobs", in_this_process)
    source = (submission_path("baseline_finetune").read_text()).replace("EPOCHS = 1", "EPOCHS = 4")
    plan = budget.TimingPlan(Submission.find(submission(source)), TINY, "cpu", 900)
    stock, ours = (budget.one_timing(plan, index) for index in (2, 3))
    assert ours.steps / stock.steps == pytest.approx(4, rel=0.01)
    assert ours.images / stock.images == pytest.approx(4, rel=0.01)
    assert ours.seconds > stock.seconds > 0
    broken = submission("def unlearning(a, b, c, d):\n    raise ValueError('bad')\n")
    assert main(["budget", broken, "--task", TINY]) == 2
    assert "ValueError: bad" in capsys.readouterr().err


def test_the_table_ranks_by_cost_and_goes_between_its_markers(tmp_path, monkeypatch, capsys):
    costs = {"fanchuan": Cost((7.0,), 3.0, 9.0, 1.0, 1.0), "seif_achour": COST}
    monkeypatch.setattr(kaggle_commands, "submission_names", lambda: sorted(costs))
    monkeypatch.setattr(kaggle_commands, "measure", lambda name, *_: costs[name])
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- budget table -->\nold\n<!-- end budget table -->\nafter\n")
    assert main(["budget", "--all", "--readme", str(readme), "--device", "cpu"]) == 0
    text = readme.read_text()
    assert text.startswith("before\n<!-- budget table -->\n| submission")
    assert text.endswith("\n<!-- end budget table -->\nafter\n")
    assert text.index("seif_achour") < text.index("fanchuan")
    assert "about 6 h" in text
    assert "cannot tell" in text
    readme.write_text("no markers")
    assert main(["budget", "--all", "--readme", str(readme)]) == 1
    assert readme.read_text() == "no markers"
