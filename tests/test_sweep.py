"""A sweep's points are ordinary gradings, hopeless ones stop early, the best is judged by what had no part in that."""

import json
import shlex
import shutil
from dataclasses import replace

import numpy as np
import pytest

import local_eval
from local_eval.__main__ import main
from local_eval.cli.parser import make_parser
from local_eval.cli.request import resolved
from local_eval.grader import Grader
from local_eval.isolation.child import Failure
from local_eval.methods.submission import Submission
from local_eval.metric.metric import forgetting_points
from local_eval.metric.score import compute_score
from local_eval.metric.uncertainty.best_of import halves
from local_eval.store.records import Evaluation, Record, record_path, save_record
from tests import tiny_task
from tests.conftest import GOOD, TINY

RUNS = 20
SOURCE = "NOISE = 0.1\nSTEPS = 3\n" + GOOD
WORDS = ["NOISE=0.1,0.5,4.0"]


@pytest.fixture(scope="module")
def with_oracles(tmp_path_factory, original_out):
    """Outputs of the tiny task with made-up oracles."""
    out = tmp_path_factory.mktemp("sweep")
    grader, rng = Grader(TINY, out, RUNS), np.random.default_rng(0)
    grader.folder.mkdir()
    for file in (original_out / grader.folder.name).glob("original*"):
        shutil.copy(file, grader.folder)
    for k in range(2 * RUNS):
        record = Record(evaluation(rng, 0.0), grader.oracle_identity(k), {"seconds": 1.0, "device": "cpu"})
        save_record(record_path(grader.workspace.oracles, k), record)
    return out


def evaluation(rng, shift, accuracy=0.8):
    """A made-up model: its confidences are shifted by so many spreads."""
    logits = np.zeros((16, 3), dtype=np.float32)
    logits[np.arange(16), tiny_task.task().forget.labels.numpy()] = rng.normal(shift, 1.0, 16)
    return Evaluation(logits, accuracy, accuracy)


