"""On a card one process takes as many oracles at a time as are best there, and hands in what is finished."""

import os
from dataclasses import replace

import numpy as np
import pytest

from local_eval.grader import Grader
from local_eval.isolation.child import Failure
from local_eval.isolation.pool import run_jobs
from local_eval.oracles import oracles, train_many
from local_eval.oracles.oracles import FIRST_ORACLE_SEED, Desk, OraclePlan, finish_oracles, one_job
from local_eval.oracles.train import train
from local_eval.oracles.train_many import Layout, Trainer
from local_eval.store.errors import WorkError
from local_eval.store.records import record_path
from local_eval.tasks.evaluate import evaluate
from tests.conftest import TINY

SHAPE = (16, 3)


def trainer(task):
    found = Trainer(task, task.retain, Layout(2, 2))
    found.on_card = True
    return found


@pytest.fixture
def card(tiny, monkeypatch):
    """This machine's memory stands in for a card: a plan for it, and what each pool was asked for."""
    asked = []

    def on_card(device, function, argument, indices, workers, *more, one_each, reached):
        asked.append((one_each, argument.device, list(indices)))
        return run_jobs(function, argument, indices, 1, *more, reached=reached)

    monkeypatch.setattr(oracles, "run_on_device", on_card)
    monkeypatch.setattr(oracles, "versions", lambda device: {"device": device})
    kept = trainer(tiny)
    monkeypatch.setattr(oracles, "trainer_of", lambda *_: kept)
    return OraclePlan(TINY, tiny.fingerprint(), "cuda:1", 32), asked


def in_folder(path):
    return sorted(int(file.stem) for file in path.glob("[0-9]*.npz"))


def test_the_missing_ones_are_made_by_one_trainer_and_are_what_the_plain_way_trains(card, tiny, tmp_path):
    plan, asked = card
    first = finish_oracles(plan, tmp_path / "oracles", 7, SHAPE, workers=8)
    for index, record in enumerate(first):
        assert record.identity == plan.identity(index)
        alone = evaluate(train(tiny, tiny.retain, FIRST_ORACLE_SEED + index), tiny)
        assert np.allclose(record.evaluation.forget_logits, alone.forget_logits, atol=2e-2)
        assert record.facts["seconds"] > 0
    assert in_folder(tmp_path / "oracles") == list(range(7)), "no more than were asked for"
    for index in (1, 5):
        record_path(tmp_path / "oracles", index).unlink()
    again = finish_oracles(plan, tmp_path / "oracles", 7, SHAPE, workers=None)
    assert asked == [(True, "cuda", list(range(7))), (True, "cuda", [1, 5])]
    for one, other in zip(first, again):
        assert np.allclose(one.evaluation.forget_logits, other.evaluation.forget_logits, atol=2e-2)


def test_a_killed_process_loses_what_is_in_training_alone(card, tiny, tmp_path, monkeypatch):
    """Of 12 oracles, four at a time: the process dies in the second group, and another one goes on after it."""
    plan, asked = card
    real = train_many.Trainer._train_at_once

    def dies(self, seeds, following, stepped):
        if FIRST_ORACLE_SEED + 4 in seeds:
            os._exit(9)
        return real(self, seeds, following, stepped)

    monkeypatch.setattr(train_many.Trainer, "_train_at_once", dies)
    with pytest.raises(WorkError, match=r"8 of 12 oracles were not made; from oracle 0: the worker process .* died"):
        finish_oracles(plan, tmp_path / "oracles", 12, SHAPE, workers=None)
    assert in_folder(tmp_path / "oracles") == [0, 1, 2, 3], "and eight were taken by the dead: four in advance"
    monkeypatch.setattr(train_many.Trainer, "_train_at_once", real)
    assert len(finish_oracles(plan, tmp_path / "oracles", 12, SHAPE, workers=None)) == 12
    assert asked[-1] == (True, "cuda", list(range(4, 12)))


def test_one_that_diverges_is_named_and_the_others_of_its_group_are_kept(card, tiny, tmp_path, monkeypatch):
    plan, _ = card
    monkeypatch.setattr(oracles, "run_on_device", reporting)
    real = train_many.evaluate_stack

    def spoilt(stacked, count, task, batch):
        found = real(stacked, count, task, batch)
        return [replace(found[0], forget_logits=found[0].forget_logits * np.nan), *found[1:]]

    monkeypatch.setattr(train_many, "evaluate_stack", spoilt)
    with pytest.raises(WorkError, match="oracle 0 diverged: its outputs are NaN or infinite"):
        finish_oracles(plan, tmp_path / "oracles", 4, SHAPE, workers=None)
    assert in_folder(tmp_path / "oracles") == [1]


def reporting(device, function, plan, jobs, *_, **__):
    """Stands in for `run_on_device`, without processes; what a job raises is a Failure."""
    for job in jobs:
        try:
            yield job, function(plan, job)
        except Exception as error:
            yield job, Failure(f"{type(error).__name__}: {error}")


