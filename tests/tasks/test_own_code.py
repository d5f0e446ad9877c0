"""A function's code is what it does: its own, and what it reaches in its file and the files beside it."""

import functools
import importlib.util
import itertools
import sys

import pytest

from local_eval.tasks.names import TaskError
from local_eval.tasks.own_code import Coded

SOURCE = '''
import math
from beside import STEPS
import whole

RATE = 0.1
UNUSED = 1
TABLE = {}
TABLE["a"] = 2

class Helper:
    """Said."""
    def go(self):
        return RATE * math.pi + TABLE["a"] + whole.something()

def helped():
    return Helper().go()

def train(net, loader, seed):
    """Train."""
    for _ in range(STEPS):
        helped()

def unlearning():
    return UNUSED

def make(rate, network=helped):
    def inner(net, loader, seed):
        return rate * helped()
    return inner

nameless = lambda net, loader, seed: helped()
'''
numbers = itertools.count()


@pytest.fixture
def code(tmp_path):
    """code(name, change=None, ...) -> short hash of what a name of a changed SOURCE stands for."""

    def hashed(what="train", change=None, beside="STEPS = 3\nOTHER = 1\n", whole="def something():\n    return 1\n"):
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        source = SOURCE if change is None else SOURCE.replace(*change)
        assert change is None or source != SOURCE
        for name, text in (("mine", source), ("beside", beside), ("whole", whole)):
            (folder / f"{name}.py").write_text(text)
        spec = importlib.util.spec_from_file_location("mine", folder / "mine.py")
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(folder))
            for name in ("beside", "whole"):
                patch.delitem(sys.modules, name, raising=False)
            patch.setitem(sys.modules, "mine", module)
            spec.loader.exec_module(module)
            for name in ("beside", "whole"):
                patch.delitem(sys.modules, name)
            found = what(module) if callable(what) else getattr(module, what)
            return Coded.of(found, "mine.py: Task.train").code

    return hashed


CHANGES = {
    "its own body": ("range(STEPS)", "range(STEPS + 1)"),
    "what it calls": ("Helper().go()", "Helper().go() + 1"),
    "what that calls": ("math.pi", "math.e"),
    "a constant": ("RATE = 0.1", "RATE = 0.2"),
    "an item that is set later": ('TABLE["a"] = 2', 'TABLE["a"] = 3'),
}
SAME = {
    "a docstring": ('"""Train."""', '"""Train it well."""'),
    "another's docstring": ('"""Said."""', '"""Told."""'),
    "a comment": ("RATE = 0.1", "RATE = 0.1  # found by trying"),
    "lines": ("RATE = 0.1", "\n\n\nRATE = 0.1"),
    "what it does not reach": ("UNUSED = 1", "UNUSED = 2"),
    "another function": ("return UNUSED", "return UNUSED + 1"),
}


def test_what_it_reaches_counts_and_nothing_else(code):
    usual = code()
    assert {name: code(change=change) != usual for name, change in CHANGES.items()} == dict.fromkeys(CHANGES, True)
    assert {name: code(change=change) == usual for name, change in SAME.items()} == dict.fromkeys(SAME, True)
    assert code(beside="STEPS = 4\nOTHER = 1\n") != usual
    assert code(beside="STEPS = 3\nOTHER = 2\n") == usual
    assert code(whole="def something():\n    return 2\n") != usual


def test_what_a_function_is_given_counts(code):
    kinds = {
        "inner 1": lambda m: m.make(0.1),
        "inner 2": lambda m: m.make(0.2),
        "partial 1": lambda m: functools.partial(m.train, seed=1),
        "partial 2": lambda m: functools.partial(m.train, seed=2),
        "lambda": "nameless",
        "class": "Helper",
    }
    found = {name: code(what) for name, what in kinds.items()}
    assert len(set(found.values())) == len(kinds)
    assert {name: code(what) for name, what in kinds.items()} == found
    assert code("nameless", CHANGES["a constant"]) != found["lambda"]


def test_what_cannot_be_followed_is_refused():
    kept = object()

    def keeps(net, loader, seed):
        return kept

    there = {}
    exec("def train(net, loader, seed): pass", there)
    for function, message in (
        (keeps, "keeps a object"),
        (there["train"], "source is not to be had"),
        (3, "no function"),
    ):
        with pytest.raises(TaskError, match=f"mine.py: Task.train .*{message}"):
            Coded.of(function, "mine.py: Task.train")
