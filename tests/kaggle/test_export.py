"""Notebooks are generated, complete and current, and what cannot travel is refused with its line."""

import ast
import json
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest

from local_eval.__main__ import main
from local_eval.kaggle.export import export, export_walkthrough, kernel_metadata, submission_notebook
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import ROOT, Submission, submission_names, submission_path
from tests.conftest import GOOD

NOTEBOOKS = ROOT / "notebooks"


def code_in(path) -> str:
    """All code of a notebook."""
    notebook = nbformat.reads(path.read_text(), as_version=4)
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


def test_the_committed_walkthrough_is_current(tmp_path):
    fresh = export_walkthrough(tmp_path)
    assert (NOTEBOOKS / "walkthrough.ipynb").read_bytes() == fresh.read_bytes(), "python -m local_eval export --all"


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")
def test_no_committed_notebook_is_left_over():
    tracked = subprocess.run(["git", "ls-files", "notebooks/*.ipynb"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode or not tracked.stdout:
        pytest.skip("no git repository, so nothing says which notebooks are the kit's and which a user's")
    assert {Path(name).stem for name in tracked.stdout.split()} == {*submission_names(), "walkthrough"}


@pytest.mark.parametrize("name", submission_names())
def test_committed_notebooks_are_current_define_every_name_once_and_hold_the_method_as_it_reads(name, tmp_path):
    export(Submission.find(name), tmp_path)
    for file in (f"{name}.ipynb", f"{name}/kernel-metadata.json"):
        reported = f"notebooks/{file} is stale: python -m local_eval export {name}"
        assert (NOTEBOOKS / file).is_file(), reported
        assert (NOTEBOOKS / file).read_bytes() == (tmp_path / file).read_bytes(), reported
    tree = ast.parse(code_in(tmp_path / f"{name}.ipynb"))
    defined = [n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    assert len(defined) == len(set(defined))
    ours = ast.parse(submission_path(name).read_text())
    cells = {ast.dump(node) for node in tree.body}
    for node in ours.body[1:]:
        assert isinstance(node, (ast.Import, ast.ImportFrom)) or ast.dump(node) in cells


def test_the_parameters_are_constants_in_one_tagged_cell():
    notebook = nbformat.reads(submission_notebook(Submission.find("fanchuan")), as_version=4)
    (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    values = {n.targets[0].id: ast.literal_eval(n.value) for n in ast.parse(cell.source).body}
    assert values["RUNS"] == 512
    assert values["TMP"] == "/kaggle/tmp"
    assert values["SEED"] is None
    assert values["HOURS"] == 8


def test_exactly_what_the_method_uses_is_copied_with_its_comments(tmp_path, monkeypatch):
    common = tmp_path / "common"
    common.mkdir()
    (common / "first.py").write_text(
        "import math\nimport json\nfrom common.second import base\n\n# why three\nSCALE = 3  # not four\n\n\n"
        "@staticmethod\ndef wanted(x):\n    # a reason\n    return base(x) * SCALE * math.pi\n\n\n"
        "def unwanted():\n    return json\n"
    )
    (common / "second.py").write_text("def base(x):\n    return deeper(x)\n\n\ndef deeper(x):\n    return x\n")
    monkeypatch.setattr("local_eval.kaggle.export.COMMON", common)
    path = tmp_path / "mine.py"
    path.write_text("import torch\nfrom common.first import wanted\n" + GOOD.replace("import torch\n", ""))
    export(Submission(path), tmp_path / "out")
    code = code_in(tmp_path / "out" / "mine.ipynb")
    assert "# why three\nSCALE = 3  # not four\n\n\n@staticmethod\ndef wanted(x):\n    # a reason" in code
    assert "unwanted" not in code
    assert "common" not in code.replace("# common", "")
    assert code.index("def deeper") < code.index("def wanted")
    assert "import math" in code


REFUSED = {
    "import sklearn": (1, "imports sklearn"),
    "from scipy import stats": (1, "imports scipy"),
    "import local_eval.runs.one_run": (1, "imports local_eval.runs.one_run"),
    "\nfrom common.losses import *": (2, "everything"),
    "from torch.nn import *": (1, "everything"),
    "from common import losses": (1, "from common.losses import name"),
    "import common.losses as L": (1, "from common.losses import name"),
    "import common": (1, "from common.losses import name"),
    "from common.losses import kl_to_uniform as kl": (1, "without `as`"),
    "def late():\n    from common.losses import kl_to_uniform": (2, "at the top of the file"),
    "from common.losses import nothing": (1, "does not define nothing"),
    "from common.nowhere import name": (1, "does not exist"),
    "from .losses import name": (1, "relative"),
    "x = 1\nwith open('weights.txt') as file:\n    pass": (2, r"open\(\)"),
    "import torch\nW = torch.load('w.pth')": (2, r"load\(\)"),
    "from pathlib import Path\nHERE = Path(__file__).parent": (2, "__file__"),
    "if __name__ == '__main__':\n    print()": (1, "__name__"),
    "import importlib\nm = importlib.import_module('common.losses')": (2, r"import_module\(\)"),
    "from common.losses import kl_to_uniform\n\ndef kl_to_uniform(x):\n    return x\n": (3, "losses.py, line"),
    "RUNS = 3": (1, "driver.py, line"),
    "def hours():\n    return 3": (1, "driver.py, line"),
    "sum = 3": (1, "builtin"),
    "import math as np": (1, "np is also defined"),
    "if True:\n    DRIVER_DEVICE = 'cpu'": (2, "driver.py, line"),
    "def f():\n    global TMP\n    TMP = 3": (2, "driver.py, line"),
    "for i in range(:": (1, "not valid Python"),
}


def test_a_constant_stands_behind_those_of_other_files_that_it_is_made_of(tmp_path, monkeypatch):
    common = tmp_path / "common"
    common.mkdir()
    (common / "first.py").write_text(
        "from common.second import BASE\n\n\ndef early(x):\n    return x\n\n\nALL = (BASE, 2)\n\n\n"
        "def late(x):\n    return x * ALL[0]\n"
    )
    (common / "second.py").write_text("BASE = 3\n")
    monkeypatch.setattr("local_eval.kaggle.export.COMMON", common)
    path = tmp_path / "mine.py"
    path.write_text("import torch\nfrom common.first import early, late\n" + GOOD.replace("import torch\n", ""))
    export(Submission(path), tmp_path / "out")
    code = code_in(tmp_path / "out" / "mine.ipynb")
    assert code.index("BASE = 3") < code.index("def early") < code.index("ALL = (BASE, 2)") < code.index("def late")


def test_what_cannot_travel_is_refused_with_its_line(submission, tmp_path, capsys):
    for source, (line, text) in REFUSED.items():
        path = submission(f"{source}\n{GOOD}")
        with pytest.raises(SubmissionError, match=f"mine.py, line {line}: .*{text}"):
            submission_notebook_of(path)
        assert main(["export", path, "--out", str(tmp_path / "out")]) == 2, source
        assert not (tmp_path / "out").exists(), "nothing is left behind"


def submission_notebook_of(path: str) -> str:
    return submission_notebook(Submission.find(path))


def test_names_that_two_modules_of_common_share_are_refused(tmp_path, monkeypatch):
    common = tmp_path / "common"
    common.mkdir()
    for name in ("first", "second"):
        (common / f"{name}.py").write_text(
            f"def {name}():\n    return _same()\n\n\ndef _same():\n    return '{name}'\n"
        )
    monkeypatch.setattr("local_eval.kaggle.export.COMMON", common)
    path = tmp_path / "mine.py"
    path.write_text("from common.first import first\nfrom common.second import second\n" + GOOD)
    with pytest.raises(SubmissionError, match=r"second.py, line 5: _same is also defined in first.py, line 5"):
        submission_notebook(Submission(path))


def test_reading_the_competitions_own_files_is_allowed(submission):
    path = submission(GOOD + "\n\ndef counts():\n    return open('/kaggle/input/x/age_class_weights.json')\n")
    assert "age_class_weights.json')" in submission_notebook_of(path)


def test_metadata_asks_for_a_private_notebook_on_a_t4_without_internet():
    found = kernel_metadata("baseline_finetune", "someone")
    assert found["id"] == "someone/unlearning-baseline-finetune"
    assert found["is_private"] is True
    assert found["enable_internet"] is False
    assert found["machine_shape"] == "NvidiaTeslaT4"
    assert found["competition_sources"] == ["neurips-2023-machine-unlearning"]
    on_disk = json.loads((NOTEBOOKS / "baseline_finetune" / "kernel-metadata.json").read_text())
    assert (NOTEBOOKS / "baseline_finetune" / on_disk["code_file"]).is_file()


def test_export_needs_a_name_or_all(tmp_path, capsys):
    assert main(["export", "--out", str(tmp_path)]) == 2
    assert "--all" in capsys.readouterr().err
    assert main(["export", "fanchuan", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "fanchuan.ipynb").is_file()


def test_names_that_most_notebooks_use_are_free(submission, tmp_path):
    lines = [f"{name} = 'cpu'" for name in ("DEVICE", "device", "CRITERION", "EPOCHS")]
    export(Submission.find(submission("\n".join([*lines, GOOD]))), tmp_path)
    assert set(lines) <= set(code_in(tmp_path / "mine.ipynb").splitlines())
