"""Magics, shell lines and help are left out of cells, and nothing that is Python is."""

import json

import pytest

from local_eval.methods.notebook import plain_cell, read_cells
from local_eval.methods.source import SubmissionError


@pytest.mark.parametrize(
    "text, left",
    [
        ("%matplotlib inline\nx = 1", "\nx = 1"),
        ("!pip install timm \\\n    einops\nx = 1", "\n    pass\nx = 1"),
        ("try:\n    import timm\nexcept ImportError:\n    !pip install timm", None),
        ("files = !ls\nx = 1", "\nx = 1"),
        ("x = 1\nx?\n?x\nx.y??", "x = 1\n\n\n"),
        ("pip install timm\nx = 1", "\nx = 1"),
        ("%%time\nx = 1", "\nx = 1"),
        ("\n%%capture out\n!ls\nx = 1", "\n\n\nx = 1"),
        ("%%bash\nls\nx = 1", "\n\n"),
        ("%%writefile mine.py\nx = 1", "\n"),
    ],
)
def test_what_only_jupyter_understands_is_left_out_and_lines_stay(text, left):
    cell = plain_cell(1, text)
    assert cell.left_out
    assert cell.text.count("\n") == text.count("\n")
    if left is None:
        compile(cell.text, "cell", "exec")
    elif "\\" in text:
        assert cell.text.strip().endswith("x = 1")
    else:
        assert cell.text == left


@pytest.mark.parametrize(
    "text",
    [
        'x = """\n%d items\n!ls\n"""',
        "x = ('%d'\n% 3)",
        "x = 7 \\\n% 3",
        "# why?\nx = 1  # or 2?",
        "ls = 3\nls\n",
        "if True:\n    '''\n    !text\n    '''\n",
    ],
)
def test_python_is_never_taken_for_magic(text):
    assert plain_cell(1, text) == plain_cell(1, text).__class__(1, text)
    magic = plain_cell(1, f"%matplotlib inline\n{text}")
    assert magic.text == f"\n{text}", "nor beside a line that is"
    assert magic.left_out == ("`%matplotlib inline`",)


def test_a_name_that_a_shell_line_would_set_is_kept_in_mind():
    assert plain_cell(1, "a, b = !ls\nc = %timeit -o f()").unmade == {"a", "b", "c"}


def cell(source, kind="code"):
    return {"cell_type": kind, "metadata": {}, "source": source}


@pytest.mark.parametrize(
    "content",
    [
        {"nbformat": 4, "cells": [cell("# text", "markdown"), cell("x = 1"), cell(["y = 2\n", "z = 3"])]},
        {"nbformat": 3, "worksheets": [{"cells": [cell("x = 1") | {"input": "x = 1"}, cell("y = 2\nz = 3")]}]},
    ],
)
def test_notebooks_of_all_ages_give_their_code_cells(content, tmp_path):
    path = tmp_path / "größe.ipynb"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    assert [c.text for c in read_cells(path)] == ["x = 1", "y = 2\nz = 3"]


@pytest.mark.parametrize(
    "content, reported",
    [
        ("no json", "not a Jupyter notebook"),
        ("[1, 2]", "not a Jupyter notebook"),
        ('{"a": 1}', "not a Jupyter notebook"),
        ('{"cells": []}', "without code cells"),
        (json.dumps({"cells": [cell("x = 1", "markdown")]}), "without code cells"),
        (json.dumps({"cells": [cell("x <- 1")], "metadata": {"kernelspec": {"language": "R"}}}), "a notebook in R"),
        (json.dumps({"cells": [cell("x")], "metadata": {"language_info": {"name": "julia"}}}), "a notebook in julia"),
    ],
)
def test_what_is_no_notebook_in_python_is_refused(content, reported, tmp_path):
    path = tmp_path / "mine.ipynb"
    path.write_text(content)
    with pytest.raises(SubmissionError, match=f"mine.ipynb: .*{reported}"):
        read_cells(path)
