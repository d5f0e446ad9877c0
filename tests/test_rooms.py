"""Imports go one way: a module may import its own room and the rooms before it, and no modules form a circle."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "local_eval"
ORDER = (
    ("store",), ("isolation",), ("cluster",), ("tasks",), ("methods", "metric", "oracles"), ("commands",),
    ("report", "runs"), ("kaggle", "grader"), ("grade_given", "memorised", "on_disk", "shared", "sweep"),
    ("bench", "host"), ("card",), ("cli",), ("api",), ("__main__",),
)  # fmt: skip
OUTSIDE = {"task", "__init__"}  # old addresses; what `import local_eval` offers


def modules():
    """The package's modules by dotted name, templates of notebooks apart."""
    files = [f for f in PACKAGE.rglob("*.py") if "cells" not in f.parts]
    return {".".join(f.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): f for f in files}


def imported(file, known):
    """The package's modules that a file imports anywhere, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide where an arrow points"
            names = [node.module] + [f"{node.module}.{a.name}" for a in node.names]
        found |= {n.removeprefix("local_eval.") for n in names if n.startswith("local_eval.")}
    return found & known


def rank(module):
    room = module.partition(".")[0]
    return next(k for k, rooms in enumerate(ORDER) if room in rooms)


def wrong_arrows(edges):
    """Imports of a later room."""
    return [f"{a} -> {b}" for a, others in edges.items() for b in others if rank(b) > rank(a)]


def circles(edges):
    """Modules that reach themselves."""

    def reach(start):
        seen, waiting = set(), list(edges[start])
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting += edges.get(module, ())
        return seen

    return sorted(m for m in edges if m in reach(m))


def edges():
    found = modules()
    inside = {m: f for m, f in found.items() if m.partition(".")[0] not in OUTSIDE}
    return {m: imported(f, set(inside)) - {m} for m, f in inside.items()}


def test_imports_point_to_earlier_rooms():
    assert len(edges()) > 40
    assert wrong_arrows(edges()) == []


def test_no_modules_import_each_other_in_a_circle():
    assert circles(edges()) == []


def test_a_wrong_arrow_and_a_circle_would_be_found():
    assert wrong_arrows({"tasks.task": {"runs.check"}, "runs.check": {"tasks.task"}}) == ["tasks.task -> runs.check"]
    assert circles({"tasks.task": {"tasks.check"}, "tasks.check": {"tasks.task"}}) == ["tasks.check", "tasks.task"]


def test_every_room_says_what_comes_in_and_goes_out():
    for file in PACKAGE.glob("*/__init__.py"):
        text = ast.get_docstring(ast.parse(file.read_text()))
        assert "In: " in text and "Out: " in text, file
