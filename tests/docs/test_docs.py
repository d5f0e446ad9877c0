"""The pages are true as far as a machine can tell: links lead somewhere, commands parse, code compiles, examples run.

A Python block under `<!-- run -->` is run as it is. One under `<!-- file: PATH -->` is written to PATH in a copy of the
kit, and one under `<!-- add to: PATH -->` to the end of it; the tests among them, and those in in_copy.py, are run
there. Those under `<!-- session -->` are run by
test_python_page.py. Each law goes over all pages at once and names the page that breaks it.
"""

import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from local_eval.__main__ import main
from local_eval.cli.parser import make_parser
from local_eval.grader import Grader
from local_eval.report.compare import around_markers
from local_eval.report.result import save_score
from local_eval.store.provenance import VERSION
from local_eval.tasks.loading import load_task
from tests.conftest import TINY, in_this_process
from tests.docs.pages import DOCS, PAGES, README, ROOT, anchors, blocks, commands, links, name, read
from tests.metric.test_score import score

BLOCKS = [block for page in PAGES for block in blocks(page)]
PYTHON = [block for block in BLOCKS if block.kind == "python"]
FILES = {block.mark.removeprefix("file: "): block.text for block in BLOCKS if block.mark.startswith("file: ")}
ADDED = {block.mark.removeprefix("add to: "): block.text for block in BLOCKS if block.mark.startswith("add to: ")}
COMMANDS = sorted({(name(page), " ".join(c)): c for page in PAGES for c in commands(read(page))}.items())
GENERATED = {"docs/results.md": ["table digits"], "docs/kaggle.md": ["budget table"], "docs/safety.md": ["fuzz table"]}
FAULTS = [
    "kills",
    "damaged_files",
    "disks",
    "submissions_that_misbehave",
    "memory",
]  # tables that make test-faults writes
LONGEST = {"README.md": 150, "CHANGELOG.md": 400}  # lines of a page; of all others 200


def test_every_relative_link_leads_to_a_file_and_a_heading():
    headings = {page: anchors(page) for page in PAGES}
    for page in PAGES:
        for target in links(page):
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), f"{name(page)} links to {target}, which does not exist"
            assert not anchor or anchor in headings[file], f"{name(page)} links to {target}; no heading is called so"


def test_every_page_is_one_click_from_the_readme_and_back():
    linked = {target.partition("#")[0] for target in links(README)}
    for page in DOCS:
        assert name(page) in linked, f"the README does not link to {name(page)}"
        back = {(page.parent / target.partition("#")[0]).resolve() for target in links(page)}
        assert README in back, f"{name(page)} does not link to the README"


def test_every_study_is_linked_from_a_page():
    studies = {name(page) for page in PAGES} - {name(page) for page in (README, *DOCS)}
    linked = {
        (page.parent / t.partition("#")[0]).resolve().relative_to(ROOT).as_posix() for page in DOCS for t in links(page)
    }
    assert studies
    assert studies <= linked


def test_no_page_is_long():
    for page in PAGES:
        lines = read(page).splitlines()
        assert len(lines) <= LONGEST.get(name(page), 200), name(page)
        wide = [line for line in lines if len(line) > 120 and not line.startswith("|") and "](http" not in line]
        assert not [line for line in wide if not line.startswith(("Ceiling ", "Measured on "))], name(page)


def parses(command):
    """Does the command line take these arguments?"""
    try:
        make_parser().parse_args(command)
    except SystemExit as stopped:  # --help ends with 0, a wrong command with 2
        return stopped.code == 0
    return True


def test_every_command_parses(capsys):
    wrong = [f"{page}: python -m local_eval {text}" for (page, text), command in COMMANDS if not parses(command)]
    assert not wrong, "\n".join(wrong) + capsys.readouterr().err


def test_a_wrong_command_and_a_dead_link_would_be_found():
    (wrong,) = commands("Try `python -m local_eval grade --runz 64` now.")
    assert wrong == ["grade", "--runz", "64"]
    assert not parses(wrong)
    assert "no-such-heading" not in anchors(README)
    assert len(COMMANDS) > 30
    assert len(links(README)) > 10


@pytest.mark.parametrize("page", sorted({b.page for b in PYTHON if b.mark == "run"}))
def test_examples_run_as_they_read(page):
    for block in PYTHON:
        if (block.page, block.mark) == (page, "run"):
            exec(compile(block.text, block.page, "exec"), {"__name__": "example"})


def test_every_python_block_is_run_somehow():
    others = [b.page for b in PYTHON if b.mark != "run" and not b.mark.startswith(("file: ", "add to: "))]
    assert set(others) == {"docs/python.md"}, "its session is run by test_python_page.py"
    assert {b.mark for b in PYTHON if b.page == "docs/python.md"} == {"session"}


def test_generated_tables_stand_between_their_markers():
    for page in PAGES:
        marked = re.findall(r"^<!-- ((?:table \w+)|(?:\w+ table)) -->$", read(page), re.MULTILINE)
        assert marked == GENERATED.get(name(page), [])
        for marker in marked + [f"faults {one}" for one in FAULTS if name(page) == "docs/safety.md"]:
            before, after = around_markers(page, marker)
            between = read(page).removeprefix(before).removesuffix(after)
            assert between.startswith("|"), f"{name(page)}, {marker}"
            assert between.count("\n|") > 4, f"{name(page)}, {marker}"


