"""Divide the board's families into a part to tune a task on and a part to test it on. This was done once.

Some families were not drawn. Those in TUNE had been used to tune a small task before there was a board, so they cannot
test one. Those in TEST are the remaining winners, none of which had been looked at in that way. A family in neither is
drawn. When the rows were written there was none, so the seed has decided nothing yet.

How it was run: .venv/bin/python -m local_eval.board.draw results/kaggle_board_rows.csv
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from local_eval.board.rows import Row, read_rows, save_rows

SEED = 0
TUNE = ("baseline_finetune", "fanchuan", "seif_achour", "toshi_k_marvelworld", "baseline_neggrad", "random_mask")
TEST = ("kookmin", "oleszko", "amnesiacs", "jiaxi_sun", "forget")


def draw(rows: Sequence[Row], seed: int = SEED) -> list[Row]:
    """The rows with their parts filled in; a part that is there stays.

    Families without one come in an order that the seed decides. Each goes to the part that has fewer rows by then.
    """
    part = {row.family: row.part for row in rows if row.part}
    part = dict.fromkeys(TUNE, "tune") | dict.fromkeys(TEST, "test") | part
    waiting = sorted({row.family for row in rows} - set(part))
    random.Random(seed).shuffle(waiting)
    for family in waiting:
        sizes = Counter(part.get(row.family) for row in rows)
        part[family] = "tune" if sizes["tune"] < sizes["test"] else "test"
    return [replace(row, part=part[row.family]) for row in rows]


if __name__ == "__main__":
    file = Path(sys.argv[1])
    save_rows(draw(read_rows(file, drawn=False)), file)
