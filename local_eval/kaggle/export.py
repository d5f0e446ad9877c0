"""Write a submission as a notebook that runs alone on Kaggle: its code, what it uses of `common`, the official driver.

    notebooks/fanchuan.ipynb                    upload this one by hand, or
    notebooks/fanchuan/kernel-metadata.json     kaggle kernels push -p notebooks/fanchuan

Code arrives as ordinary cells, comments included. The same input gives the same bytes.

How to run it: python -m local_eval export fanchuan
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from local_eval.engine.files import write_atomically
from local_eval.kaggle.gather import Gathered, gather, import_lines
from local_eval.kaggle.sources import Source
from local_eval.runs.submissions import Submission, SubmissionError

CELLS = Path(__file__).parent / "cells"
DRIVER = CELLS / "driver.py"
WALKTHROUGH = CELLS / "walkthrough.py"
COMPETITION = "neurips-2023-machine-unlearning"
USER = "YOUR-KAGGLE-NAME"  # `submit` puts the account's name here; by hand, edit kernel-metadata.json
METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


@dataclass(frozen=True)
class Cell:
    """A cell of a notebook before it is one."""

    text: str
    kind: str = "code"  # or "markdown"
    tag: str = ""


def export(submission: Submission, out: Path) -> Path:
    """Write OUT/NAME.ipynb and OUT/NAME/kernel-metadata.json for a submission; returns the first.

    Raises:
        SubmissionError: something in it cannot travel; the message names file and line.
        OutputError: the folder cannot be written.
    """
    notebook = out / f"{submission.label}.ipynb"
    if notebook.resolve() == submission.path:
        raise SubmissionError(f"{submission.path} would be written over by its export; name another folder with --out")
    write_atomically(notebook, submission_notebook(submission).encode())
    metadata = json.dumps(kernel_metadata(submission.label), indent=2) + "\n"
    write_atomically(out / submission.label / "kernel-metadata.json", metadata.encode())
    return notebook


def export_walkthrough(out: Path) -> Path:
    """Write OUT/walkthrough.ipynb and return its path; it needs the repository, and no Kaggle."""
    write_atomically(out / "walkthrough.ipynb", notebook_text(read_cells(WALKTHROUGH)).encode())
    return out / "walkthrough.ipynb"


def submission_notebook(submission: Submission) -> str:
    """The notebook of a submission as JSON text; raises SubmissionError."""
    gathered = gather(submission, Source.read(DRIVER))
    driver = {cell.tag: cell for cell in read_cells(DRIVER) if cell.tag}
    rest = [cell for cell in read_cells(DRIVER) if not cell.tag]
    cells = [
        _title(gathered.method, submission.label),
        Cell("## Imports", "markdown"),
        Cell(import_lines(gathered.imports)),
    ]
    cells += [Cell("## Where things are, and how much to do", "markdown"), driver["parameters"]]
    cells += [*_helper_cells(gathered), Cell("## The method", "markdown"), Cell(gathered.method.body()), *rest]
    return notebook_text(cells)


def _title(method: Source, name: str) -> Cell:
    about = ast.get_docstring(method.tree) or "A method for the NeurIPS 2023 machine-unlearning competition."
    note = f"Written by `python -m local_eval export {name}`: change `{method.path.name}` and export again, "
    note += "not this notebook."
    return Cell(f"# {name}\n\n```text\n{about.strip()}\n```\n\n{note}", "markdown")


def _helper_cells(gathered: Gathered) -> list[Cell]:
    cells = [Cell("## What the method shares with others", "markdown")] if gathered.helpers else []
    return cells + [Cell("\n\n\n".join(piece.text for piece in pieces)) for _, pieces in gathered.helpers]


def read_cells(path: Path) -> list[Cell]:
    """The cells of a file in percent format; what stands before the first `# %%` is the file's own."""
    blocks = re.split(r"(?m)^# %%(.*)\n", path.read_text(encoding="utf-8"))[1:]
    cells = []
    for tag, text in zip(blocks[::2], blocks[1::2]):
        if "[markdown]" in tag:
            lines = [line.removeprefix("#").removeprefix(" ") for line in text.strip().splitlines()]
            cells.append(Cell("\n".join(lines), "markdown"))
        else:
            cells.append(Cell(text.strip("\n"), tag=tag.strip()))
    return cells


def notebook_text(cells: list[Cell]) -> str:
    """A notebook as JSON text. Cell ids count up, so that equal cells give equal bytes."""
    made = []
    for number, cell in enumerate(cells):
        new = new_markdown_cell if cell.kind == "markdown" else new_code_cell
        metadata = {"tags": [cell.tag]} if cell.tag else {}
        made.append(new(cell.text, id=f"cell-{number:02}", metadata=metadata))
    notebook = new_notebook(cells=made, metadata=METADATA)
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def kernel_metadata(name: str, user: str = USER) -> dict:
    """What Kaggle needs to know of the notebook: private, two T4 GPUs, no internet, the competition's files."""
    title = f"Unlearning {name}".replace("_", " ").strip()
    return {
        "id": f"{user}/{re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')}",
        "title": title,
        "code_file": f"../{name}.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "enable_internet": False,
        "machine_shape": "NvidiaTeslaT4",
        "dataset_sources": [],
        "competition_sources": [COMPETITION],
        "kernel_sources": [],
        "model_sources": [],
    }
