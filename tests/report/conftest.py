"""What the tests of reports share, made once: a page with all that a page can have, and a tiny grading on disk."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from local_eval.__main__ import main
from local_eval.grader import Grader
from local_eval.report.page.facts import gather
from local_eval.report.page.render import sections_of, write_page
from local_eval.store.records import Evaluation, Record, record_path, save_record
from tests.conftest import GOOD, TINY
from tests.report.page.looking import Page
from tests.report.page.simulated import CASES, measure_rows, results

NASTY = "<script>alert(1)</script>"
RUNS = 16
COMPARED = ("baseline_finetune", "seif_achour")  # submissions of the kit whose runs are on disk
MORE_CASES = {"outliers": {"outlier": 0.09}, "damaged": {"right": 0.6}, "below": {"shift": -1.2}}


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A method and a task with hostile names, runs that failed, and other methods beside it."""
    found = results(tmp_path_factory.mktemp("score"), name=NASTY, task_name=f"{NASTY}$x_1$", shift=0.6, ratio=0.7)
    others = tuple(found.result.changed(submission=f"{NASTY}{k} $\\bad", score=0.01 * k) for k in range(30))
    failures = {24: f"ValueError: {NASTY}", 25: "hangs"}
    task = replace(found.task, notes=(f"labels are {NASTY}",))
    return replace(found, others=others, shortened=("mine.py",), failures=failures, measures=measure_rows(), task=task)


@pytest.fixture(scope="session")
def facts(made):
    return gather(made)


@pytest.fixture(scope="session")
def folder(made, tmp_path_factory):
    """Where the page of `made` is drawn."""
    return write_page(made, tmp_path_factory.mktemp("page")).parent


@pytest.fixture(scope="session")
def sections(facts):
    """The figures of `made`, drawn a second time."""
    return sections_of(facts)


@pytest.fixture(scope="session")
def seen(folder):
    return Page(folder / "report.html")


@pytest.fixture(scope="session")
def cases(tmp_path_factory):
    """Facts by name of a simulated case; in each, one thing is wrong, or nothing."""
    every = {name: CASES[name] for name in ("perfect", "shifted", "too_wide", "too_narrow", "identical")} | MORE_CASES
    return {name: gather(results(tmp_path_factory.mktemp(name), 32, 18, **how)) for name, how in every.items()}


@pytest.fixture(scope="session")
def on_disk(tmp_path_factory, original_out):
    """Outputs of the tiny task with made-up oracles, and made-up runs of two submissions of the kit and of `mine`."""
    out = tmp_path_factory.mktemp("disk")
    (out / "mine.py").write_text("SCALE = 1.0\n" + GOOD.replace("0.01", "0.01 * SCALE"))
    grader, rng = Grader(TINY, out, RUNS), np.random.default_rng(0)
    grader.folder.mkdir()
    for file in (original_out / grader.folder.name).glob("original*"):
        shutil.copy(file, grader.folder)
    plans = [grader.run_plan(name) for name in (*COMPARED, mine(out))]
    for folder, identity in [("oracles", grader.oracle_identity), *((p.folder_name, p.identity) for p in plans)]:
        for k in range(RUNS):
            logits = rng.normal(size=(len(grader.task.forget), 3)).astype(np.float32)
            record = Record(Evaluation(logits, 0.8, 0.7), identity(k), {"seconds": 1.0, "device": "cpu", "torch": "2"})
            save_record(record_path(grader.folder / folder, k), record)
    return out


def mine(out):
    """The submission in `on_disk` that has a setting."""
    return f"{out / 'mine.py'}[SCALE=0.5]"


def options(out):
    """The end of a command on what is on disk."""
    return ["--task", TINY, "--out", str(out), "--runs", str(RUNS), "--device", "cpu"]


@pytest.fixture(scope="session")
def scored(on_disk):
    """Where a small grading has left its score."""
    assert main(["score", mine(on_disk), *options(on_disk)]) == 0
    return next(on_disk.glob("tiny-*/mine-*/score.json")).parent
