"""Names on the command line are whole or refused with the nearest; options stand in groups; numbers have ranges."""

import subprocess
from pathlib import Path

import pytest

from local_eval.__main__ import main
from local_eval.cli import parser
from local_eval.cli.arguments import CHANGES, CLUSTER, ELSEWHERE, RARE, USUAL, Exit, near_names
from local_eval.cli.parser import make_parser
from local_eval.methods.submission import looks_like_checkpoints
from local_eval.metric import quick, score
from tests.conftest import TINY


def said(words, capsys):
    """The exit code of a command that is refused, and its message."""
    try:
        code = main(words)
    except SystemExit as ended:
        code = ended.code
    return code, capsys.readouterr().err


def test_no_option_of_any_command_can_be_abbreviated(capsys):
    tried = 0
    for verb, command in make_parser().commands.items():
        for option in command.options:
            short = option[:-1]
            if len(option) > 4 and short not in command.options:
                code, text = said([verb, short, "16"], capsys)
                assert code == 2 and f"{verb} has no option {short}" in text, (verb, short)
                assert option not in command.shown_options or f"did you mean {option}" in text, (verb, short)
                tried += 1
    assert tried > 100


def test_every_misspelled_name_is_answered_with_the_one_that_was_meant(tmp_path, capsys):
    (tmp_path / "my_method.py").write_text("")
    (tmp_path / "faces.csv").write_text("")
    for words, meant in (
        (["grad", "fanchuan"], "did you mean grade?"),
        (["LEADERBOARD"], "did you mean leaderboard"),
        (["fanchuan"], "did you mean python -m local_eval grade fanchuan?"),
        (["my.ipynb", "--runs", "16"], "did you mean python -m local_eval grade my.ipynb?"),
        (["zzz"], "there are grade, run"),
        (["--runs", "16", "grade", "fanchuan"], "the command comes first"),
        (["grade", "fanchaun"], "did you mean fanchuan?"),
        (["grade", "Fanchuan"], "did you mean fanchuan?"),
        (["compare", "fanchuan", "salum"], "did you mean salun?"),
        (["grade", "fanchuan.py"], "did you mean fanchuan?"),
        (["grade", "zzz"], "there are amnesiacs, "),
        (["check", str(tmp_path / "my_metod.py")], f"did you mean {tmp_path / 'my_method.py'}?"),
        (["check", str(tmp_path / "nowhere" / "my_metod.py")], "there are amnesiacs, "),
        (["check", "--task", "digist"], "did you mean digits"),
        (["check", "--task", "zzz"], "there are cifar10, "),
        (["check", "--task", str(tmp_path / "face.csv")], f"did you mean {tmp_path / 'faces.csv'}?"),
        (["grade", "fanchuan", "--set", "EPOCH=3"], "did you mean EPOCHS?"),
        (["grade", "fanchuan", "--recipe", "momentun=1"], "did you mean momentum?"),
        (["grade", "fanchuan", "-runs", "16"], "did you mean --runs?"),
        (["grade", "fanchuan", "--keep_checkpoints"], "did you mean --keep-checkpoints?"),
        (["export", "fanchuan", "--keep-checkpoints"], "; grade has it"),
    ):
        code, text = said(words, capsys)
        assert code == 2 and text.startswith("error: ") and meant in text, (words, text)


def test_values_that_look_like_options_stay_values(capsys):
    options = make_parser().parse_args(["submit", "fanchuan", "--message", "-3", "--dry-run"])
    assert options.message == "-3" and options.dry_run
    assert make_parser().parse_args(["grade", "--lr=-1e-3", "--", "-odd.py"]).submissions == ["-odd.py"]


