"""Constants are changed in the text: what follows from them follows, and what does not fit is refused by name."""

import ast

import numpy as np
import pytest

from local_eval.kaggle.export import export, submission_notebook
from local_eval.methods.contract import load_submission
from local_eval.methods.settings import changed_source, label, split_name, with_settings, with_values
from local_eval.methods.submission import Submission
from local_eval.store.errors import InputError

SOURCE = '''"""A method."""
EPOCHS = 3
LR: float = 1e-3 * EPOCHS
BIG = (
    1,
    2,
)
NAME = "résumé"; FLAG = True
NOTHING = None
DERIVED = [EPOCHS] * 2
lower = 1


def unlearning(net, retain_loader, forget_loader, val_loader):
    return EPOCHS, LR, BIG, NAME, FLAG, NOTHING, DERIVED
'''


def values(submission):
    return load_submission(Submission.find(submission))(1, 2, 3, 4)


@pytest.mark.parametrize(
    "settings, expected",
    [
        ("", (3, 3e-3, (1, 2), "résumé", True, None, [3, 3])),
        ("[EPOCHS=5]", (5, 5e-3, (1, 2), "résumé", True, None, [5, 5])),
        ("[LR=2,FLAG=False]", (3, 2, (1, 2), "résumé", False, None, [3, 3])),
        ("[BIG=(7,), NAME='x=1,y']", (3, 3e-3, (7,), "x=1,y", True, None, [3, 3])),
        ("[BIG=[1, 2, 3]]", (3, 3e-3, [1, 2, 3], "résumé", True, None, [3, 3])),
        ("[NOTHING={'a': 1}, LR=-1e-2]", (3, -1e-2, (1, 2), "résumé", True, {"a": 1}, [3, 3])),
    ],
)
def test_what_is_set_is_what_runs_and_what_follows_from_it(submission, settings, expected):
    assert values(submission(SOURCE) + settings) == expected


@pytest.mark.parametrize(
    "settings, said",
    [
        ("[EPOCH=5]", "no constant EPOCH; did you mean EPOCHS? its constants in capitals: EPOCHS = 3"),
        ("[lower=5]", "no constant lower"),
        ("[EPOCHS=2.5]", "EPOCHS is 3, an integer; 2.5 does not fit"),
        ("[EPOCHS=True]", "an integer; True does not fit"),
        ("[FLAG=1]", "True or False; 1 does not fit"),
        ("[LR='fast']", "a number; 'fast' does not fit"),
        ("[BIG=3]", "tuple; 3 does not fit"),
        ("[NAME=3]", "a text; 3 does not fit"),
        ("[EPOCHS=EPOCHS+1]", "must hold NAME=VALUE"),
        ("[3]", "must hold NAME=VALUE"),
        ("[**x]", "must hold NAME=VALUE"),
        ("[EPOCHS=]", "must hold NAME=VALUE"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(submission, settings, said):
    with pytest.raises(InputError) as error:
        Submission.find(submission(SOURCE) + settings)
    assert said in str(error.value)


def test_lines_keep_their_numbers_so_that_tracebacks_fit():
    changed = changed_source(SOURCE, (("BIG", "(9,)"), ("NAME", "'é'")), "x.py")
    before, after = ast.parse(SOURCE), ast.parse(changed)
    assert [n.lineno for n in before.body] == [n.lineno for n in after.body]
    assert changed.splitlines()[8:] == SOURCE.splitlines()[8:]


def test_a_constant_that_is_assigned_twice_is_changed_twice(submission):
    path = submission(
        "A = 1\nB = A\nA = 2\ndef unlearning(net, retain_loader, forget_loader, val_loader): return A, B\n"
    )
    assert values(path + "[A=7]") == (7, 7)


def test_set_and_brackets_are_the_same_and_the_last_one_counts():
    assert with_settings("fanchuan", ["EPOCHS=9", "RETAIN_LR=1e-3"]) == "fanchuan[EPOCHS=9,RETAIN_LR=0.001]"
    assert with_settings("fanchuan[EPOCHS=9]", ["EPOCHS=3"]) == "fanchuan[EPOCHS=3]"
    assert split_name("a/b.py[X='[1]']") == ("a/b.py", (("X", "'[1]'"),))
    assert label(*split_name("fanchuan[EPOCHS = 9]")) == "fanchuan[EPOCHS=9]"
    for wrong in ("EPOCHS", "=3", "1x=3", "NAME=word", "NAME="):
        with pytest.raises(InputError, match="--set"):
            with_settings("fanchuan", [wrong])


def test_values_from_python_are_written_as_literals():
    name = with_values("fanchuan[EPOCHS=9]", {"RETAIN_LR": np.float64(1e-3), "NAMES": ["a", (1, None)], "EPOCHS": 3})
    assert name == "fanchuan[EPOCHS=3,RETAIN_LR=0.001,NAMES=['a', (1, None)]]"
    assert split_name(name)[1] == (("EPOCHS", "3"), ("RETAIN_LR", "0.001"), ("NAMES", "['a', (1, None)]"))
    for wrong in (float("inf"), {1, 2}, len, np.zeros(3), "x".__class__, object()):
        with pytest.raises(InputError, match="settings: LR is .* cannot hold as a literal"):
            with_values("fanchuan", {"LR": wrong})


def test_a_setting_is_part_of_the_identity_and_of_the_name():
    plain, same, other = (Submission.find(n) for n in ("fanchuan", "fanchuan[EPOCHS=8]", "fanchuan[EPOCHS=9]"))
    assert plain.digest() == same.digest() != other.digest()
    assert other.label == "fanchuan[EPOCHS=9]"


def test_a_notebook_carries_the_changed_constant(tmp_path):
    assert "EPOCHS = 9" in submission_notebook(Submission.find("fanchuan[EPOCHS=9]"))
    path = export(Submission.find("baseline_finetune[EPOCHS=2]"), tmp_path)
    assert path.name == "baseline_finetune[EPOCHS=2].ipynb"