def test_an_error_while_it_is_waited_for_keeps_what_was_finished_a_moment_before(card, tmp_path, monkeypatch):
    plan, _ = card

    def interrupted(device, function, argument, jobs, *_, **__):
        function(argument, 0)
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(oracles, "run_on_device", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finish_oracles(plan, tmp_path / "oracles", 5, SHAPE, workers=None)
    assert in_folder(tmp_path / "oracles") == [0, 1, 2, 3, 4]


def test_further_originals_are_kept_with_their_weights(card, tiny, tmp_path, monkeypatch):
    plan, _ = card
    monkeypatch.setattr(oracles, "run_on_device", reporting)
    plan = replace(plan, forget_too=True, weights=tmp_path / "weights", keep=3)
    finish_oracles(plan, tmp_path / "originals", 5, SHAPE, workers=None)
    assert [plan.lacks_weights(index) for index in range(5)] == [False] * 5
    assert in_folder(tmp_path / "weights") == [0, 1, 2]


def test_no_two_processes_take_the_same_and_a_job_with_nothing_left_loads_nothing(card, tiny, tmp_path, monkeypatch):
    plan, _ = card
    one, other, wanted = Desk(tmp_path), Desk(tmp_path), (3, 5, 7, 9)
    assert [one.take(wanted, 2), other.take(wanted, 3), one.take(wanted, 1)] == [[3, 5], [7, 9], []]
    assert not one.has(wanted)
    assert other.has((*wanted, 11))
    monkeypatch.setattr(oracles, "trainer_of", lambda *_: pytest.fail("a minute of measuring for nothing"))
    assert one_job(replace(plan, desk=tmp_path, wanted=wanted), 5) == {}


def test_what_the_desk_has_no_room_for_comes_back_with_the_job(card, tiny, tmp_path, monkeypatch):
    plan, _ = card
    monkeypatch.setattr(Desk, "leave", lambda self, index, record: index != 2)
    made = one_job(replace(plan, models_per_job=1, desk=tmp_path, wanted=(1, 2, 3)), 1)
    assert list(made) == [2]


def test_the_bar_counts_the_steps_of_networks_in_training(card, tiny, tmp_path, monkeypatch):
    """Six oracles of two steps each, four at a time: the first step of the first four is worth two oracles."""
    plan, _ = card
    seen = []

    def watched(device, function, argument, jobs, *_, reached, **__):
        tell = Desk.tell
        monkeypatch.setattr(Desk, "tell", lambda self, *given, **how: (tell(self, given[0], now=True), look(reached)))
        for job in jobs:
            yield job, function(argument, job)
        look(reached)

    def look(reached):
        seen.append(reached())

    monkeypatch.setattr(oracles, "run_on_device", watched)
    finish_oracles(plan, tmp_path / "oracles", 6, SHAPE, workers=None)
    assert seen[:2] == [2.0, 4.0]
    assert 5.0 in seen[2:], "a step of the last two"
    assert seen[-1] == 6.0
    assert max(seen) == 6.0, "none is counted twice"


def test_on_a_cpu_too_the_steps_of_a_job_are_told_and_the_jobs_are_as_ever(tmp_path, monkeypatch):
    told, jobs_seen = [], []

    def watched(device, function, argument, jobs, workers, timeout, title, models, *_, reached, **__):
        jobs_seen.append((list(jobs), models, argument.wanted))
        tell = Desk.tell
        monkeypatch.setattr(Desk, "tell", lambda self, parts, now=False: (tell(self, parts, now=True), see(reached)))
        for job in jobs:
            yield job, function(argument, job)

    def see(reached):
        told.append(reached())

    monkeypatch.setattr(oracles, "run_on_device", watched)
    grader = Grader(TINY, tmp_path, runs=6)
    assert len(grader.finish_oracles()) == 6
    assert jobs_seen == [([0, 1], 4, ())]
    assert told[:2] == [2.0, 4.0]  # both steps of four networks
    assert not list(tmp_path.rglob("*.part")), "nothing is left of the desk"


def test_oracles_whose_process_was_gone_before_it_could_be_told_are_missed(card, tmp_path, monkeypatch):
    """A pool asks for a job once more if its process was gone; what that one had taken is lost, and nobody failed."""
    plan, _ = card

    def gone(device, function, argument, jobs, *_, **__):
        Desk(argument.desk).take(argument.wanted, 2)
        return ((job, function(argument, job)) for job in jobs)

    monkeypatch.setattr(oracles, "run_on_device", gone)
    with pytest.raises(WorkError, match="2 of 5 oracles were not made; from oracle 0: its process was gone; run"):
        finish_oracles(plan, tmp_path / "oracles", 5, SHAPE, workers=None)
    assert in_folder(tmp_path / "oracles") == [2, 3, 4]


def test_a_process_that_dies_when_all_was_handed_in_has_lost_nothing(card, tmp_path, monkeypatch):
    plan, _ = card

    def dies_at_last(device, function, argument, jobs, *_, **__):
        for job in jobs:
            function(argument, job)
            yield job, Failure("it died")

    monkeypatch.setattr(oracles, "run_on_device", dies_at_last)
    assert len(finish_oracles(plan, tmp_path / "oracles", 5, SHAPE, workers=None)) == 5
