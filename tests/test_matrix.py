"""`make test-matrix` installs what fits, runs tests that exist, and keeps the rows of pairs that it did not try."""

import runpy
import sys

import pytest

from local_eval.methods.submission import ROOT

MATRIX = runpy.run_path(str(ROOT / ".ci" / "test_matrix.py"))


@pytest.mark.parametrize("torch, vision", [("2.6", "0.21"), ("2.9", "0.24"), ("2.14", "0.29")])
def test_torchvision_goes_with_torch(torch, vision):
    assert MATRIX["packages"](torch)[:2] == [f"torch=={torch}.*", f"torchvision=={vision}.*"]
    names = [line.partition(">")[0] for line in MATRIX["packages"](torch)[2:]]
    assert {"numpy", "pebble", "pytest", "safetensors"} <= set(names)
    assert not {"torch", "torchvision", "kaggle", "ruff"} & set(names)


def test_the_core_is_there():
    for name in MATRIX["CORE"]:
        file, _, test = name.partition("::")
        assert f"def {test}" in (ROOT / "tests" / file).read_text()


def test_an_interpreter_is_found_by_its_version_or_not_at_all():
    here = ".".join(map(str, sys.version_info[:2]))
    assert MATRIX["interpreter"](here)
    assert MATRIX["interpreter"]("3.99") is None


def test_rows_that_were_not_tried_this_time_stay(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- matrix -->\n| Python | torch | result |\n|---|---|---|\n<!-- end matrix -->\nb\n")
    MATRIX["save"]([("3.12", "2.10", "one"), ("3.12", "2.6", "two")], page)
    MATRIX["save"]([("3.11", "2.14", "three"), ("3.12", "2.6", "four")], page)
    lines = [line for line in page.read_text().splitlines() if line.startswith("| 3.")]
    assert lines == ["| 3.11 | 2.14 | three |", "| 3.12 | 2.6 | four |", "| 3.12 | 2.10 | one |"]
    assert page.read_text().startswith("a\n") and page.read_text().endswith("\nb\n")
