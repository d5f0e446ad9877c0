"""A function that a file defines is graded by that file, if the file is still what was imported."""

import importlib
import sys

import pytest

from local_eval.methods.from_python import file_of
from local_eval.methods.source import SubmissionError

TEXT = """
EPOCHS = 3
class Loss:
    def forward(self):
        return EPOCHS
def helper():
    return EPOCHS
def unlearning(net, retain_loader, forget_loader, val_loader):
    return helper()
def other(net, retain_loader, forget_loader, val_loader):
    return helper()
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that was imported from a file of the user's."""
    (tmp_path / "a_method_of_mine.py").write_text(TEXT)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("a_method_of_mine")
    del sys.modules["a_method_of_mine"]


def test_its_unlearning_is_its_file_and_other_functions_are_not(module, tmp_path):
    assert file_of(module.unlearning) == tmp_path / "a_method_of_mine.py"
    assert file_of(module.other) is None
    assert file_of(print) is None
    assert file_of(object()) is None


@pytest.mark.parametrize(
    "change, reported",
    [
        (lambda m: setattr(m, "EPOCHS", 5), "holds another EPOCHS than"),
        (lambda m: setattr(m, "helper", lambda: 1), "holds another helper than"),
        (lambda m: setattr(m.Loss, "forward", lambda self: 1), "holds another Loss than"),
        (lambda m: delattr(m, "helper"), "holds another helper than"),
    ],
)
def test_a_module_that_was_changed_is_refused(change, reported, module):
    change(module)
    with pytest.raises(SubmissionError, match=f"a_method_of_mine {reported}.*importlib.reload"):
        file_of(module.unlearning)


@pytest.mark.parametrize("old, new", [("EPOCHS = 3", "EPOCHS = 4"), ("return helper()", "return helper() + 1")])
def test_a_file_that_was_changed_is_refused_and_comments_are_not(old, new, module, tmp_path):
    file = tmp_path / "a_method_of_mine.py"
    file.write_text("# a comment\n\n" + TEXT)
    assert file_of(module.unlearning) == file
    file.write_text(TEXT.replace(old, new))
    with pytest.raises(SubmissionError, match="holds another"):
        file_of(module.unlearning)
