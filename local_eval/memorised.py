"""Which persons of the forget set are memorised, from models that exist anyway: the original and the oracles.

Random forget sets flatter methods: most of what they hold would be answered the same by a network that never saw it.
An example is memorised as far as networks that were trained on it are right more often than networks that were not,
P(right when in) - P(right when out) (Feldman, STOC 2020; Zhao et al., NeurIPS 2024, arXiv 2406.01257). Where that is
the same, the shift of the logit-scaled confidence from out to in decides. A person's are the means of its examples.

    vulnerable   the half of the persons that is memorised most
    protected    the other half
    mixed        every other person in the order of the two

Each is a table beside the task's results, forget/vulnerable.csv and so on, which --forget takes. It is written once:
more oracles later do not change what a finished grading forgot.

How to use it: python -m local_eval grade fanchuan --forget vulnerable
"""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from local_eval.grader import Grader
from local_eval.metric.metric import logit_scaled_confidence
from local_eval.store.errors import InputError
from local_eval.store.files import write_atomically
from local_eval.tasks.names import FORGET, RANKED, split_changes, with_changes

FEWEST = 16  # oracles; a share of right answers among fewer says little
FOLDER = "forget"


@dataclass(frozen=True)
class Memorised:
    """The persons of a forget set, the most memorised first."""

    persons: np.ndarray  # int64 [P]
    memorisation: np.ndarray  # float64 [P], -1 to 1: mean of P(right when in) - P(right when out)
    shift: np.ndarray  # float64 [P]: logit-scaled confidence of models that were trained on them, less that of others

    def chosen(self, kind: str) -> np.ndarray:
        """Positions of the persons of one of RANKED; a half of an odd number goes to the vulnerable ones."""
        order, half = np.arange(len(self.persons)), (len(self.persons) + 1) // 2
        return {"vulnerable": order[:half], "protected": order[half:], "mixed": order[::2]}[kind]


def ranked(inside: np.ndarray, outside: np.ndarray, labels: np.ndarray, persons: np.ndarray) -> Memorised:
    """Rank persons by what models trained with and without them answer.

    Args:
        inside, outside: logits [models, E, C] of models that were and were not trained on the E examples.
        labels, persons: int64 [E].
    """
    right_in, right_out = ((logits.argmax(2) == labels).mean(0) for logits in (inside, outside))
    how = {"kind": "logits", "order": "models, examples"}
    sure_in, sure_out = (logit_scaled_confidence(logits, labels, **how).mean(0) for logits in (inside, outside))
    each = np.unique(persons)
    memorisation, shift = (
        np.array([gap[persons == person].mean() for person in each])
        for gap in (right_in - right_out, sure_in - sure_out)
    )
    order = np.lexsort((each, -shift, -memorisation))
    return Memorised(each[order], memorisation[order], shift[order])


def forget_file(spec: str, out: Path, kind: str) -> Path:
    """The table of the persons that --forget KIND means on a task; it is measured and written if it is not there.

    Raises:
        InputError: the spec names a forget set of its own, or there are too few oracles or persons.
        TaskError: the task cannot be loaded.
    """
    if FORGET in split_changes(spec)[1]:
        raise InputError(f"{spec} and --forget {kind}: two forget sets are named; leave one of them out")
    grader = Grader(with_changes(spec, {}), out, runs=FEWEST)
    path = grader.folder / FOLDER / f"{kind}.csv"
    if path.exists():
        return path.resolve()
    found, count = _measured(grader), len(np.unique(grader.labels_and_persons[1]))
    if count < 2:
        raise InputError(f"--forget {kind}: the forget set is one person; there are no two halves of it")
    for one in RANKED:
        write_atomically(grader.folder / FOLDER / f"{one}.csv", _table(found, one).encode())
    print(f"--forget {kind}: {path} says how much each person is memorised", file=sys.stderr)
    return path.resolve()


def _measured(grader: Grader) -> Memorised:
    oracles = grader.cached_oracles()
    if len(oracles) < FEWEST:
        train = grader.command("oracles", runs=FEWEST)
        raise InputError(f"who is memorised is measured with {FEWEST} oracles, and {len(oracles)} are there: {train}")
    grader.finish_originals()
    inside, outside = (
        np.stack([record.evaluation.forget_logits for record in records])
        for records in (grader.original_records(), oracles)
    )
    return ranked(inside, outside, *grader.labels_and_persons)


def _table(found: Memorised, kind: str) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["person_id", "memorisation", "confidence_shift"])
    for k in found.chosen(kind):
        rows.writerow([found.persons[k], f"{found.memorisation[k]:.4f}", f"{found.shift[k]:.4f}"])
    return text.getvalue()
