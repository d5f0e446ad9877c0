"""What `import local_eval` offers is there and works (that it costs nothing until then: cli/test_first_minute.py)."""

import functools
import html
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import local_eval
from local_eval.api import Graded
from local_eval.grader import Grader
from local_eval.isolation.child import Failure
from local_eval.methods.submission import submission_path
from local_eval.report.table import table
from tests.conftest import GOOD, TINY, work_here
from tests.methods.test_written_out import session
from tests.metric.test_score import score as made_up_score


@functools.cache
def score():
    """Too few models to project from, which would take seconds."""
    return made_up_score(models=16)


def test_every_name_that_is_offered_is_there():
    assert [getattr(local_eval, name).__name__ for name in local_eval.OFFERED] == list(local_eval.OFFERED)


def test_other_names_are_refused_with_what_there_is():
    with pytest.raises(AttributeError, match="it has .*forgetting_quality"):
        _ = local_eval.nothing


def test_the_old_address_of_task_files_still_works():
    from local_eval.tasks.loading import load_task
    from local_eval.tasks.recipe import Recipe
    from local_eval.tasks.task import Split, Task

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
    monkeypatch.setattr("local_eval.api.check_submission", lambda name, *_, **__: ["it prints"])
    monkeypatch.setattr(Grader, "finish_oracles", lambda self: asked.append((self.task_spec, self.runs, self.out)))
    monkeypatch.setattr(Grader, "score", lambda self, *_: (score(), self.out))

    def finish_runs(grader, found):
        asked.append(found.path)
        return {}, {3: Failure("ValueError: unlucky", "", "half way\n")} if "unlucky" in found.label else {}

    monkeypatch.setattr(Grader, "finish_runs", finish_runs)
    return asked


def test_a_function_a_path_and_a_name_are_graded_by_their_files(stages, tmp_path, submission, capsys):
    path, more = submission(), {"task": TINY, "runs": 16, "out": tmp_path / "out", "device": "cpu"}
    for given in (path, Path(path), "fanchuan", session(HERE)["mine"]):
        assert local_eval.grade(given, **more).score == score().score
    assert stages[0] == (TINY, 16, tmp_path / "out")
    assert stages[1::2][:3] == [Path(path), Path(path), submission_path("fanchuan")]
    assert stages[-1].relative_to(tmp_path / "out" / "from_python").name == "mine.py"
    assert "check: it prints" in capsys.readouterr().err


def test_settings_change_constants_for_one_grading(stages, tmp_path, submission, monkeypatch):
    seen = []
    monkeypatch.setattr(Grader, "score", lambda self, found, *_: (seen.append(found.settings), (score(), "x"))[1])
    path, more = submission("STEPS = 3\n" + GOOD), {"task": TINY, "runs": 16, "out": tmp_path / "out", "device": "cpu"}
    for given in (path, f"{path}[STEPS=9]"):
        local_eval.grade(given, **more, settings={"STEPS": np.int64(5)})
    local_eval.grade(path, **more, settings={})
    local_eval.grade(session(HERE)["mine"], **more, settings={"AMOUNT": 0.5})
    assert seen == [(("STEPS", "5"),)] * 2 + [(), (("AMOUNT", "0.5"),)]
    (tmp_path / "models.zip").write_bytes(b"")
    for given, settings, said in (
        (path, {"STEP": 5}, "no constant STEP; .*did you mean STEPS"),
        (path, {"STEPS": 0.5}, "STEPS is 3, an integer; 0.5 does not fit"),
        (path, {"STEPS": np.ones(2)}, r"STEPS is array.*\(numpy.ndarray\), which a file cannot hold"),
        (path, {"STEPS": float("nan")}, r"STEPS is nan \(float\)"),
        (path, {"STEPS": torch.float32}, r"STEPS is torch.float32 \(torch.dtype\)"),
        (path, {3: 5}, "3 is no name of a constant"),
        (tmp_path / "models.zip", {"STEPS": 5}, "finished models, which have no constants"),
    ):
        with pytest.raises(local_eval.InputError, match=said):
            local_eval.grade(given, **more, settings=settings)


