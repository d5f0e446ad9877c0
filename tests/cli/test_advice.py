"""Every command that the kit prints works where it was printed: the kit's own parser reads it, and then it is run."""

import ast
import json
import re
import shlex
import shutil

import nbformat
import pytest

from local_eval.__main__ import how_to_go_on, main
from local_eval.cli import looking
from local_eval.cli.parser import make_parser
from local_eval.cli.request import resolved
from local_eval.commands import command
from local_eval.grader import Grader
from local_eval.isolation.child import Failure
from local_eval.methods.submission import ROOT, Submission
from local_eval.store.records import record_path
from local_eval.tasks.names import with_changes
from tests.conftest import TINY

COMMAND = re.compile(r"python -m local_eval ([^`\n]+)")
pytestmark = pytest.mark.usefixtures("without_a_pool", "score_alone")


def printed(text):
    """The arguments of all commands in a text, as a shell splits them."""
    return [shlex.split(found) for found in COMMAND.findall(text)]


class Place:
    """A folder with a name that a shell would split, in which a method has been graded with 16 runs."""

    def __init__(self, folder, capsys):
        self.folder, self.capsys = folder, capsys
        self.mine, self.out = "it's my code/mine.py", "my results"
        self.options = ["--task", "tiny task.py", "--out", self.out]
        self.grader = Grader("tiny task.py", folder / self.out, runs=16)

    def runs(self, seed=0):
        (found,) = self.grader.folder.glob(f"mine-*-seed{seed}")
        return found

    def said(self, *arguments, code=0):
        """What a command prints, which must end so."""
        assert main([*arguments]) == code, (arguments, self.capsys.readouterr())
        return "".join(self.capsys.readouterr())

    def follow(self, text, verbs, code=0):
        """Run the commands in a text, which must be these; what they print."""
        found = printed(text)
        assert [arguments[0] for arguments in found] == verbs, text
        for arguments in found:
            resolved(make_parser().parse_args(arguments))
        return [self.said(*arguments, code=code) for arguments in found]


@pytest.fixture(autouse=True)
def little_work(monkeypatch):
    """No page is drawn, which takes seconds, but for its command; and nothing is tried that was tried before."""

    def bare(source, folder, images=True):
        (folder / "report.html").write_text("\n".join([source.command, *source.shortened]))
        return folder / "report.html"

    monkeypatch.setattr("local_eval.cli.grading.write_page", bare)
    monkeypatch.setattr("local_eval.cli.grading.check_submission", lambda *_: [])  # dry runs, a second each
    monkeypatch.setattr("local_eval.tasks.check.check_network", lambda *_: None)
    monkeypatch.setattr("local_eval.metric.score.pool_ceiling", lambda *_, **__: 0.18)


@pytest.fixture
def place(tiny_graded, tmp_path, monkeypatch, capsys):
    home = tmp_path / "a user's home"
    (home / "it's my code").mkdir(parents=True)
    shutil.move(tiny_graded / "mine.py", home / "it's my code" / "mine.py")
    shutil.move(tiny_graded / "out", home / "my results")
    shutil.copy(TINY, home / "tiny task.py")
    monkeypatch.chdir(home)
    return Place(home, capsys)


def test_a_quick_look_names_the_command_that_gives_a_score(place, monkeypatch):
    monkeypatch.setattr(looking, "SCREENING", 16)
    for more in ([], ["--seed", "3"]):
        said = place.said("quick", place.mine, *place.options, "--runs", "3", *more)
        assert "written to" in place.follow(said, ["grade"])[0]
    assert len(list(place.runs(seed=3).glob("0*.npz"))) == 16


def test_a_page_that_cannot_be_drawn_names_the_command_after_which_it_can(place):
    score = place.runs() / "score.json"
    whole = score.read_bytes()
    for harm in (
        lambda: score.unlink(),
        lambda: score.write_text("{"),
        lambda: score.write_text('{"runs": 16}'),
        lambda: record_path(place.runs(), 7).unlink(),
        lambda: record_path(place.grader.workspace.oracles, 7).unlink(),
    ):
        score.write_bytes(whole)
        harm()
        said = place.said("report", place.mine, *place.options, code=2)
        (arguments,) = printed(said)
        assert arguments[0] == "grade"
        place.said(*arguments, *([] if "--runs" in arguments else ["--runs", "16"]))
        assert "report: " in place.said("report", place.mine, *place.options)


