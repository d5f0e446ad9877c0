"""Files from strangers, damaged and hostile: refused in our own words or read, in little memory and time, never run.

The plain suite reads a few of every kind. `make test-fuzz` reads more than 10,000 and writes the table of what came of
them into docs/safety.md.
"""

import collections
import os
from pathlib import Path

import pytest

from local_eval.report.compare import write_between_markers
from tests.fuzz.harness import DIFFERENT, EQUAL, REFUSED, WRONG, fuzz
from tests.fuzz.readers import READERS

FEW, MANY = 40, 900  # files of each kind
SEED = int(os.environ.get("FUZZ_SEED", "0"))
COLUMNS = (REFUSED, EQUAL, DIFFERENT, WRONG)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_few_damaged_files_are_refused_in_our_own_words_or_read(reader, tmp_path):
    tally, wrong = fuzz(reader, FEW, seed=SEED, folder=tmp_path)
    assert not wrong, "\n".join(wrong)
    assert tally.total() == FEW


@pytest.mark.fuzz
def test_ten_thousand_damaged_files_are_refused_in_our_own_words_or_read(tmp_path, capsys):
    found, wrong = {}, []
    for reader in READERS:
        found[reader.name], faults = fuzz(reader, MANY, seed=SEED + 1, folder=tmp_path / reader.name.replace(" ", "-"))
        wrong += faults
        with capsys.disabled():
            counts = ", ".join(f"{found[reader.name][column]} {column}" for column in COLUMNS)
            print(f"{reader.name}: {found[reader.name].total()} files, {counts}", flush=True)
    total = sum(found.values(), collections.Counter())
    assert total.total() >= 10_000
    if "FUZZ_LOG" in os.environ:
        Path(os.environ["FUZZ_LOG"]).write_text("\n".join(wrong) + "\n")
    if "FUZZ_TABLE" in os.environ:
        write_between_markers(Path(os.environ["FUZZ_TABLE"]), "fuzz table", table(found | {"all": total}))
    assert not wrong, "\n".join(wrong[:50])


def table(found: dict[str, collections.Counter]) -> str:
    """As Markdown, one row for a reader."""
    rows = [["what is read", "files", *COLUMNS], ["---"] * (2 + len(COLUMNS))]
    rows += [[name, tally.total(), *(tally[column] for column in COLUMNS)] for name, tally in found.items()]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
