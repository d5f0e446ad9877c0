"""A rehearsal plays through what Kaggle does with a notebook, finds what would fail, and says what it cannot see."""

import zipfile
from pathlib import Path

import pytest
import torch
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.v4 import new_code_cell

from local_eval.__main__ import main
from local_eval.kaggle import rehearse as rehearsal
from local_eval.kaggle.rehearse import RUNS, SAVING, SCORING, Rehearsal, RehearsalError, in_words, rehearse
from local_eval.methods.submission import Submission
from tests.competition import narrow_resnet18
from tests.conftest import GOOD
from tests.kaggle.test_notebooks import NARROW, in_this_process

SEEDED = GOOD.replace("    with torch", "    torch.manual_seed(3)\n    with torch")
IDLE = GOOD.replace("0.01 *", "0.0 *")
WRITES = GOOD + "    import pathlib\n    for path in pathlib.Path(INPUT).glob('*.csv'):\n        path.write_text('')\n"


@pytest.fixture
def narrow(monkeypatch):
    """Rehearses cell by cell in this process, which is not to lose its modules and its network for it."""
    monkeypatch.setattr("torchvision.models.resnet18", narrow_resnet18)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    places = []

    def run(notebook, folder):
        assert notebook.cells.pop(0).source == rehearsal.AS_ON_KAGGLE
        places.append(folder.parent)
        in_this_process(notebook, folder)
        assert list(folder.iterdir()) == []

    def rehearsed(path: str) -> Rehearsal:
        return rehearse(Submission.find(path), run, narrow_resnet18)

    rehearsed.places = places
    return rehearsed


def test_what_runs_through_is_told_with_doubts_about_what_scores_badly(narrow, submission):
    for source, doubt in (
        (GOOD, ""),
        (IDLE, "leaves the weights as they were"),
        (SEEDED, "all runs give the same model"),
    ):
        found = narrow(submission(source))
        assert list(found.seconds) == [SAVING, SCORING]
        assert [doubt in text for text in found.doubts] == ([True] if doubt else []), doubt
    assert len(narrow.places) == 6 and not any(place.exists() for place in narrow.places), "nothing is left behind"


def test_a_notebook_that_writes_into_the_competitions_files_is_found_out(narrow, submission):
    with pytest.raises(RehearsalError, match="while scoring it it writes below kaggle/input"):
        narrow(submission(WRITES))


def test_the_data_are_where_kaggle_has_them_and_every_class_is_there(tmp_path):
    rehearsal.lay_out(tmp_path, narrow_resnet18, empty=False)
    (place,) = (tmp_path / "input" / "competitions").iterdir()
    found = {path.name for path in place.iterdir()}
    files = {"retain.csv", "forget.csv", "validation.csv", "original_model.pth", "age_class_weights.json", "images"}
    assert place.name == "neurips-2023-machine-unlearning" and found == files
    for name, classes in (("retain", 10), ("forget", 2), ("validation", 10)):
        rows = [line.split(",") for line in (place / f"{name}.csv").read_text().split()][1:]
        assert len(rows) == len({row[0] for row in rows}) == rehearsal.SIZES[name]
        assert len({row[1] for row in rows}) == classes, name
        assert all((place / "images" / row[0].replace("-", "/")).with_suffix(".png").is_file() for row in rows)


def test_another_submission_zip_than_kaggle_takes_is_refused(tmp_path):
    working, names = tmp_path / "working", [f"kaggle/tmp/unlearned_checkpoint_{k}.pth" for k in range(RUNS)]
    working.mkdir()
    with pytest.raises(RehearsalError, match="leaves no submission.zip"):
        rehearsal._check_saved(tmp_path, {})
    with pytest.raises(RehearsalError, match="no whole submission.zip"):
        rehearsal._check_scored(tmp_path, {})
    (working / "submission.zip").write_bytes(b"")
    assert rehearsal._check_saved(tmp_path, {}) == []
    for held in ([], names[:1], [*names, "more.pth"], [Path(name).name for name in names]):
        with zipfile.ZipFile(working / "submission.zip", "w") as archive:
            for name in held:
                archive.writestr(name, b"x")
        with pytest.raises(RehearsalError, match="it should hold kaggle/tmp/unlearned_checkpoint_0.pth and"):
            rehearsal._check_scored(tmp_path, {})