def test_a_score_of_what_is_not_there_names_the_commands_that_make_it_or_do_without(place):
    record_path(place.runs(), 2).unlink()
    said = place.said("score", place.mine, *place.options, "--runs", "17", code=2)
    (grade,) = printed(said)
    assert grade[0] == "grade" and "score" not in said.partition("\n")[2], "with 15 runs nothing can be scored"
    place.said(*grade)
    record_path(place.runs(), 2).unlink()
    said = place.said("score", place.mine, *place.options, "--runs", "17", code=2)
    without = printed(said)[1]
    assert without[0] == "score" and "1 run that failed or was not made is left out" in place.said(*without)
    for index in (14, 15, 16):
        record_path(place.grader.workspace.oracles, index).unlink()
    end = [*place.options, "--runs", "17", "--allow-missing"]
    place.follow(place.said("score", place.mine, *end, code=2), ["oracles"])
    end[-2] = "16"
    assert "to make what is missing" in place.said("score", place.mine, *end, code=2)
    said = place.said("score", place.mine, *place.options, "--runs", "16", "--seeds", "8", "9", code=2)
    assert "--seed 8" in said and printed(said)[0][0] == "grade"


def test_runs_that_fail_name_the_command_that_scores_the_others(place, monkeypatch):
    monkeypatch.setattr("local_eval.runs.one_run.one_run", lambda plan, index: Failure("ValueError: unlucky", ""))
    end = [*place.options, "--runs", "17"]
    for verb in ("grade", "run"):
        said = place.said(verb, place.mine, *end, code=1)
        assert "1 run that failed or was not made is left out" in place.follow(said, ["score"])[0], verb
    said = place.said("quick", place.mine, *place.options, "--runs", "4", "--seed", "5", code=1)
    assert printed(said) == [], "too few to be scored"
    said = place.said("grade", place.mine, *place.options, "--runs", "17", "--seeds", "0", "6", code=1)
    assert printed(said)[0][-3:] == ["--seeds", "0", "6"]


def test_a_board_without_enough_on_it_names_the_command_that_adds_to_it(place, monkeypatch):
    said = place.said("leaderboard", *place.options, "--runs", "17", code=2)
    place.follow(said, ["oracles"])
    said = place.said("leaderboard", *place.options, "--runs", "16", "--seed", "4", code=2)
    (grade,) = printed(said)
    assert grade[:2] == ["grade", "baseline_finetune"] and "--seed" in grade
    resolved(make_parser().parse_args(grade))
    place.said("leaderboard", *place.options, "--runs", "16", "--write", "board.json")
    again = json.loads((place.folder / "board.json").read_text())["command"]
    place.said(*printed(again)[0], "--out", place.out)


def test_a_comparison_signs_itself_with_the_command_that_makes_it_again(place):
    said = place.said("compare", place.mine, *place.options, "--runs", "16", "--seed", "0")
    (again,) = place.follow(said, ["compare"])
    tables = [text.partition("1 method on ")[2].split("\n\n")[1].splitlines() for text in (said, again)]
    assert tables[0] == tables[1] and len(tables[0]) == 2
    place.follow(place.said("compare", place.mine, *place.options, "--runs", "16", "--markdown"), ["compare"])


def test_the_command_on_a_page_works_beside_its_files_and_names_no_folder(place, monkeypatch):
    place.said("score", place.mine, *place.options, "--runs", "16")
    place.said("report", place.mine, *place.options)
    text = (place.runs() / "report.html").read_text()
    assert "my results" not in text and "it's my code" not in text
    assert text.splitlines()[1:] == ["mine.py"], "the task lies here already"
    shutil.move(place.mine, "mine.py")
    (line,) = printed(text)
    assert "written to" in place.said(*line, "--out", place.out, "--no-report")


