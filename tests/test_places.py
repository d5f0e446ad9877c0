"""Where things lie makes no difference: spaces and all letters in paths, another folder, no home to write to."""

import itertools
import os
import shutil

import pytest

from local_eval.methods.contract import load_submission
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import Submission
from local_eval.runs.checkpoints import Checkpoints
from local_eval.store.files import user_path
from local_eval.tasks.loading import load_task
from local_eval.tasks.names import TaskError
from tests.conftest import GOOD, TINY
from tests.made_up import write_image
from tests.runs.test_checkpoint_forms import good, loads, saved, zipped
from tests.tiny_task import tiny_net

NAMES = ("größe 1", "方法 (2)", "it's [3]")


def own_images(folder):
    """A table and a folder of the same images."""
    rows = ["image,label,split"]
    for number, split in enumerate(["retain"] * 8 + ["forget", "validation", "test"] * 4):
        name = f"{split}/ant {number % 2}/{number} é.png"
        write_image(folder / name, number, size=(6, 5))
        rows.append(f"{name},{number % 2},{split}")
    (folder / "my tâble.csv").write_text("\r\n".join(rows), encoding="utf-8")
    return folder


@pytest.fixture(params=["a file", "missing"])
def no_home(request, tmp_path, monkeypatch):
    """A home folder in which nothing can be written, not even by root."""
    home = tmp_path / "home"
    if request.param == "a file":
        home.write_text("")
    monkeypatch.setenv("HOME", str(home / "x" if request.param == "missing" else home))
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)


def test_own_images_are_read_from_any_folder_without_a_home(no_home, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    name = " ".join(NAMES)  # each of these tasks draws a resnet18, which takes most of the time
    folder = own_images(tmp_path / name)
    whole = load_task(str(folder / "my tâble.csv"))
    for spec in (f"../{name}/my tâble.csv", f"manifest:../{name}/my tâble.csv"):
        assert load_task(spec).fingerprint() == whole.fingerprint()
    (folder / "my tâble.csv").unlink()
    assert load_task(f"../{name}").retain.images.equal(load_task(f"folder:{folder}").retain.images)


def test_a_tasks_file_is_found_from_another_folder(tmp_path, monkeypatch, tiny):
    for name in NAMES:
        (tmp_path / name / "in").mkdir(parents=True)
        shutil.copy(TINY, tmp_path / name / "my täsk.py")
        monkeypatch.chdir(tmp_path / name / "in")
        assert load_task("../my täsk.py").fingerprint() == tiny.fingerprint()


def test_submissions_are_found_and_imported(no_home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, ending in itertools.product(NAMES, ("\n", "\r\n", "\r")):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "méthode.py").write_bytes(f"É = 'ü'\n{GOOD}".replace("\n", ending).encode())
        assert load_submission(Submission.find(f"{name}/méthode.py")).__name__ == "unlearning"


def test_checkpoints_are_found(no_home, tmp_path):
    for name, inside in itertools.product(NAMES, ("größe 1/modèle_{}.pth", "方法/unlearned_checkpoint_{}.pt")):
        (tmp_path / name).mkdir(exist_ok=True)
        path = zipped(tmp_path / name, [(inside.format(k), saved(good(k))) for k in range(2)])
        loads(path, count=2)
        shutil.unpack_archive(path, tmp_path / name / "out")
        assert len(Checkpoints.find(tmp_path / name / "out", tiny_net()).names) == 2
        shutil.rmtree(tmp_path / name)


def test_a_home_that_is_not_there_is_a_path_that_is_not_there():
    for text, find in (("~nobody-here/mine.py", Submission.find), ("~nobody-here/faces.csv", load_task)):
        assert user_path(text) == user_path(os.fspath(user_path(text)))
        with pytest.raises((SubmissionError, TaskError), match="~nobody-here/.* does not exist"):
            find(text)