def test_cheap_commands_of_the_pages_do_what_they_say(monkeypatch, capsys):
    monkeypatch.setattr("local_eval.isolation.share_gpu.run_jobs", in_this_process)
    assert main(["list"]) == 0
    assert "fanchuan" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    capsys.readouterr()
    assert main(["check", "fanchuan", "--set", "EPOCHS=1", "--task", TINY, "--device", "cpu"]) == 0
    assert "keeps the contract" in capsys.readouterr().out


def test_score_json_is_described_field_by_field(tmp_path, original_out):
    about = Grader(TINY, original_out).about() | {"settings": {}, "made_from": {}, "untold": [], "kaggle": {}}
    there = json.loads(save_score(score(models=16), tmp_path, "mine", "tiny", about).read_text())
    table = read(ROOT / "docs" / "scores.md").partition("## score.json")[2]
    described = {
        field for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE) for field in re.findall(r"`(\w+)`", row)
    }
    assert described == set(there)


def test_the_own_task_example_loads_its_data_and_its_network_is_tried(tmp_path):
    rng, count = np.random.default_rng(0), 100
    data = {"images": rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), "patients": np.arange(count) // 2}
    np.savez(tmp_path / "cells.npz", labels=rng.integers(0, 4, count), **data)
    (tmp_path / "cells.py").write_text(FILES["cells.py"])
    task = load_task(f"{tmp_path / 'cells.py'}:{tmp_path / 'cells.npz'}")
    assert task.forget.person_id.max() < 15 <= task.retain.person_id.min()
    assert sum(len(split) for split in task.splits.values()) == count


@pytest.fixture(scope="module")
def copy_with_examples(tmp_path_factory):
    """The kit as it is after somebody has followed CONTRIBUTING's three examples."""
    copy = tmp_path_factory.mktemp("kit")
    for folder in ("local_eval", "common", "submissions", "studies", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for path, text in FILES.items():
        (copy / path).write_text(text)
    for path, text in ADDED.items():
        (copy / path).write_text(f"{(copy / path).read_text()}\n\n{text}")
    page = read(ROOT / "docs" / "extending.md")
    entries = re.findall(r"^    (LEARNING_RATES|READS) +(.+,?)$", page, re.MULTILINE)
    file = copy / "tests" / "submissions" / "test_submissions.py"
    for table, entry in entries:
        file.write_text(file.read_text().replace(f"\n{table} = {{\n", f"\n{table} = {{\n    {entry}\n", 1))
    assert len(entries) == 2
    return copy


def test_the_examples_keep_the_style_that_they_ask_for(copy_with_examples):
    for action in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *action, *FILES, *ADDED]
        done = subprocess.run(command, cwd=copy_with_examples, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def run_there(copy: Path, tests: list[str], said: Path) -> None:
    """In a fork, which has loaded torch: run tests of the copy, whose modules are imported anew."""
    for module in [
        module for module in sys.modules if module.split(".")[0] in ("local_eval", "common", "submissions", "tests")
    ]:
        del sys.modules[module]
    os.chdir(copy)
    sys.path[:] = [str(copy), *(place for place in sys.path if Path(place).resolve() not in (ROOT, Path.cwd()))]
    for variable in [variable for variable in os.environ if variable.startswith("PYTEST_")]:
        del os.environ[variable]
    with open(said, "w") as file:
        sys.stdout = sys.stderr = file
        code = pytest.main(["-n", "0", "-p", "no:cacheprovider", f"--rootdir={copy}", *tests])
    os._exit(code)


def test_the_examples_work_in_a_copy_of_the_kit(copy_with_examples):
    file = "tests/submissions/test_submissions.py"
    tests = [path for path in FILES if path.startswith("tests/")] + ["tests/docs/in_copy.py"]
    tests += [
        f"{file}::test_every_submission_is_in_these_tests",
        "tests/test_rooms.py::test_imports_point_to_earlier_rooms",
    ]
    said = copy_with_examples / "said.txt"
    child = multiprocessing.get_context("fork").Process(target=run_there, args=(copy_with_examples, tests, said))
    child.start()
    child.join()
    assert child.exitcode == 0, said.read_text()
    assert re.search(r"\b(\d+) passed", said.read_text())


PATH = re.compile(r"(?<![\w/.-])(?:local_eval|submissions|common|tests|results|docs|studies)/[\w/-]+\.(?:py|md|npz)\b")


@pytest.mark.parametrize("folder", ["local_eval", "submissions", "common", "studies"])
def test_commands_and_files_that_the_code_speaks_of_are_there(folder):
    for file in (ROOT / folder).rglob("*.py"):
        how_to = "\n".join(re.findall(r"^How to [a-z ]+: (python -m local_eval .*)$", file.read_text(), re.MULTILINE))
        assert all(map(parses, commands(how_to))), f"{file.relative_to(ROOT)} says: {how_to}"
        gone = {path for path in PATH.findall(file.read_text()) if not (ROOT / path).exists()}
        assert not gone, f"{file.relative_to(ROOT)} speaks of {', '.join(sorted(gone))}"


def test_the_citation_names_the_kits_version():
    assert f"\nversion: {VERSION}\n" in read(ROOT / "CITATION.cff")


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_make_help_has_a_line_for_every_target():
    targets = re.search(r"^\.PHONY: (.+)$", read(ROOT / "Makefile"), re.MULTILINE)[1].split()
    alone = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE")
    }  # not `make test`'s child
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True, env=alone).stdout
    assert sorted(line.split()[0] for line in said.splitlines()) == sorted(targets)
    assert {"grade", "test", "bench", "clean", "help"} <= set(targets)
    assert read(ROOT / "Makefile").index("\ngrade:") < read(ROOT / "Makefile").index("\nhelp:"), "grade is the default"
