"""A competition keeps its rules, its secrets and its count; what is given away holds nothing that must not be in it."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from local_eval.__main__ import main
from local_eval.host import judging, making
from local_eval.host.competition import (
    FINAL,
    PRIVATE,
    PUBLIC,
    Anchor,
    HostError,
    How,
    Scale,
    check_forget_set,
    opened,
    whole_spec,
)
from local_eval.methods.submission import SUBMISSIONS
from tests.conftest import TINY
from tests.host.conftest import WHERE, quickly


def test_the_starter_kit_holds_no_secret_no_model_and_no_solution(course_made):
    kit, competition = course_made / "course" / "starter_kit", opened(course_made / "course")
    files = {path.name: path.read_text() for path in kit.rglob("*") if path.is_file()}
    assert sorted(files) == ["README.md", "competition.json", "my_method.py", "starter.py"]
    seeds = {str(competition.part(name).seed) for name in (PUBLIC, PRIVATE, FINAL)}
    seeds |= {str(competition.secret(f"{name} forget set")) for name in (PRIVATE, FINAL)}
    forbidden = {competition.key.hex(), str(course_made), os.path.expanduser("~"), *seeds}
    for name, text in files.items():
        assert not {one for one in forbidden if one in text}, name
        assert not re.search(r"/(?:home|root|tmp|work|Users)/", text), name
    for name, source in (("my_method.py", "_template"), ("starter.py", "baseline_finetune")):
        assert files[name] == (SUBMISSIONS / f"{source}.py").read_text()
    assert json.loads(files["competition.json"])["seconds"] == competition.rules.seconds
    assert "You have 3 looks" in files["README.md"] and "10.5 seconds" in files["README.md"]
    assert "--task tiny_task.py" in files["README.md"], "without the host's folder"


def test_secrets_are_the_hosts_and_parts_differ_in_all_that_a_score_rests_on(course_made):
    competition = opened(course_made / "course")
    private = competition.private
    assert stat.S_IMODE(private.stat().st_mode) == 0o700 and stat.S_IMODE((private / "key").stat().st_mode) == 0o600
    assert competition.key.hex() not in (competition.folder / "competition.json").read_text()
    graders = [competition.grader(name, How("cpu")) for name in (PUBLIC, PRIVATE, FINAL)]
    persons = [tuple(sorted(one.task.forget.image_id.tolist())) for one in graders]
    assert len({one.seed for one in graders}) == len({one.fingerprint for one in graders}) == 3
    assert len(set(persons)) == 3 and len({len(one) for one in persons}) == 1
    assert [one.original_hash() for one in graders[:2]] != ["", ""]
    assert not (private / "parts" / FINAL).exists(), "what does not exist cannot be told"
    assert competition.part(PUBLIC).task == TINY


def test_the_same_command_goes_on_and_other_rules_are_refused(course, course_made, capsys):
    before = {path: path.stat().st_mtime_ns for path in course.rglob("*.npz")}
    assert main(["host", "init", str(course), *WHERE]) == 0
    assert "is ready" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in course.rglob("*.npz")}
    for words, named in (
        (["--runs", "32"], "says runs = 16, and 32 is asked for"),
        (["--looks", "9"], "says looks = 3"),
        (["--hours", "8"], "says hours = 1.5"),
        (["--task", "digits"], "says task = "),
        (["--anchors", "fanchuan", "salun"], "says anchors = "),
    ):
        assert main(["host", "init", str(course), *words]) == 2
        assert named in capsys.readouterr().err, words


def test_what_cannot_be_a_competition_is_refused_before_anything_is_made(tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    for words, named in (
        ([str(tmp_path / "new")], "name the task"),
        ([str(tmp_path / "full"), "--task", TINY], "holds something else"),
        ([str(tmp_path / "new"), "--task", TINY, "--runs", "8"], "too few"),
        ([str(tmp_path / "new"), "--task", "digist"], "did you mean digits"),
        ([str(tmp_path / "new"), "--task", TINY, "--anchors", "salun", "fanchaun"], "did you mean fanchuan"),
        ([str(tmp_path / "new"), "--task", TINY, "--anchors", "salun", "salun"], "two methods"),
        ([str(tmp_path / "new"), "--task", TINY, "--forget", "class:1"], "of another kind"),
        ([str(tmp_path / "new"), "--task", TINY, "--hours", "0"], "not a number above 0"),
    ):
        try:
            code = main(["host", "init", *words, "--device", "cpu"])
        except SystemExit as ended:
            code = ended.code
        assert code == 2 and named in capsys.readouterr().err, words
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["full", "thesis.txt"]
    check_forget_set("digits[forget='random:3']")
    assert whole_spec("digits[epochs=3]") == "digits[epochs=3]" and whole_spec(os.path.relpath(TINY)) == TINY


def test_a_competition_that_was_tampered_with_or_moved_to_other_versions_is_refused(course, tmp_path):
    rules = json.loads((course / "competition.json").read_text())

    def altered(change):
        (course / "competition.json").write_text(json.dumps(change))

    for change, named in (
        (rules | {"versions": rules["versions"] | {"torch": "1.0"}}, "made with torch 1.0"),
        (rules | {"format": 9}, "format 9"),
        (rules | {"scale": None}, "is not ready"),
        (rules | {"scale": {"zero": 3}}, "no competition's rules"),
        (rules | {"more": 3}, "no competition's rules"),
        ([], "no competition's rules"),
        (rules | {"key_sha256": "0" * 64}, "is not the key"),
    ):
        altered(change)
        with pytest.raises(HostError, match=named):
            opened(course)
    altered(rules | {"looks": 99})
    with pytest.raises(HostError, match="rules"):
        judging.judge(opened(course), course / "starter_kit" / "starter.py", "me", How("cpu", 1, None))
    altered(rules)
    (course / "private" / "key").write_text("abc")
    with pytest.raises(HostError, match="key cannot be read"):
        opened(course)
    with pytest.raises(HostError, match="make a competition first"):
        opened(tmp_path / "nowhere")


def test_names_and_files_that_cannot_be_taken_are_refused_and_cost_no_look(course, tmp_path, capsys):
    good = str(course / "starter_kit" / "my_method.py")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "folder.py").mkdir()
    for words, named in (
        ([good, "--as", "../me"], "is no name"),
        ([good, "--as", ""], "is no name"),
        ([good, "--as", "a" * 41], "is no name"),
        ([f"{good}[LR=3]", "--as", "me"], "one file"),
        ([str(tmp_path / "pipe.py"), "--as", "me"], "is no file"),
        ([str(tmp_path / "folder.py"), "--as", "me"], "is no file"),
        ([str(tmp_path / "none.py"), "--as", "me"], "cannot be read"),
        ([str(tmp_path / "copy.py"), "--as", "me"], "take it for a module"),
        ([str(Path(main.__code__.co_filename).parents[1] / "mine.py"), "--as", "me"], "take it for a module"),
        ([good, "--as", "me", "--device", "cuda"], "cuda"),
    ):
        assert main(["host", "judge", str(course), *words]) == 2, words
        out, err = capsys.readouterr()
        assert named in json.loads(out)["error"] and named in err, words
    assert not (course / "log.jsonl").exists()


def test_what_lies_in_the_current_folder_is_not_taken_for_pythons_own_modules(tmp_path):
    """A file that is handed in as copy.py must not run as the host, only because Python was started beside it."""
    planted = {"argparse", "copy", "json", "logging", "multiprocessing", "pickle", "random", "select", "shlex"}
    for name in planted | {"socket", "tempfile", "threading", "torch", "numpy", "ray", "opt_einsum"}:
        (tmp_path / f"{name}.py").write_text(f"print('RAN {name}')\n")
    kit = str(Path(main.__code__.co_filename).parents[1])
    words = [sys.executable, "-m", "local_eval", "host", "board", "nowhere"]
    done = subprocess.run(words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": kit}, capture_output=True, text=True)
    assert done.returncode == 2 and "make a competition first" in done.stderr and "RAN" not in done.stdout + done.stderr
    worker = "import multiprocessing.spawn, random, pickle; print('clean')"
    safe = {**os.environ, "PYTHONPATH": kit, "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, "-c", worker], cwd=tmp_path, env=safe, capture_output=True, text=True)
    assert done.stdout == "clean\n", "as the workers are started"


def test_looks_are_counted_by_version_and_end(course, tmp_path, monkeypatch):
    made = judging.Made(judging.FAILED, ("run 0 failed: it was to",))
    monkeypatch.setattr(judging, "_public_part", lambda *_: (made, "code"))
    used = []
    for version in (1, 1, 2, 3, 1):
        (tmp_path / "mine.py").write_text(f"VERSION = {version}\n")
        used.append(judging.judge(opened(course), tmp_path / "mine.py", "me", How("cpu", 1, None)).public["looks"])
    assert used == [{"used": one, "limit": 3} for one in (1, 1, 2, 3, 3)]
    (tmp_path / "mine.py").write_text("VERSION = 4\n")
    with pytest.raises(HostError, match="me has had 3 of 3 looks"):
        judging.judge(opened(course), tmp_path / "mine.py", "me", How("cpu", 1, None))
    judging.judge(opened(course), tmp_path / "mine.py", "somebody-else", How("cpu", 1, None))
    lines = [json.loads(line) for line in (course / "log.jsonl").read_text().splitlines()]
    assert [line["entrant"] for line in lines] == ["me"] * 5 + ["somebody-else"]
    assert all(line["sandbox"] is None and len(line["sha256"]) == 64 and line["when"] for line in lines)


def test_without_a_sandbox_nothing_is_judged_unless_that_is_asked_for(course, monkeypatch, capsys):
    monkeypatch.setattr("local_eval.isolation.sandbox.landlock_abi", lambda: 2)
    good = str(course / "starter_kit" / "my_method.py")
    assert main(["host", "judge", str(course), good, "--as", "me"]) == 2
    assert "cannot be had here" in json.loads(capsys.readouterr().out)["error"]
    assert not (course / "log.jsonl").exists()


def test_the_scale_is_0_at_the_starter_and_100_at_the_winner_and_none_where_they_stand_otherwise():
    starter, winner = Anchor("a", 0.02, (0.01, 0.03), 2.0), Anchor("b", 0.06, (0.05, 0.07), 10.0)
    scale = Scale(starter, winner, True)
    assert scale.of(0.02, (0.0, 0.04))["value"] == 0 and scale.of(0.06, (0.04, 0.1))["value"] == pytest.approx(100)
    assert scale.of(0.04, (0.0, 0.1))["interval"] == pytest.approx([-50, 200])
    assert Scale(winner, starter, False).of(0.04, (0, 1))["value"] is None
    assert making.allowed_seconds(8, [scale])[0] == 56.25
    assert making.allowed_seconds(None, [scale])[0] == 15.0, "half as long again as the winner"
    quick = Scale(starter, Anchor("b", 0.06, (0, 1), 3.0), True)
    assert making.allowed_seconds(None, [quick, quick])[0] == pytest.approx(11.25), "56.25 s where the starter takes 10"
    assert making.allowed_seconds(None, [Scale(Anchor("a", 0, (0, 1), 0.1), Anchor("b", 1, (0, 1), 0.1), True)])[0] == 2


def test_a_competition_within_what_entries_may_read_is_refused(course, monkeypatch):
    competition = opened(course)
    monkeypatch.setattr("local_eval.runs.plan._readable", lambda _: (str(course.parent), "/usr"))
    with pytest.raises(ValueError, match="move it elsewhere"):
        judging.refuse_without_sandbox(competition, How("cpu", 1, "full"))


def test_an_interrupted_init_goes_on_with_the_same_key(course_made, tmp_path):
    begun = shutil.copytree(course_made / "course", tmp_path / "begun")
    rules = json.loads((begun / "competition.json").read_text())
    (begun / "competition.json").write_text(json.dumps(rules | {"seconds": None, "scale": None}))
    for gone in (begun / "private" / "log_head.json", begun / "starter_kit" / "README.md"):
        gone.unlink()
    with quickly():
        assert main(["host", "init", str(begun), *WHERE]) == 0
    again = json.loads((begun / "competition.json").read_text())
    assert again["key_sha256"] == rules["key_sha256"] and again["scale"] == rules["scale"]
    assert (begun / "starter_kit" / "README.md").exists() and opened(begun).rules.is_ready