def test_what_is_no_submission_is_told_before_anything_is_made(tmp_path):
    number = "3 is no submission; give a name, a path or a function"
    for given, reported in ((3, number), (None, "None is no"), ("nobody", "no submission")):
        with pytest.raises(local_eval.InputError, match=reported):
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
    reported = f'my script.py, line {line}: calls local_eval.grade at the top level.*under `if __name__ == "__main__":`'
    with pytest.raises(local_eval.InputError, match=reported if refused else "no submission 'nobody'"):
        exec(compile(lines, str(script), "exec"), vars(main))


def test_a_notebook_without_a_file_is_no_script(monkeypatch):
    main = ModuleType("__main__")
    main.grade = local_eval.grade
    monkeypatch.setitem(sys.modules, "__main__", main)
    with pytest.raises(local_eval.InputError, match="no submission 'nobody'"):
        exec(compile("grade('nobody')", "<cell 1>", "exec"), vars(main))


@pytest.fixture(scope="module")
def graded_task(tmp_path_factory):
    """A task of arrays, graded: class 2 is to be forgotten, and its original is far better than its oracles."""
    classes = np.arange(240) % 3
    rng = np.random.default_rng(0)
    images = np.clip(rng.integers(40, 215, (3, 3, 6, 6))[classes] + rng.normal(0, 60, (240, 3, 6, 6)), 0, 255).round()
    gone = np.flatnonzero(classes == 2)[:40]
    kept = np.setdiff1d(np.arange(160), np.flatnonzero(classes == 2))
    rest = np.arange(160, 240)
    parts = [(images[k], classes[k]) for k in (kept, gone, rest[:40], rest[40:])]
    make_net = session("import torch", "from torch import nn", NET)["net"]
    torch.manual_seed(0)
    original, everything = make_net(), torch.tensor(images, dtype=torch.float32)
    optimiser = torch.optim.Adam(original.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(original(everything), torch.tensor(classes)).backward()
        optimiser.step()
    task = local_eval.task_from(
        *parts, make_net=make_net, recipe=local_eval.Recipe(1, 1e-5, 0.0), name="gone", original=original
    )
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        work_here(patch)
        score = local_eval.grade(session(HERE)["mine"], task=task, runs=16, out=out, device="cpu", workers=1)
    return task, score, out


NET = """
def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.ReLU(), nn.Linear(8, 3))
"""


def test_a_task_of_arrays_is_graded_from_a_file_that_the_command_line_takes_too(graded_task):
    task, score, out = graded_task
    (path,) = (out / "from_python").glob("*/gone.py")
    (folder,) = out.glob("gone-*")
    assert folder.name == f"gone-{local_eval.load_task(path).fingerprint()}" and score.runs == 16
    assert len(list((folder / "oracles").glob("*.npz"))) >= 16
    assert local_eval.load_task(path).notes == task.notes


def test_an_original_that_is_better_than_its_oracles_is_told_and_lifts_no_share_of_the_ceiling(graded_task):
    _, score, out = graded_task
    ahead = {one.data["who"]: set(one.data["sets"]) for one in score.warning_details if one.kind == "ahead"}
    assert ahead == {"original": {"retain", "test"}, "submission": {"retain", "test"}}
    assert score.utility > 1.3
    assert score.quality_over_ceiling == score.forgetting_quality / score.ceiling
    assert score.score_over_ceiling == pytest.approx(score.quality_over_ceiling * score.utility)
    (row,) = local_eval.graded(out)
    assert row["quality_over_ceiling"] == score.quality_over_ceiling
    text = table(score, "mine", "gone")
    assert f"of the ceiling {score.quality_over_ceiling:18.2f}  forgetting quality / ceiling" in text
    assert "clearly better than the oracles" in text


def test_a_forgotten_class_stands_in_the_table_in_score_json_and_in_the_notes(graded_task):
    _, score, out = graded_task
    (row,) = local_eval.graded(out)
    kept = local_eval.read_score(row["path"])["forgotten_classes"]
    assert kept["classes"] == [2] and kept["unlearned"]["test"] == score.forgotten.unlearned["test"]
    assert kept["unlearned"]["retain"]["forgotten"] is None and 0 <= kept["oracles"]["test"]["forgotten"] <= 1
    text = table(score, "mine", "gone")
    for kind in ("forgotten", "kept"):
        assert f"test, {kind} classes" in text and f"original {kept['original']['test'][kind]:.4f}" in text
    assert "class 2 is in the forget set alone" in text


def test_a_graded_score_prints_five_lines_draws_its_page_and_shows_the_pages_head(tiny_graded, monkeypatch):
    monkeypatch.setattr("local_eval.api.check_submission", lambda *_: pytest.fail("all runs are there: no dry run"))
    path = str(tiny_graded / "mine.py")
    found = local_eval.grade(path, task=TINY, runs=16, out=tiny_graded / "out", device="cpu", workers=1)
    first, *others = str(found).splitlines()
    assert first.startswith(f"mine on tiny: score {found.score:.4f} at N = 16") and len(others) == 4
    assert [line.split()[0] for line in others[:2]] == ["forgetting", "ceiling"]
    page = found.report()
    assert page.name == "report.html" and page.parent.name.startswith("mine-")
    assert local_eval.read_score(page.with_name("score.json"))["score"] == found.score
    shown = found._repr_html_()
    head = html.unescape(re.search('srcdoc="([^"]*)"', shown)[1])
    assert re.search("<h1>.*</h1>", head)[0] in page.read_text() and head.endswith("</header></main></body></html>")
    assert "<svg" not in head and "<script" not in head
    unlearned, retrained = found.confidences()
    assert local_eval.forgetting_quality(unlearned, retrained) == found.forgetting_quality
    with pytest.warns(UserWarning, match="N = 15 is too few: below 16"):
        local_eval.forgetting_quality(unlearned[:15], retrained[:15])


def test_a_score_without_a_page_says_so_in_a_notebook(tiny_graded, monkeypatch):
    def fails(*_):
        raise local_eval.InputError("runs have <changed>")

    monkeypatch.setattr("local_eval.api.make_report", fails)
    found = Graded.from_score(score(), Grader(TINY, tiny_graded / "out", runs=16), Path("their <models>"))
    assert str(found).startswith("their <models> on tiny: score ") and len(str(found).splitlines()) == 5
    assert found._repr_html_().startswith("<pre>their &lt;models&gt; on tiny")
    assert found._repr_html_().endswith("no page: runs have &lt;changed&gt;</pre>")


def test_what_the_metric_gives_prints_in_a_few_lines_and_shows_in_a_notebook():
    unlearned, retrained = np.random.default_rng(0).normal(size=(2, 24, 12))
    compared = local_eval.compare_methods(unlearned, unlearned - 3, retrained, order="models, examples")
    for one, least in (
        (compared, 3),
        (local_eval.project(unlearned, retrained, models=48, order="models, examples"), 2),
        (local_eval.score_interval(unlearned, retrained, order="models, examples"), 3),
        (score(), 5),
    ):
        assert least <= len(str(one).splitlines()) <= 5
        assert one._repr_html_() == f"<pre>{html.escape(str(one))}</pre>"
    assert str(compared).startswith(f"the first method is {compared.verdict} than the second at N = 24")
    equal = local_eval.compare_methods(unlearned, unlearned, retrained, ahead=False, order="models, examples")
    assert str(equal).startswith("cannot tell the first method from the second") and "would" not in str(equal)
    unknown = replace(score(), score=float("nan"))
    assert "so there is no score" in str(unknown) and len(str(unknown).splitlines()) == 5
