"""A function of a notebook or a script becomes a file that does the same, or is refused with the way that works."""

import ast
import functools
import itertools
import linecache
import math

import pytest
import torch

from local_eval.methods.contract import load_submission
from local_eval.methods.from_python import write_out
from local_eval.methods.source import SubmissionError
from local_eval.methods.submission import Submission

HEAD = "def unlearning(net, retain_loader, forget_loader, val_loader"
CELLS = itertools.count(1)


def run_cell(text, names):
    """What a notebook does with a cell: its source is kept under a name of its own."""
    file = f"<cell {next(CELLS)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    exec(compile(text, file, "exec", dont_inherit=True), names)
    return names


def session(*cells):
    names = {"__name__": "__main__", "__doc__": None}
    for text in cells:
        run_cell(text, names)
    return names


def written(tmp_path, *cells, name="unlearning"):
    """What the written file's `unlearning` is, loaded as a submission is."""
    path = write_out(session(*cells)[name], tmp_path)
    return load_submission(Submission.find(str(path)))


@pytest.mark.parametrize(
    "cells",
    [
        ("E = 3", f"{HEAD}):\n    return E"),
        ("E = 1", f"{HEAD}):\n    return E", "E = 3"),
        ("import torch as t", f"{HEAD}):\n    return int(t.nn.functional.relu(t.tensor(3)))"),
        ("import torch.nn.functional as F\nimport torch", f"{HEAD}):\n    return int(F.relu(torch.tensor(3)))"),
        ("import xml.etree.ElementTree", f"{HEAD}):\n    return 3 if xml.etree.ElementTree.Element else 0"),
        ("from torch import tensor, float32\nfrom math import floor as f", f"{HEAD}):\n    return f(tensor(3.5))"),
        ("X = {'lr': [1, (2.0, None)], 'n': -3}", f"{HEAD}):\n    return -X['n']"),
        ("def g():\n    return h() + 1", "def h():\n    return 2", f"{HEAD}):\n    return g()"),
        ("def g(n):\n    return 3 if n == 0 else g(n - 1)", "old = g", f"{HEAD}):\n    return old(5)"),
        ("def g():\n    return 1", "f = g", f"{HEAD}):\n    return f() + g() + f()"),
        ("def odd(n):\n    return even(n - 1)", "def even(n):\n    return n or 3", f"{HEAD}):\n    return odd(1)"),
        ("E = 3", f"{HEAD}, epochs=E, *, lr=1e-3):\n    return epochs"),
        ("from torch.nn import Module", f"{HEAD.replace('net,', 'net: Module,')}) -> Module:\n    return 3"),
        ("from __future__ import annotations\n" + HEAD.replace("net,", "net: Nobody,") + "):\n    return 3",),
        (f"{HEAD}):\n    class A:\n        x = 3\n        y = x\n    return A.y",),
        (f"if True:\n    {HEAD}):\n        '''Text.'''\n        return 3\n",),
        (f"{HEAD}):\n    return [x for x in (1, 2, 3)][-1]  # a comment, ünd ein Wort",),
        (f"{HEAD}):\n    return 1", f"{HEAD}):\n    return 3"),
    ],
)
def test_a_function_that_text_alone_makes_works_as_it_does_in_its_session(cells, tmp_path):
    assert session(*cells)["unlearning"](1, 2, 3, 4) == 3, "the case is sound"
    assert written(tmp_path, *cells)(1, 2, 3, 4) == 3


@pytest.mark.parametrize("value", ["torch.device('cpu')", "torch.float16", "True", "'a\\n\\'b'", "-0.0", "1j", "(1,)"])
def test_constants_come_back_as_they_are_now(value, tmp_path):
    found = written(tmp_path, f"import torch\nX = {value}", f"{HEAD}):\n    return X")(1, 2, 3, 4)
    assert type(found) is type(eval(value))
    assert repr(found) == repr(eval(value))


def test_a_function_of_another_name_is_graded_under_its_own(tmp_path):
    names = session("def mine(net, r, f, v):\n    return 3")
    path = write_out(names["mine"], tmp_path)
    assert path.stem == "mine"
    assert load_submission(Submission.find(str(path)))(1, 2, 3, 4) == 3
    assert write_out(names["mine"], tmp_path) == path, "the same function, the same file"
    assert write_out(session("def mine(net, r, f, v):\n    return 4")["mine"], tmp_path) != path


