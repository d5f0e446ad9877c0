"""What goes wrong when a submission is imported or misses a package is one sentence with file, line and remedy."""

import sys

import pytest

from local_eval.__main__ import main
from local_eval.methods.contract import load_telling, work_at_import
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import Submission
from tests.conftest import GOOD, TINY


def load(path):
    return load_telling(Submission.find(path))


@pytest.mark.parametrize(
    "source, reported",
    [
        ("import argparse\nARGS = argparse.ArgumentParser().parse_args()", r"line 2: parse_args\(\) reads the command"),
        (
            "import argparse as a\nif True:\n    x, y = a.ArgumentParser().parse_known_args()",
            r"line 3: parse_known_args",
        ),
        (
            "import sys\n\nsys.exit('done')",
            r"line 3: `sys.exit\('done'\)` runs when .*exit\('done'\)",
        ),
        ("raise SystemExit", "line 1: `raise SystemExit` runs when"),
        ("x = 1\nexit(3)", r"line 2: `exit\(3\)`"),
        ("DATA = open('/kaggle/input/no.csv')", r"line 1: `DATA = open\('/kaggle/input/no.csv'\)`.*FileNotFoundError"),
        ("import torch\ndef f():\n    return torch.load('/kaggle/input/o.pth')\nNET = f()", r"line 4: `NET = f\(\)`"),
        ("def main():\n    1 / 0\n\nmain()", r"line 4: `main\(\)` runs when .*ZeroDivisionError"),
        ("get_ipython().system('pip install timm')", r"line 1: get_ipython\(\) exists in a notebook only"),
        ("x = 1\nget_ipython().run_line_magic('cd', '..')", r"line 2: get_ipython\(\) exists in a notebook only"),
    ],
)
def test_work_at_import_that_fails_is_told_by_line(source, reported, submission):
    with pytest.raises(SubmissionError, match=rf"mine\.py, {reported}"):
        load(submission(f"{source}\n{GOOD}"))


@pytest.mark.parametrize(
    "source",
    [
        "if __name__ == '__main__':\n    import argparse\n    argparse.ArgumentParser().parse_args()",
        "def main():\n    import argparse\n    argparse.ArgumentParser().parse_args()",
        "import argparse\nARGS = argparse.ArgumentParser().parse_args([])",
        "import sys\nassert len(sys.argv) == 1, 'the options of the grader are not its own'",
    ],
)
def test_a_command_line_that_is_not_read_is_no_fault(source, submission, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["local_eval", "grade", "--seed", "5"])
    assert callable(load(submission(f"{source}\n{GOOD}")))


def test_work_at_import_that_succeeds_is_remarked_and_settings_are_not(submission):
    source = (
        "import torch, warnings\nwarnings.filterwarnings('ignore')\nA = 1\nprint(A)\nfor i in range(3):\n    A += i\n"
    )
    remarks = work_at_import(Submission.find(submission(source + GOOD)))
    assert [remark.partition(" runs")[0] for remark in remarks] == [
        "line 4: `print(A)`",
        "line 5: `for i in range(3):`",
    ]


@pytest.mark.parametrize(
    "module, package",
    [("cv2_missing", "cv2_missing"), ("skimage", "scikit-image"), ("imblearn.over_sampling", "imbalanced-learn")],
)
@pytest.mark.parametrize("late", [False, True])
def test_a_missing_package_is_one_sentence_with_what_to_install(module, package, late, submission, monkeypatch):
    monkeypatch.setitem(sys.modules, module.split(".")[0], None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, module.split(".")[0])
    source = f"{GOOD}    import {module}\n" if late else f"\nimport {module}\n{GOOD}"
    with pytest.raises(
        SubmissionError, match=rf"mine\.py, line \d: imports {module.split('.')[0]}.* pip install {package}$"
    ):
        function = load(submission(source))
        function(_Net(), 1, 2, 3)


class _Net:
    def parameters(self):
        return []

    def eval(self):
        pass


@pytest.mark.parametrize(
    "line, reported",
    [
        ("import helpers", "imports helpers, a file beside it"),
        ("import torch.nosuch", "the installed torch .* not have"),
    ],
)
def test_a_file_beside_it_and_a_part_that_a_package_lacks_are_told_apart(line, reported, submission, tmp_path):
    (tmp_path / "helpers.py").write_text("")
    with pytest.raises(SubmissionError, match=reported):
        load(submission(f"{line}\n{GOOD}"))


@pytest.mark.usefixtures("without_a_pool")
@pytest.mark.parametrize("lines", ["print('loss', 3)", "import sys; print('loss', 3, file=sys.stderr)"])
def test_what_it_printed_is_shown_by_check_and_with_a_failure(lines, body, capsys):
    assert main(["check", body(lines), "--task", TINY, "--device", "cpu"]) == 0
    assert "check: it printed: loss 3" in capsys.readouterr().out
    path = body(f"{lines}\nraise ValueError('bad')")
    assert main(["check", path, "--task", TINY, "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert "It printed:\nloss 3" in said
    assert "ValueError: bad" in said


@pytest.mark.usefixtures("without_a_pool")
@pytest.mark.parametrize("source", ["exit()", "import no_such_package", "1 / 0"])
def test_the_path_is_named_once(source, submission, capsys):
    path = submission(f"{source}\n{GOOD}")
    assert main(["check", path, "--task", TINY, "--device", "cpu"]) == 2
    assert capsys.readouterr().err.count(path) == 1


@pytest.mark.usefixtures("without_a_pool")
@pytest.mark.parametrize("name, ending", [("méthode", "\r"), ("方法 1", "\r\n")])
def test_other_line_ends_and_names_in_all_letters_work(name, ending, tmp_path):
    folder = tmp_path / "größe"
    folder.mkdir()
    path = folder / f"{name}.py"
    path.write_bytes(f"# ünlearn\nA = 3\n{GOOD}".replace("\n", ending).encode())
    assert main(["check", str(path), "--task", TINY, "--device", "cpu"]) == 0
    assert main(["export", f"{path}[A=5]", "--out", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize(
    "content, hint",
    [
        ("x = 'é'".encode("latin-1"), "save the file as UTF-8"),
        ("x = 1".encode("utf-16"), "save the file as UTF-8"),
        (b"%matplotlib inline", "only a notebook understands such a line"),
        (b"x = 1\n!pip install timm", "only a notebook understands such a line"),
    ],
)
def test_a_file_that_is_no_python_gets_a_hint(content, hint, tmp_path):
    path = tmp_path / "mine.py"
    path.write_bytes(content)
    with pytest.raises(SubmissionError, match=hint):
        Submission.find(str(path))


@pytest.mark.parametrize("ending", [".py", ".ipynb"])
def test_a_forgotten_ending_is_suggested(ending, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"mine{ending}").write_text("")
    with pytest.raises(SubmissionError, match=rf"did you mean mine\{ending}\?"):
        Submission.find("mine")
