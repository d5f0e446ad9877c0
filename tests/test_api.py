"""What `import local_eval` offers is there, and costs nothing until it is asked for."""

import functools
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import local_eval
from local_eval.engine.failure import Failure
from local_eval.grader import Grader
from tests.conftest import TINY
from tests.metric.test_score import score as made_up_score
from tests.runs.test_written_out import session


@functools.cache
def score():
    """Too few models to project from, which would take seconds."""
    return made_up_score(models=16)


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, local_eval; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", local_eval.OFFERED)
def test_every_name_that_is_offered_is_there(name):
    assert getattr(local_eval, name).__name__ == name


def test_other_names_are_refused_with_what_there_is():
    with pytest.raises(AttributeError, match="it has .*forgetting_quality"):
        _ = local_eval.nothing


def test_the_old_address_of_task_files_still_works():
    from local_eval.task import Recipe, Split, Task, load_task

    assert (Recipe, Split, Task) == (local_eval.Recipe, local_eval.Split, local_eval.Task)
    assert load_task is local_eval.load_task


HERE = """
import torch

AMOUNT = 0.01

def mine(net, retain_loader, forget_loader, val_loader):
    with torch.no_grad():
        for weight in net.parameters():
            weight += AMOUNT * torch.randn_like(weight)
    net.eval()
"""


@pytest.fixture
def stages(monkeypatch):
    """Nothing is trained; the paths that are graded are listed."""
    asked = []
    monkeypatch.setattr("local_eval.api.check_submission", lambda name, *_: ["it prints"])
    monkeypatch.setattr(Grader, "finish_oracles", lambda self: asked.append((self.task_spec, self.runs, self.out)))
    monkeypatch.setattr(Grader, "score", lambda self, *_: (score(), self.out))

    def finish_runs(grader, name):
        asked.append(Path(name))
        return {}, {3: Failure("ValueError: unlucky", "", "half way\n")} if "unlucky" in name else {}

    monkeypatch.setattr(Grader, "finish_runs", finish_runs)
    return asked


def test_a_function_a_path_and_a_name_are_graded_by_their_files(stages, tmp_path, submission, capsys):
    path, more = submission(), {"task": TINY, "runs": 16, "out": tmp_path / "out", "device": "cpu"}
    for given in (path, Path(path), "fanchuan", session(HERE)["mine"]):
        assert local_eval.grade(given, **more).score == score().score
    assert stages[0] == (TINY, 16, tmp_path / "out")
    assert stages[1::2][:3] == [Path(path), Path(path), Path("fanchuan")]
    assert stages[-1].relative_to(tmp_path / "out" / "from_python").name == "mine.py"
    assert "check: it prints" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given, told",
    [(3, "3 is no submission; give a name, a path or a function"), (None, "None is no"), ("nobody", "no submission")],
)
def test_what_is_no_submission_is_told_before_anything_is_made(given, told, tmp_path):
    with pytest.raises(local_eval.InputError, match=told):
        local_eval.grade(given, task=TINY, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_failed_runs_are_told_with_what_they_printed(stages, tmp_path, submission):
    path, more = submission(name="unlucky"), {"task": TINY, "runs": 16, "out": tmp_path, "device": "cpu"}
    with pytest.raises(local_eval.WorkError, match="1 of 16 runs failed.*ValueError: unlucky\n +it printed: half way"):
        local_eval.grade(path, **more)
    assert local_eval.grade(path, **more, allow_missing=True).runs == score().runs


@pytest.mark.parametrize(
    "lines, refused",
    [
        ("grade('nobody')", True),
        ("def go():\n    grade('nobody')\nif True:\n    go()", True),
        ("if __name__ == '__main__':\n    grade('nobody')", False),
        ("def go():\n    grade('nobody')\nif '__main__' == __name__:\n    go()", False),
    ],
)
def test_a_script_that_would_start_itself_again_is_refused_by_line(lines, refused, tmp_path, monkeypatch):
    script = tmp_path / "my script.py"
    script.write_text(lines)
    main = ModuleType("__main__")
    main.__file__, main.grade = str(script), local_eval.grade
    monkeypatch.setitem(sys.modules, "__main__", main)
    line = len(lines.splitlines())
    told = f'my script.py, line {line}: calls local_eval.grade at the top level.*under `if __name__ == "__main__":`'
    with pytest.raises(local_eval.InputError, match=told if refused else "no submission 'nobody'"):
        exec(compile(lines, str(script), "exec"), vars(main))


def test_a_notebook_without_a_file_is_no_script(monkeypatch):
    main = ModuleType("__main__")
    main.grade = local_eval.grade
    monkeypatch.setitem(sys.modules, "__main__", main)
    with pytest.raises(local_eval.InputError, match="no submission 'nobody'"):
        exec(compile("grade('nobody')", "<cell 1>", "exec"), vars(main))