def test_a_kernel_that_hangs_or_dies_is_one_sentence(submission):
    path = submission(GOOD)
    for error, reported in (
        (CellTimeoutError(""), "not done after 3600 s"),
        (DeadKernelError(""), "ends before its time"),
    ):

        def run(notebook, folder, error=error):
            raise error

        with pytest.raises(RehearsalError, match=f"while saving a version .*{reported}"):
            rehearse(Submission.find(path), run, narrow_resnet18)


LOOKS = """
import os
import socket
import torch


def tried(work):
    try:
        return work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def unlearning(net, retain_loader, forget_loader, val_loader):
    seen = {
        "home": os.listdir(os.path.expanduser("~")) == [".ipython"] or os.listdir(os.path.expanduser("~")),
        "login": [name for name in os.environ if "KAGGLE" in name],
        "name": tried(lambda: socket.getaddrinfo("example.org", 80)),
        "address": tried(lambda: socket.create_connection(("192.0.2.1", 80), 3)),
        "here": os.listdir("."),
    }
    raise ValueError(repr(seen))  # the place
"""


def test_in_the_kernel_there_is_no_internet_no_login_no_home_and_a_failure_names_its_line(submission, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_0123456789abcdef_secret")

    def run(notebook, folder):
        notebook.cells.insert(1, new_code_cell(NARROW))
        rehearsal.in_a_kernel(notebook, folder)

    with pytest.raises(RehearsalError) as raised:
        rehearse(Submission.find(submission(LOOKS)), run, narrow_resnet18)
    said = str(raised.value)
    assert said.startswith("while saving a version the notebook fails at `raise ValueError(repr(seen))  # the place`: ")
    for part in ("'home': True", "'login': []", "'here': []", "no internet: example.org", "no internet: 192.0.2.1"):
        assert part in said, said


def test_the_command_rehearses_each_and_fails_if_one_does(submission, tmp_path, monkeypatch, capsys):
    def made_up(found: Submission) -> Rehearsal:
        if found.label == "bad":
            raise RehearsalError("it fails\x1b[2J")
        return Rehearsal({SAVING: 5.0, SCORING: 7.0}, "cpu", ["a doubt"])

    monkeypatch.setattr(rehearsal, "rehearse", made_up)
    good, bad = submission(GOOD, "good"), submission(GOOD, "bad")
    assert main(["export", bad, good, "--out", str(tmp_path / "out"), "--rehearse"]) == 1
    said = capsys.readouterr()
    assert f"error: {bad}: it fails\\x1b[2J" in said.err
    assert f"rehearsed {good}: " in said.out and "  note: a doubt" in said.out
    assert (tmp_path / "out" / "bad.ipynb").is_file() and (tmp_path / "out" / "good.ipynb").is_file()
    assert main(["export", good, "--out", str(tmp_path / "out"), "--rehearse"]) == 0


def test_what_is_said_has_both_parts_and_what_kaggle_does_otherwise_and_commands_that_can_be_pasted():
    text = in_words(Rehearsal({SAVING: 5.0, SCORING: 7.0}, "cpu", []), "my method.py")
    for part in ("saving a version", "scoring it", "512 runs", "T4 GPU (here cpu)", "8 hours", "submit 'my method.py'"):
        assert part in text
    assert "note:" not in text and all(len(line) <= 120 for line in text.splitlines())


@pytest.mark.slow
def test_the_whole_command_with_a_whole_resnet18_in_kernels(submission, tmp_path, capsys):
    assert main(["export", submission(GOOD), "--out", str(tmp_path / "out"), "--rehearse"]) == 0
    said = capsys.readouterr().out
    assert "2 whole checkpoints" in said and "note:" not in said