@pytest.mark.parametrize(
    "cells, reported",
    [
        (("import torch\nT = torch.zeros(2)", f"{HEAD}):\n    return T"), "it uses T, a Tensor of this session"),
        (("import torch\nL = torch.nn.ReLU()", f"{HEAD}):\n    return L"), "it uses L, a ReLU of this session"),
        (("class Net: pass", f"{HEAD}):\n    return Net()"), "it uses Net, a class of this session"),
        (("X = float('nan')", f"{HEAD}):\n    return X"), "it uses X, a float of this session"),
        (("import numpy as np\nX = np.float64(3)", f"{HEAD}):\n    return X"), "it uses X, a float64"),
        (("X = [print]", f"{HEAD}):\n    return X"), "it uses X, a list of this session"),
        (("g = lambda: 3", f"{HEAD}):\n    return g()"), "a lambda, cannot be written out"),
        ((f"N = 0\n{HEAD}):\n    global N\n    N += 1",), "sets the global N"),
        ((f"{HEAD}):\n    return nobody",), "it uses nobody, which is not defined here"),
        ((f"{HEAD}):\n    display(net)",), "display, which exists in a notebook only"),
        ((f"{HEAD}):\n    return globals()['X']",), r"it calls globals\(\)"),
        ((f"{HEAD}):\n    return __name__",), "it uses __name__ of this session"),
        (("E = 1", f"{HEAD}, epochs=E):\n    return epochs", "E = 2"), "a default of unlearning is E"),
        ((f"{HEAD}, made=[].copy()):\n    return made",), r"a default of unlearning is \[\].copy\(\)"),
        ((f"{HEAD}, e=3):\n    return e", "unlearning.__defaults__ = (4,)"), "a default of unlearning is 3"),
        ((f"{HEAD}):\n    return 1", "unlearning.epochs = 3"), "a decorator or attributes"),
        ((f"def same(f):\n    return f\n@same\n{HEAD}):\n    return 1",), "a decorator or attributes"),
        (
            ("def g(): return 1", "old = g", "def g(): return old()", f"{HEAD}):\n    return g()"),
            "two things named g",
        ),
        (("def g(): return 1", "old = g", "g = 5", f"{HEAD}):\n    return old() + g"), "two things named g"),
        (("def g(): return 1", "zzz = g", "g = 5", f"{HEAD}):\n    return zzz() + g"), "two things named g"),
        ((f"{HEAD}):\n    return 1", "def better(n, r, f, v):\n    unlearning(n, r, f, v)"), "rename that one"),
        ((f"exec('''{HEAD}):\n    return 1''')",), "the source of unlearning cannot be had"),
    ],
)
def test_what_more_than_text_makes_is_refused_by_name(cells, reported, tmp_path):
    names = session(*cells)
    with pytest.raises(SubmissionError, match=reported):
        write_out(names.get("better") or names["unlearning"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_function_whose_name_has_come_to_mean_something_else_is_refused(tmp_path):
    names = session(f"{HEAD}):\n    return unlearning", "mine = unlearning", "unlearning = 5")
    with pytest.raises(SubmissionError, match="two things named unlearning"):
        write_out(names["mine"], tmp_path)


def test_a_source_that_is_not_what_was_defined_is_refused(tmp_path):
    names = session(f"{HEAD}):\n    return 1")
    file = names["unlearning"].__code__.co_filename
    linecache.cache[file] = (1, None, [f"{HEAD}):\n", "    return 2\n"], file)
    with pytest.raises(SubmissionError, match="is not what was defined; define it again"):
        write_out(names["unlearning"], tmp_path)


def outer():
    kept = 3

    def unlearning(net, retain_loader, forget_loader, val_loader):
        return kept

    def free(net, retain_loader, forget_loader, val_loader):
        return math.floor(3.5)

    return unlearning, free


class Method:
    def __call__(self, net, retain_loader, forget_loader, val_loader):
        return 3

    def unlearning(self, net, retain_loader, forget_loader, val_loader):
        return 3


@pytest.mark.parametrize(
    "function, reported",
    [
        (lambda net, r, f, v: None, "a lambda"),
        (functools.partial(outer, 1), "a functools.partial"),
        (Method(), "a Method, no function"),
        (Method().unlearning, "a method, which keeps its object"),
        (Method, "a class"),
        (print, "a builtin_function_or_method"),
        (outer()[0], "keeps kept of the function around it"),
        (torch.no_grad()(outer()[1]), "in a decorator's wrapper"),
        (functools.lru_cache(outer()[1]), "a _lru_cache_wrapper"),
    ],
)
def test_other_callables_are_refused_with_the_way_that_works(function, reported, tmp_path):
    with pytest.raises(SubmissionError, match=f"{reported}.*%%writefile my_method.py"):
        write_out(function, tmp_path)


def test_a_function_inside_another_that_keeps_nothing_works(tmp_path):
    path = write_out(outer()[1], tmp_path)
    assert load_submission(Submission.find(str(path)))(1, 2, 3, 4) == 3
    ast.parse(path.read_text())
