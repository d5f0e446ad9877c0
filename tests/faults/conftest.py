"""The fault programme's table: every fault tells what was tried and what was lost; written where FAULTS_TABLE says."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from local_eval.engine.provenance import provenance
from local_eval.report.markers import write_between_markers
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


@pytest.fixture(scope="module")
def table(request):
    """The table of a file of tests, in docs/faults.md between marks of its name."""
    made = Table()
    yield made
    if os.environ.get("FAULTS_TABLE"):
        write(Path(os.environ["FAULTS_TABLE"]), request.module.__name__.rpartition(".test_")[2], made.rows)


def write(page: Path, name: str, rows: list[str]) -> None:
    """Put rows between `<!-- faults NAME -->` and its end."""
    about = provenance("cpu")
    caption = f"Measured on {about['hardware']}, torch {about['torch']}, commit {about['commit']}; `make test-faults`."
    write_between_markers(page, f"faults {name}", HEAD + "\n".join(rows) + f"\n\n{caption}")


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