@pytest.fixture
def made(monkeypatch, without_a_pool, score_alone):
    """Runs are made up: shifted by NOISE, whatever STEPS is; lists (seed, settings, index) of those that were made."""
    asked = []

    def one_run(plan, index):
        settings = dict(plan.submission.settings)
        noise = float(settings.get("NOISE", 0.1))
        asked.append((plan.seed, settings.get("NOISE"), index))
        if noise < 0:
            return Failure("ValueError: noise below 0")
        rng = np.random.default_rng([plan.seed, index, int(noise * 1000)])
        return Record(evaluation(rng, noise), plan.identity(index), {"seconds": 1.0, "device": "cpu", "torch": "2"})

    def interval_fields(points, ours, pool, persons, utility, ceiling):
        score = float(points.mean()) * utility
        half = {"drawn_again": None, "ceiling_runs": min(len(pool) // 2, len(ours)), "ceiling_interval": (0.0, 1.0)}
        return {"interval": (score / 2, 2 * score), **half}

    monkeypatch.setattr("local_eval.metric.score.interval_fields", interval_fields)  # a second each
    monkeypatch.setattr("local_eval.metric.score.pool_ceiling", lambda *_, **__: 0.18)
    monkeypatch.setattr("local_eval.sweep.as_png", lambda swept: b"a figure")
    monkeypatch.setattr("local_eval.runs.one_run.one_run", one_run)
    monkeypatch.setattr("local_eval.cli.sweeping.check_submission", lambda *_: [])
    return asked


@pytest.fixture
def place(with_oracles, tmp_path):
    """A copy of the outputs, and the submission."""
    out = shutil.copytree(with_oracles, tmp_path / "out")
    (tmp_path / "mine.py").write_text(SOURCE)
    return out


def sweep(out, *words, runs=RUNS):
    mine = str(out.parent / "mine.py")
    return main(["sweep", mine, *words, "--task", TINY, "--runs", str(runs), "--out", str(out), "--device", "cpu"])


def found(out):
    (file,) = out.glob("tiny-*/sweeps/mine-*/sweep.json")
    return json.loads(file.read_text())


def test_points_are_ordinary_gradings_and_hopeless_ones_stop_early(made, place, capsys):
    assert sweep(place, *WORDS) == 0
    said, content = capsys.readouterr().out, found(place)
    assert {settings: sum(run[:2] == (0, settings) for run in made) for settings in ("0.1", "0.5", "4.0")} == {
        "0.1": RUNS, "0.5": RUNS, "4.0": 16,
    }  # fmt: skip
    assert [one["name"] for one in content["given_up"]] == ["mine[NOISE=4.0]"]
    assert "given up after 16 runs: NOISE=4.0, score 0.0" in said
    rows = local_eval.graded(place)
    assert [row["submission"] for row in rows] == [point["point"] for point in content["points"]]
    assert [row["score"] for row in rows] == [point["score"] for point in content["points"]], "sorted by score"
    best = Submission.find(f"{place.parent / 'mine.py'}[{content['points'][0]['point'].partition('[')[2]}")
    assert Grader(TINY, place, RUNS).score(best)[0].score == rows[0]["score"]


def test_the_best_is_graded_again_with_runs_and_oracles_that_had_no_part(made, place, capsys):
    """Its slow twin: by hand, from the records."""
    assert sweep(place, *WORDS) == 0
    said, content = capsys.readouterr().out, found(place)
    again, best = content["graded_again"], content["points"][0]
    assert (again["seed"], again["oracles"], again["point"]) == (1000, [RUNS, 2 * RUNS - 1], best["point"])
    grader = Grader(TINY, place, RUNS, seed=1000)
    first = halves(grader.labels_and_persons[1])

    def by_hand(point):
        name = f"{place.parent / 'mine.py'}[{point.partition('[')[2]}"
        done = grader.finished_runs(name)
        pool = [grader.workspace.load(record_path(grader.workspace.oracles, k), grader.oracle_identity(k), (16, 3))
                for k in range(RUNS, 2 * RUNS)]  # fmt: skip
        return compute_score(done, pool, *grader.labels_and_persons)

    score = by_hand(best["point"])
    assert again["score"] == score.score != best["score"]
    by_first, by_second = map(by_hand, again["chosen_by_halves"])
    parts = [
        (forgetting_points(one.epsilons, RUNS) * one.utility)[half].sum()
        for one, half in ((by_first, ~first), (by_second, first))
    ]
    assert again["judged_by_other_persons"] == pytest.approx(sum(parts) / 16)
    for number in (best["score"], again["score"], again["judged_by_other_persons"]):
        assert f"{number:.4f}" in said
    assert "which flatters it" in said and "Report the last number, not the first." in said


def test_a_second_sweep_goes_on_from_the_first_and_knows_of_its_winner(made, place, capsys):
    assert sweep(place, *WORDS) == 0
    first, count = found(place), len(made)
    assert sweep(place, *WORDS) == 0
    assert len(made) == count and found(place) == first, "all is there, and the same"
    capsys.readouterr()
    assert sweep(place, "NOISE=0.1,0.5,0.0,0.05", "--seed", "0") == 0
    new = {run[1] for run in made[count:] if run[0] == 0}
    assert new == {"0.0", "0.05"}
    files = [json.loads(file.read_text()) for file in place.glob("tiny-*/sweeps/*/sweep.json")]
    winners = {one["graded_again"]["point"] for one in files}
    said = capsys.readouterr().out
    assert len(files) == 2 and ("another winner was graded again" in said) == (len(winners) == 2)


def test_a_point_that_fails_leaves_the_others_theirs(made, place, capsys):
    assert sweep(place, "NOISE=0.1,-1.0,0.5") == 1
    said, content = capsys.readouterr(), found(place)
    assert content["not_graded"] == {"mine[NOISE=-1.0]": "16 of 16 runs failed; run 0: ValueError: noise below 0"}
    assert len(content["points"]) == 2 and content["graded_again"]
    assert "not graded: NOISE=-1.0: 16 of 16" in said.out and "mine[NOISE=-1.0] is not in the table" in said.err
    assert sweep(place, "NOISE=-1.0,-2.0", "--no-final") == 1
    assert "not graded" in capsys.readouterr().out, "and if all fail, that is all there is to say"


def test_a_winner_that_fails_when_graded_again_is_told_and_not_reported(made, place, capsys, monkeypatch):
    from local_eval.runs import one_run

    really = one_run.one_run
    monkeypatch.setattr(one_run, "one_run", lambda plan, k: Failure("OSError: gone") if plan.seed else really(plan, k))
    assert sweep(place, *WORDS) == 1
    said = capsys.readouterr().out
    assert "do not report it" in said and "with seed 1000: 20 of 20 runs failed; run 0: OSError: gone" in said


def test_what_has_no_effect_is_said(made, place, capsys):
    assert sweep(place, "STEPS=1,2", "NOISE=0.1,0.3", "--no-final") == 0
    said = capsys.readouterr().out
    assert "the same runs to the bit: STEPS=1, NOISE=0.1; STEPS=2, NOISE=0.1. What differs" in said
    assert "do not report it" in said and "without --no-final there is one" in said
    assert not [run for run in made if run[0]], "nothing was graded again"


def test_all_to_the_end_gives_nothing_up_and_few_runs_have_no_look(made, place):
    assert sweep(place, *WORDS, "--all-to-the-end", "--no-final") == 0
    assert len(found(place)["points"]) == 3
    shutil.rmtree(next(place.glob("tiny-*/sweeps")))
    assert sweep(place, *WORDS, "--no-final", runs=16) == 0
    assert len(found(place)["points"]) == 3


def test_words_may_stand_between_options(made, place):
    mine = str(place.parent / "mine.py")
    more = ["--out", str(place), "--device", "cpu", "--no-final"]
    assert main(["sweep", mine, "--task", TINY, "NOISE=0.1,0.2", "--runs", str(RUNS), "STEPS=1", *more]) == 0
    assert [point["NOISE"] for point in found(place)["points"]] in (["0.1", "0.2"], ["0.2", "0.1"])
    with pytest.raises(SystemExit):
        main(["sweep", mine, "NOISE=0.1,0.2", "--runz", "3", *more])


def test_bad_input_is_refused_before_anything_is_made(place, made, tmp_path, capsys):
    (tmp_path / "models.zip").write_bytes(b"")
    mine = str(place.parent / "mine.py")
    for words, said in (
        ([mine], "name what to try"),
        ([mine, "NOIZE=1,2"], "did you mean NOISE?"),
        ([mine, "NOISE=1,2", "--set", "NOISE=3"], "NOISE is set to 3 and swept, too"),
        ([mine, "NOISE=1,2", "--runs", "8"], "--runs 8 is too few"),
        ([mine, "NOISE=1,2", "--final-seed", "0"], "--final-seed 0 is the seed that the points are chosen with"),
        ([str(tmp_path / "models.zip"), "NOISE=1,2"], "finished models, which have no constants"),
        (["nobody", "NOISE=1,2"], "no submission 'nobody'"),
        ([mine, "NOISE=1,2", "--task", "nothing"], "no task 'nothing'"),
    ):
        assert (
            main(
                [
                    "sweep",
                    *words,
                    "--out",
                    str(place),
                    "--device",
                    "cpu",
                    *["--task", TINY][: 2 * ("--task" not in words)],
                ]
            )
            == 2
        )
        assert said in capsys.readouterr().err
    assert not made and not list(place.glob("tiny-*/sweeps"))


def test_the_command_that_is_printed_grades_the_best_point(made, place, capsys):
    assert sweep(place, "NOISE=0.1,0.5", "--set", "STEPS=2", "--no-final") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "official number of models" in line]
    words = shlex.split(line.partition("python -m local_eval ")[2])
    request = resolved(make_parser().parse_args(words))
    (named,) = request.graded
    assert request.found[named].label == found(place)["points"][0]["point"]
    assert (request.runs, request.out, request.task) == (512, place, TINY)


def test_too_many_points_ask_for_a_number_with_a_forecast(made, place, capsys):
    grid = ["NOISE=" + ",".join(f"{k / 100}" for k in range(50))]
    assert sweep(place, *grid) == 2
    assert "50 points; say how many" in capsys.readouterr().err, "nothing is known of how long a run takes"
    assert sweep(place, *WORDS, "--no-final") == 0
    capsys.readouterr()
    assert sweep(place, *grid) == 2
    assert "are 50 points, about " in capsys.readouterr().err


def test_points_stand_in_compare_and_on_the_leaderboard(made, place, capsys):
    assert sweep(place, "NOISE=0.1,0.5", "--no-final") == 0
    count = len(made)
    assert main(["leaderboard", "--task", TINY, "--runs", str(RUNS), "--out", str(place), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "mine[NOISE=0.1]" in said and "mine[NOISE=0.5]" in said and len(made) == count


def test_runs_of_several_are_those_of_each(with_oracles, submission, tmp_path, without_a_pool):
    """To the bit, and really made."""
    names = [f"{submission(SOURCE)}[NOISE={noise}]" for noise in (0.1, 0.2)]
    outs = [shutil.copytree(with_oracles, tmp_path / place) for place in ("one", "all")]
    each, every = (Grader(TINY, out, runs=16) for out in outs)
    for grader in (each, every):  # of 16 all but three are there
        for name in names:
            plan = grader.run_plan(name)
            for k in range(3, 16):
                record = Record(evaluation(np.random.default_rng(k), 0.1), plan.identity(k), {"seconds": 1.0})
                save_record(record_path(grader.workspace.of(plan.folder_name), k), record)
    alone, together = [each.finish_runs(name) for name in names], every.finish_runs_of_all(names)
    for (one, no), (other, nothing) in zip(alone, together):
        assert no == nothing == {} and sorted(one) == sorted(other) == list(range(16))
        for k in range(16):
            assert np.array_equal(one[k].evaluation.forget_logits, other[k].evaluation.forget_logits)
            assert one[k].identity == other[k].identity
    again = replace(every, opened=None).finish_runs_of_all(names)
    assert [sorted(done) for done, _ in again] == [list(range(16))] * 2
