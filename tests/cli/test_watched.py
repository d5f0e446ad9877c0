"""A watched submission is looked at once for every change of its files, whatever state they are in meanwhile."""

import os
from itertools import islice

import pytest

from local_eval.cli.looking import whenever_saved
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import Submission

GOOD = "def unlearning(net, retain_loader, forget_loader, val_loader):\n    pass\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    return path


def watch(file, edits, looks):
    """The outcomes of as many looks; whenever the watcher rests, the next edit is made."""
    edits = iter(edits)

    def sleep(seconds):
        next(edits, lambda: None)()

    def look():
        looks.append(Submission.find(str(file)).source())

    return list(islice(whenever_saved(str(file), look, sleep), 3))


def nothing():
    pass


def test_a_file_is_looked_at_again_when_its_content_changes_and_not_when_it_is_touched(file):
    looks = []
    edits = [nothing, lambda: os.utime(file), nothing, lambda: file.write_text(GOOD + "A = 1\n")]
    edits += [nothing, nothing, lambda: file.write_text(GOOD + "A = 2\n")]
    assert watch(file, edits, looks) == [None, None, None]
    assert looks == [GOOD, GOOD + "A = 1\n", GOOD + "A = 2\n"]


def test_a_half_saved_file_is_told_and_the_next_save_waited_for(file):
    looks = []
    edits = [nothing, lambda: file.write_text("def unlearning(net,"), nothing, lambda: file.write_text(GOOD)]
    first, half, whole = watch(file, edits, looks)
    assert first is None and whole is None
    assert isinstance(half, SubmissionError)
    assert "not valid Python" in str(half)
    assert len(looks) == 2


def test_a_file_that_an_editor_replaces_is_looked_at_when_it_is_back(file):
    looks = []
    edits = [nothing, lambda: file.unlink(), lambda: file.write_text(GOOD + "A = 1\n"), nothing]
    edits += [nothing, lambda: file.write_text(GOOD)]
    assert watch(file, edits, looks) == [None, None, None]
    assert looks == [GOOD, GOOD + "A = 1\n", GOOD], "gone for a moment is not a state of its own"


def test_what_it_imports_from_common_is_watched_too(file, tmp_path, monkeypatch):
    monkeypatch.setattr("local_eval.methods.submission.COMMON", tmp_path / "common")
    shared = tmp_path / "common" / "shared.py"
    shared.parent.mkdir()
    shared.write_text("A = 1\n")
    file.write_text("import common.shared\n" + GOOD)
    edits = [nothing, lambda: shared.write_text("A = 2\n"), nothing, nothing, lambda: shared.write_text("A = 3\n")]
    looks = []
    assert watch(file, edits, looks) == [None, None, None]


def test_a_submission_that_is_not_there_is_told_at_once(tmp_path):
    with pytest.raises(SubmissionError, match="no submission"):
        next(whenever_saved(str(tmp_path / "none.py"), nothing))
