"""A copy of a shipped method or of another entry is flagged however cheaply it is disguised; honest methods are not."""

import ast
import itertools
import random

from local_eval.host import similarity
from local_eval.host.similarity import SHARED, hides, own_shingles, resemblances
from local_eval.methods.submission import Submission, submission_names
from tests.conftest import GOOD

WINNERS = ("fanchuan", "kookmin", "seif_achour", "toshi_k_marvelworld", "forget", "oleszko", "jiaxi_sun", "amnesiacs")


class Renamed(ast.NodeTransformer):
    """Every name that the file makes becomes another, every number and text is changed, docstrings go."""

    def __init__(self, tree):
        made = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        made |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        made |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        self.names = {name: f"renamed_{k}" for k, name in enumerate(sorted(made - {"unlearning"}))}

    def visit_Name(self, node):  # noqa: N802 (ast's name)
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_arg(self, node):
        node.arg, node.annotation = self.names.get(node.arg, node.arg), None
        return node

    def visit_FunctionDef(self, node):  # noqa: N802
        self.generic_visit(node)
        node.name = self.names.get(node.name, node.name)
        return node

    def visit_Constant(self, node):  # noqa: N802
        number = isinstance(node.value, int | float) and not isinstance(node.value, bool)
        return ast.Constant(node.value * 1.1) if number else node


def renamed(source):
    tree = ast.parse(source)
    return ast.unparse(ast.fix_missing_locations(Renamed(tree).visit(tree)))


def shuffled(source):
    """Functions in another order, below each other."""
    tree = ast.parse(source)
    random.Random(3).shuffle(tree.body)
    return ast.unparse(tree)


def padded(source):
    """A statement that does nothing after every other one."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.For | ast.If | ast.With):
            between = [ast.parse("unused = [1, 2]").body[0] for _ in node.body]
            node.body = [one for pair in zip(node.body, between) for one in pair][:-1]
    return ast.unparse(ast.fix_missing_locations(tree))


def hidden(source):
    """In a file that does a lot of other things."""
    others = [Submission.find(name).source() for name in ("salun", "scrub")]
    return "\n".join([*others, source])


def flagged(source, others=None):
    return {one.other for one in resemblances(source, others or {}) if one.is_flagged}


def test_every_winner_is_recognised_under_every_cheap_disguise():
    for name in WINNERS:
        source = Submission.find(name).source()
        for disguise in (str, renamed, shuffled, hidden, padded, lambda text: shuffled(padded(renamed(text)))):
            assert name in flagged(disguise(source)), (name, disguise)


def test_no_winner_is_flagged_for_another_and_the_margin_is_wide():
    known = similarity.shipped_shingles()
    for one, other in itertools.combinations(WINNERS, 2):
        assert similarity._alike(other, known[one], known[other]).share < SHARED / 2, (one, other)


def test_what_the_starter_kit_gives_away_is_nobodys():
    for name in ("_template", "baseline_finetune"):
        path = Submission.find(str(similarity.SUBMISSIONS / f"{name}.py"))
        assert own_shingles(path.source()) == frozenset() and not flagged(path.source(), {"a": path.source()})
    few = GOOD.replace("            weight += 0.01 * torch.randn_like(weight)\n", "            weight.mul_(0.9)\n")
    assert not flagged(few, {"other": few}), "eight lines resemble nothing that could be told"


def test_entries_are_compared_with_each_other():
    theirs = Submission.find("salun").source().replace("mask", "gate") + "\ndef more(x):\n    return x.sum() + 1\n"
    assert {"anna (1234)", "salun"} <= flagged(renamed(theirs), {"anna (1234)": theirs})
    own = "\n".join(f"def step_{k}(net, x):\n    return net.part{k}(x.mul(x).relu_()).sum().sqrt()\n" for k in range(9))
    assert flagged(renamed(own), {"anna (1234)": own}) == {"anna (1234)"}


def test_a_file_that_nests_too_deeply_to_be_compared_is_named_and_stops_nothing():
    deep = f"X = {'-' * 2000}1\n"
    assert own_shingles(deep) == frozenset() and hides(deep) == ["nothing in it can be compared"]
    assert all(one.other != "deep" for one in resemblances(Submission.find("salun").source(), {"deep": deep}))
    assert own_shingles("X = " + "f(" * 150 + ")" * 150)


def test_what_keeps_a_reader_from_understanding_is_named_with_its_line():
    for source, named in (
        ("x = exec('y = 1')", "line 1: calls exec"),
        ("import base64\nx = base64.b64decode('')", "line 2: calls b64decode"),
        ("\nimport gc", "line 2: imports gc"),
        ("import sys\nx = sys.modules", "line 2: looks at sys.modules"),
        (f"W = '{'QUJD' * 400}'", "a text of 1600 characters"),
        (f"W = {list(range(300))}", "a list of 300 values"),
        (f"W = {{{', '.join(f'{k}: {k}' for k in range(300))}}}", "a list of 300 values"),
        ("from local_eval.grader import Grader", "imports local_eval.grader"),
    ):
        assert any(named in what for what in hides(source)), (source[:60], hides(source))
    for name in set(submission_names()) - set(similarity.GIVEN_AWAY):
        assert hides(Submission.find(name).source()) == [], name