def test_an_exported_notebook_names_commands_that_work_beside_the_method(place):
    place.said("export", place.mine, "--out", "notebooks")
    (file,) = place.folder.glob("notebooks/*.ipynb")
    cells = nbformat.reads(file.read_text(), as_version=4).cells
    shutil.move(place.mine, "mine.py")
    place.follow(cells[0].source, ["export"])
    (budget,) = {found for cell in cells for found in re.findall(r'"python -m local_eval (.*?)"', cell.source)}
    assert make_parser().parse_args([*shlex.split(budget), "--stock-epoch-seconds", "1"]).submission == "mine.py"
    assert place.said("export", "baseline_finetune[EPOCHS=2]", "--out", "notebooks")
    text = (place.folder / "notebooks" / "baseline_finetune[EPOCHS=2].ipynb").read_text()
    assert "python -m local_eval export 'baseline_finetune[EPOCHS=2]'" in text


def test_grading_fewer_again_leaves_the_page_of_the_larger_one_and_both_can_be_drawn(place, monkeypatch):
    place.said("grade", place.mine, *place.options, "--runs", "18")
    shown = (place.runs() / "score.json").read_bytes()
    said = place.said("grade", place.mine, *place.options, "--runs", "16")
    assert "the larger grading, N = 18, stays as it is" in said and "N16" in said
    place.said("compare", place.mine, *place.options, "--runs", "16")
    assert (place.runs() / "score.json").read_bytes() == shown
    for more, where in ((["--runs", "16"], place.runs() / "N16"), ([], place.runs())):
        assert f"report: {where / 'report.html'}" in place.said("report", place.mine, *place.options, *more)
    said = place.said("report", place.mine, *place.options, "--runs", "17", code=2)
    assert "there is one at N = 18, 16" in said
    place.follow(said, ["grade"])
    place.said("report", place.mine, *place.options, "--runs", "17")


def test_a_command_has_all_that_it_needs_and_quotes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("-odd.py", "a b.py", "it's.py", "sub/x.py", "größe.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("RATE = 1.0\nNAME = 'a'\ndef unlearning(net, a, b, c): pass\n")
        for given in (name if name[0] != "-" else f"./{name}", Submission(tmp_path / name, (("NAME", "'b c'"),))):
            line = command("grade", [given], task=TINY, runs=16, out="o p", seed=3, device="cpu", more=["--no-report"])
            read = resolved(make_parser().parse_args(shlex.split(line)[3:]))
            assert Submission.find(read.submissions[0]).path == tmp_path / name
            assert str(read.out) == "o p" and (read.seed, read.runs, read.device) == (3, 16, "cpu")


def test_a_task_travels_through_a_command_with_its_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").write_bytes(b"")
    (tmp_path / "n t.py").write_text("")
    changes = {"net": f"{tmp_path}/n t.py:f", "start": f"{tmp_path}/w.pth", "epochs": 3, "lr": 1e-3, "flip": True}
    changes |= {"milestones": [1, 2], "optimizer": "sgd", "original": f"{tmp_path}/w.pth"}
    for bare in ("digits", "cifar10:/data/c i", f"{TINY}:/data"):
        spec = with_changes(bare, changes)
        line = command("oracles", task=spec, runs=16)
        assert resolved(make_parser().parse_args(shlex.split(line)[3:])).task == spec
        short = command("oracles", task=spec, runs=16, whole=False)
        assert str(tmp_path) not in short and "/" not in short, "where the files lie it works"


def test_how_to_go_on_and_the_examples_of_help_parse():
    examples = make_parser().format_help().partition("examples:")[2]
    lines = [line.strip().partition("  ")[0] for line in examples.splitlines()]
    found = printed("\n".join([how_to_go_on(["grade", "a b.py", "--set", "X='y z'"]), *lines]))
    assert len(found) > 10
    for arguments in found:
        make_parser().parse_args(arguments)


WRITTEN_OUT = {  # where a command stands as a text, and not as what `command` has built
    "commands.py", "cli/parser.py", "isolation/sandbox.py", "kaggle/export.py", "kaggle/cells/driver.py",
    "oracles/oracles.py", "shared/writing.py",
}  # fmt: skip


def test_commands_are_built_in_one_place():
    package = ROOT / "local_eval"
    found = set()
    for file in package.rglob("*.py"):
        tree = ast.parse(file.read_text())
        documented = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.FunctionDef | ast.ClassDef)]
        about = {ast.get_docstring(node, clean=False) for node in documented}
        texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        if any("-m local_eval " in text for text in texts - about):
            found.add(str(file.relative_to(package)))
    assert found <= WRITTEN_OUT, found - WRITTEN_OUT