def test_numbers_that_make_no_sense_are_refused_as_they_are_given(capsys):
    for words in (
        ["grade", "fanchuan", "--runs", "0"],
        ["grade", "fanchuan", "--runs", "-64"],
        ["run", "fanchuan", "--runs", "8"],
        ["score", "fanchuan", "--runs", "15"],
        ["compare", "fanchuan", "--runs", "15"],
        ["oracles", "--runs", "0"],
        ["headroom", "--runs", "8"],
        ["leaderboard", "--runs", "8"],
        ["quick", "fanchuan", "--runs", "2"],
        ["board", "--runs", "8"],
        ["grade", "fanchuan", "--runs", "1e3"],
        ["grade", "fanchuan", "--workers", "0"],
        ["grade", "fanchuan", "--timeout", "0"],
        ["grade", "fanchuan", "--timeout", "nan"],
        ["grade", "fanchuan", "--timeout", "inf"],
        ["grade", "fanchuan", "--budget-hours", "-8"],
        ["grade", "fanchuan", "--seeds", "0", "-1"],
        ["grade", "fanchuan", "--originals", "0"],
        ["budget", "fanchuan", "--repeats", "0"],
        ["bench", "--models", "0"],
        ["submit", "fanchuan", "--wait-hours", "0"],
    ):
        code, text = said(words, capsys)
        assert code == 2 and words[-1] in text, (words, text)


def test_each_commands_least_number_of_runs_is_the_one_that_its_work_refuses():
    assert parser.FEWEST[0] == score.LEAST_RUNS and parser.FEWEST_TO_LOOK_AT[0] == quick.FEWEST
    for verb, command in make_parser().commands.items():
        if command.get_default("runs"):
            fewest, _ = command.get_default("fewest")
            assert 0 < fewest <= command.get_default("runs"), verb


def test_help_shows_options_in_groups_usual_ones_first_and_all_exit_codes():
    text = make_parser().commands["grade"].format_help()
    places = [text.index(f"\n{title}:") for title in (USUAL, ELSEWHERE, CHANGES, CLUSTER, RARE)]
    assert places == sorted(places) and text.index("--task") < places[1] < text.index("--engine") < places[4]
    assert places[4] < text.index("--originals") and text.startswith("usage: python -m local_eval grade [submissions")
    whole = make_parser().format_help()
    for code in Exit:
        assert f"  {code.value:<5}{code.meaning}" in whole
    assert "rare options" not in make_parser().commands["list"].format_help()


def test_near_names_are_those_that_it_begins_and_then_those_that_are_spelled_alike():
    assert near_names("--allow", ["--allow-missing", "--all", "--out"]) == ["--allow-missing", "--all"]
    assert near_names("xyz", ["--runs"]) == [] and near_names("", ["--runs"]) == []


def test_completion_knows_commands_options_and_names(capsys, tmp_path):
    pytest.importorskip("shtab")
    for shell in ("bash", "zsh"):
        with pytest.raises(SystemExit) as ended:
            main(["--print-completion", shell])
        assert not ended.value.code
        script = capsys.readouterr().out
        assert "leaderboard" in script and "--allow-missing" in script and "unlearn-eval" in script, shell
        if shell == "bash":
            path = Path(tmp_path / "complete.bash")
            asked = 'COMP_WORDS=(unlearn-eval grade fanc); COMP_CWORD=2; _shtab_unlearn_eval; echo "${COMPREPLY[@]}"'
            path.write_text(f"{script}\n{asked}\n")
            done = subprocess.run(["bash", path], capture_output=True, text=True, cwd=tmp_path)
            assert done.stdout.strip() == "fanchuan", done.stderr


def test_a_folder_is_taken_for_models_only_where_no_submission_has_its_name(tmp_path, monkeypatch, capsys):
    """notebooks/ has a folder for every submission, and a notebook starts there."""
    for name in ("fanchuan", "results"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert not looks_like_checkpoints("fanchuan") and looks_like_checkpoints("./fanchuan")
    for verb in ("run", "score"):
        assert main([verb, "results", "--task", TINY]) == 2
        assert "results is no submission; if it holds finished models, grade them: python -m" in capsys.readouterr().err
        assert main([verb, "fanchuan", "--task", "nowhere"]) == 2, "the submission, on a task that does not exist"
        assert "no task 'nowhere'" in capsys.readouterr().err


def test_only_shared_files_are_put_on_a_leaderboard_by_name(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("x = 1")
    for path in (tmp_path / "mine.py", tmp_path, tmp_path / "none.zip"):
        assert main(["leaderboard", str(path), "--task", TINY, "--out", str(tmp_path / "out")]) == 2
        assert f"{path} was not made by `share`" in capsys.readouterr().err
