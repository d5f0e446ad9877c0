"""What `pip install .` installs is whole: every package and file of data, what they need, and the command."""

import fnmatch
import importlib
import subprocess
import tomllib

import local_eval
from local_eval.store.files import KIT, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUP = PROJECT["tool"]["setuptools"]
PLACES = {one: SETUP["package-dir"].get(one, one.replace(".", "/")) for one in SETUP["packages"]}
LEFT_OUT = {"results/digits_leaderboard.html"}  # a page that the README shows; no command reads it


def tracked(*folders):
    done = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_every_file_of_the_kit_is_in_a_package_and_is_taken_along():
    files = tracked("local_eval", "common", "submissions", "results")
    assert len(files) > 100
    for file in files:
        folder, _, name = file.rpartition("/")
        (package,) = [one for one, place in PLACES.items() if place == folder]
        taken = name.endswith(".py") or any(
            fnmatch.fnmatch(name, pattern) for pattern in SETUP["package-data"].get(package, ())
        )
        assert taken != (file in LEFT_OUT), file
    assert all((ROOT / place).is_dir() for place in PLACES.values())


def test_it_needs_what_the_repository_needs_in_the_same_versions():
    bounds = {}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        bounds[line.partition(">")[0]] = line.partition("#")[0].strip()
    needed = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["kaggle"]]
    assert [one for one in needed if bounds[one.partition(">")[0]] != one] == []
    only_for_tests = {"pytest", "pytest-xdist", "html5lib", "ruff", "nbclient", "ipykernel"}
    assert bounds.keys() - {one.partition(">")[0] for one in needed} == only_for_tests
    cluster = [line.partition("#")[0].strip() for line in (ROOT / "requirements-cluster.txt").read_text().splitlines()]
    assert PROJECT["project"]["optional-dependencies"]["cluster"] == cluster


def test_the_command_is_the_one_of_the_module_and_the_version_the_packages():
    module, _, name = PROJECT["project"]["scripts"]["unlearn-eval"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    assert SETUP["dynamic"]["version"]["attr"] == "local_eval.__version__" and local_eval.__version__
    assert KIT == ROOT, "tests are of the repository"
