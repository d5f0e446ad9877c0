"""The fault programme's table: every fault tells what was tried and what was lost; written where FAULTS_TABLE says."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from local_eval.report.compare import write_between_markers
from local_eval.store.provenance import provenance
from tests.faults.harness import Store

HEAD = "| what was done | how often | finished runs lost | scores changed | how it ended |\n|---|---|---|---|---|\n"


@dataclass
class Table:
    """Rows in the order of the tests."""

    rows: list[str] = field(default_factory=list)

    def tell(self, what: str, times: int, lost: int, changed: int, end: str) -> None:
        """One row; the numbers are counted by the test, which fails unless both are 0."""
        self.rows.append(f"| {what} | {times} | {lost} | {changed} | {end} |")
        print(self.rows[-1], flush=True)
        assert (lost, changed) == (0, 0), self.rows[-1]


@pytest.fixture(scope="session")
def measured():
    """What it was tried with; asked for before the first table is written, which changes the commit to a dirty one."""
    about = provenance("cpu")
    return f"Tried on {about['hardware']}, torch {about['torch']}, commit {about['commit']}, with `make test-faults`."


@pytest.fixture(scope="module")
def write(request, measured):
    """write(head and rows, name=that of the file of tests): into FAULTS_TABLE between marks, if it is to be written."""

    def between(text: str, name: str = request.module.__name__.rpartition(".test_")[2]) -> None:
        if page := os.environ.get("FAULTS_TABLE"):
            write_between_markers(Path(page), f"faults {name}", f"{text}\n\n{measured}")

    return between


@pytest.fixture(scope="module")
def table(write):
    """The table of a file of tests."""
    made = Table()
    yield made
    write(HEAD + "\n".join(made.rows))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """A finished grading that nothing has disturbed; made in this process, so that those forked from it start warm."""
    torch.set_num_threads(1)
    store = Store(tmp_path_factory.mktemp("undisturbed"))
    assert store.grade() == 0
    store.grader.score(str(store.path))
    return store


@pytest.fixture
def store(tmp_path):
    """A place for a grading of the same submission, empty."""
    return Store(tmp_path)
