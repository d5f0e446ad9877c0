"""What foreign code leaves in its temporary folder goes with it, also when whoever waited for it was killed."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from local_eval.isolation.child import run_apart
from local_eval.store.files import NAME, own_folder, remove_of_the_dead, remove_ours


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_removed_with_all_that_is_in_it_whatever_its_rights(temporary):
    with own_folder() as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
        (folder / "deep").chmod(0)
        assert folder.name.startswith(f"{NAME}{os.getpid()}-")
    assert not list(temporary.iterdir())


def test_foreign_code_finds_its_own_folder_and_leaves_nothing(temporary):
    def work(_):
        with tempfile.NamedTemporaryFile(delete=False) as file:
            return f"{file.name} {os.environ['TMPDIR']} {tempfile.gettempdir()}".encode()

    file, *folders = run_apart(work, 20.0).content.decode().split()
    assert {str(Path(file).parent), *folders} == {folders[0]}
    assert folders[0].startswith(str(temporary / NAME))
    assert not list(temporary.iterdir())


def test_the_dead_ones_folders_are_removed_and_nobody_elses(temporary):
    code = "import tempfile, os; print(tempfile.mkdtemp(prefix=f'unlearning-run-{os.getpid()}-'))"
    reported = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(temporary)}, capture_output=True
    )
    dead, living = Path(reported.stdout.decode().strip()), temporary / f"{NAME}1-x"
    strange = temporary / f"{NAME}notes-x"
    for folder in (living, strange):
        folder.mkdir()
    remove_of_the_dead()
    assert [dead.exists(), living.exists(), strange.exists()] == [False, True, True]


def test_a_process_that_ends_at_once_removes_its_own(temporary):
    tempfile.mkdtemp(prefix=f"{NAME}{os.getpid()}-")
    (temporary / f"{NAME}1-x").mkdir()
    remove_ours()
    assert [p.name for p in temporary.iterdir()] == [f"{NAME}1-x"]
