"""docs/files.md promises nothing that no test holds: each of its rows names a test that exists."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "files.md"
LONGEST = 150  # lines


def rows(text):
    """The last cells of all tables, their heads apart."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| kind ")]
    return [line.strip("|").rpartition("|")[2].strip() for line in lines]


def short_names(text):
    """{"T": "tasks/data/test_own_tables.py"}, as the page says."""
    return dict(re.findall(r"`([A-Z])`\s(?:is )?([\w/]+\.py)", text))


def exists(name, short):
    file, _, test = name.partition("::")
    path = TESTS / short.get(file, file)
    return path.is_file() and any(
        isinstance(node, ast.FunctionDef) and node.name == test for node in ast.parse(path.read_text()).body
    )


def test_every_row_names_a_test_that_exists():
    text = PAGE.read_text()
    assert len(rows(text)) > 50
    assert [name for name in rows(text) if not exists(name, short_names(text))] == []
    assert len(text.splitlines()) < LONGEST


@pytest.mark.parametrize("name", ["T::test_that_nobody_wrote", "nowhere.py::test_x", ""])
def test_a_row_without_a_test_would_be_found(name):
    assert not exists(name, short_names(PAGE.read_text()))
