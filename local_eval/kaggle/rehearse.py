"""Rehearse an exported notebook here: run it from its first cell to its last, twice, as Kaggle does, with few runs.

Kaggle runs a notebook once when a version is saved, with an `empty.txt` in place of the data, and once more to score
it, on the data that nobody sees. Both are played through in a new kernel, in folders laid out as Kaggle's, with images
that are made up. What Kaggle does otherwise is said with the result.

How to run it: python -m local_eval export my_method.py --rehearse
"""

from __future__ import annotations

import csv
import json
import os
import re
import site
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
import torch
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from PIL import Image
from torch import nn
from torchvision.models import resnet18

from local_eval.commands import command
from local_eval.isolation.processes import children_now, end_children
from local_eval.kaggle.export import COMPETITION, submission_notebook
from local_eval.methods.submission import Submission
from local_eval.metric.score import OFFICIAL_RUNS
from local_eval.store.errors import WorkError, first_line

RUNS = 2  # the fewest that can differ from each other
SIZES = {"retain": 192, "forget": 32, "validation": 64}  # made-up images: batches of 64, several and one
MADE_UP = (128, 32, 32)  # the same, of the timing that a notebook does when it is saved
SHARES = (0.60, 0.07, 0.05, 0.02, 0.03, 0.04, 0.09, 0.06, 0.02, 0.02)  # of the ten classes, as in the competition
FORGOTTEN = 2  # classes that the forget set holds
LIMIT = 3600.0  # seconds for one cell, after which the method counts as hanging
OURS = ("common", "local_eval", "submissions")  # what a lone notebook must not find
SECRET = re.compile(r"^(KAGGLE|PYTHON|JUPYTER|IPYTHON)|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
SAVING, SCORING = "saving a version", "scoring it"
# Run before the notebook's own cells. Connections within this machine stay: the kernel itself has some.
AS_ON_KAGGLE = f"""
def _as_on_kaggle():
    import socket
    import sys

    def offline(really, host_of):
        def checked(*given, **named):
            host = host_of(*given)
            if host not in (None, "", "localhost", "127.0.0.1", "::1"):
                raise OSError(f"no internet: {{host}} was asked for, and on Kaggle the notebook runs without")
            return really(*given, **named)

        return checked

    def host_of(_, address, *rest):
        return address[0] if isinstance(address, tuple) else None

    socket.socket.connect = offline(socket.socket.connect, host_of)
    socket.socket.connect_ex = offline(socket.socket.connect_ex, host_of)
    socket.getaddrinfo = offline(socket.getaddrinfo, lambda host, *rest: host)
    sys.modules.update(dict.fromkeys({OURS}))


_as_on_kaggle()
del _as_on_kaggle
"""


class RehearsalError(WorkError):
    """The notebook does not run through, or leaves something that Kaggle would not take; the message says what."""


Run = Callable[[NotebookNode, Path], None]  # executes a notebook in a folder; raises RehearsalError


@dataclass(frozen=True)
class Rehearsal:
    """What was seen of a notebook that ran through both times."""

    seconds: dict[str, float]  # by SAVING, SCORING
    device: str
    doubts: list[str]  # what Kaggle would take all the same


def rehearse(
    submission: Submission, run: Run | None = None, make_net: Callable[..., nn.Module] = resnet18
) -> Rehearsal:
    """Export a submission and play through what Kaggle does with its notebook.

    Args:
        run: how notebooks are executed; in a kernel of their own unless told otherwise.
        make_net: what the notebook finds as torchvision's resnet18.
    Raises:
        SubmissionError: it cannot be exported.
        RehearsalError: the notebook fails, or leaves something else than Kaggle asks for.
    """
    text, run, seconds = submission_notebook(submission), run or in_a_kernel, {}
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
        for part, check in ((SAVING, _check_saved), (SCORING, _check_scored)):
            root = Path(folder) / part.partition(" ")[0] / "kaggle"
            original = lay_out(root, make_net, empty=part == SAVING)
            before, start = _listing(root / "input"), time.perf_counter()
            _executed(with_parameters(text, parameters(root), AS_ON_KAGGLE), root / "here", run, part)
            seconds[part] = time.perf_counter() - start
            if _listing(root / "input") != before:
                raise RehearsalError(f"while {part} it writes below kaggle/input, which cannot be written on Kaggle")
            doubts = check(root, original)
    return Rehearsal(seconds, "cuda" if torch.cuda.is_available() else "cpu", doubts)


def parameters(root: Path) -> dict:
    """The notebook's constants for a rehearsal; the competition is looked for where Kaggle had it in 2023."""
    places = {"INPUT": root / "input" / COMPETITION, "TMP": root / "tmp", "WORKING": root / "working"}
    return {name: str(place) for name, place in places.items()} | {"RUNS": RUNS, "REHEARSAL": MADE_UP}


def with_parameters(text: str, values: dict, first: str = "") -> NotebookNode:
    """The notebook in `text` with other constants, and a cell with `first` before all."""
    notebook = nbformat.reads(text, as_version=4)
    (place,) = [k for k, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    changed = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    notebook.cells.insert(place + 1, new_code_cell(changed))
    notebook.cells.insert(0, new_code_cell(first))
    return notebook


# The folders, as on Kaggle.


def lay_out(root: Path, make_net: Callable[..., nn.Module], empty: bool) -> dict[str, torch.Tensor]:
    """Make the folders of a notebook on Kaggle below `root`; returns the original model's state.

    The competition's files lie in input/competitions/, where Kaggle mounts them now. With `empty` an empty.txt stands
    in their place, as while a version is saved. `here` is the folder that the notebook starts in.
    """
    place = root / "input" / "competitions" / COMPETITION
    for folder in (place, root / "working", root / "here"):
        folder.mkdir(parents=True)
    torch.manual_seed(0)
    state = make_net(num_classes=len(SHARES)).state_dict()
    if empty:
        (place / "empty.txt").touch()
        return state
    random, counts = np.random.default_rng(0), {}
    for name, size in SIZES.items():
        counts[name] = _write_split(place, name, size, random)
    torch.save(state, place / "original_model.pth")
    together = (counts["retain"] + counts["forget"]).tolist()
    (place / "age_class_weights.json").write_text(json.dumps({str(k): n for k, n in enumerate(together)}))
    return state


def _write_split(place: Path, name: str, size: int, random: np.random.Generator) -> np.ndarray:
    """Write a split's images and its CSV file; returns how many it has of each class."""
    classes = random.choice(len(SHARES), size, p=SHARES)
    classes[: len(SHARES)] = range(len(SHARES))  # no class is missing
    if name == "forget":
        classes %= FORGOTTEN
    rows = [_write_image(place, 100 * len(name) + k % 8, k, int(c), random) for k, c in enumerate(classes)]
    with open(place / f"{name}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return np.bincount(classes, minlength=len(SHARES))


def _write_image(place: Path, person: int, index: int, age_group: int, random: np.random.Generator) -> dict:
    """Write a noisy image below images/PERSON/, a patch of which tells its class; returns its row of the CSV file."""
    pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    pixels[8:24, 8:24] = 25 * age_group
    path = place / "images" / str(person) / f"{index}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return {"image_id": f"{person}-{index}", "age_group": age_group, "age": 10 * age_group + 3, "person_id": person}


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file of a folder."""
    found = {str(path): path.stat() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


# One execution.


def in_a_kernel(notebook: NotebookNode, folder: Path) -> None:
    """Execute a notebook in a folder and a new kernel of this Python.

    The kernel gets an empty home, so that nothing is found in a cache that Kaggle has not, and no login of yours.

    Raises:
        nbclient's CellExecutionError, CellTimeoutError and DeadKernelError.
    """
    from jupyter_client import AsyncKernelManager  # here, as it takes a second
    from jupyter_client.kernelspec import KernelSpec
    from nbclient import NotebookClient

    class OfThisPython(AsyncKernelManager):
        """Whatever kernels are installed for the user."""

        @property
        def kernel_spec(self) -> KernelSpec:
            launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
            return KernelSpec(argv=launch, display_name="Python 3", language="python")

    env = {name: value for name, value in os.environ.items() if not SECRET.search(name)}
    home = folder.parent / "home"
    home.mkdir()
    env |= dict.fromkeys(("HOME", "USERPROFILE", "XDG_CACHE_HOME", "TORCH_HOME"), str(home))
    env |= {"PYTHONUSERBASE": site.getuserbase(), "MPLBACKEND": "Agg"}  # packages that are installed for the user
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=LIMIT, kernel_manager_class=OfThisPython, resources=where)
    before = children_now()
    with ThreadPoolExecutor(1) as thread:  # in the main one it would take Ctrl-C for itself
        waiting = thread.submit(client.execute, env=env)
        try:
            waiting.result()
        except BaseException:
            if not waiting.done():  # Ctrl-C: with the kernel's end the thread ends, too
                end_children(before)
            raise


def _executed(notebook: NotebookNode, folder: Path, run: Run, part: str) -> None:
    """Run it; whatever goes wrong becomes one sentence with cell and line."""
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    try:
        run(notebook, folder)
    except CellExecutionError as error:
        what = f"{error.ename}: {first_line(error.evalue)}" if error.evalue else error.ename
        where = _place(notebook, error.traceback)
        raise RehearsalError(f"while {part} the notebook fails{where}: {what}{_hint(what)}") from None
    except CellTimeoutError:
        raise RehearsalError(f"while {part} a cell of the notebook is not done after {LIMIT:.0f} s") from None
    except DeadKernelError:
        raise RehearsalError(
            f"while {part} the notebook's process ends before its time: it was killed, as for memory, or ends itself"
        ) from None


def _place(notebook: NotebookNode, traceback: str) -> str:
    """Where in the notebook something was raised: the innermost line of a cell, and what it says."""
    frames = re.findall(r"Cell In\[(\d+)\], line (\d+)", re.sub(r"\x1b\[[0-9;]*m", "", traceback))
    cells = {cell.get("execution_count"): cell.source for cell in notebook.cells if cell.cell_type == "code"}
    for count, line in reversed(frames):
        lines = cells.get(int(count), "").split("\n")
        if int(line) <= len(lines):
            return f" at `{lines[int(line) - 1].strip()}`"
    return ""


def _hint(what: str) -> str:
    if re.search("cuda|nvidia", what, re.IGNORECASE) and not torch.cuda.is_available():
        return (
            ". There is no GPU here, on Kaggle there is one: `next(net.parameters()).device` names the right one "
            "in both places"
        )
    return ""


# What Kaggle would look at.


def _check_saved(root: Path, original: dict[str, torch.Tensor]) -> list[str]:
    """After a version was saved there is an empty submission.zip, without which it cannot be submitted."""
    found = root / "working" / "submission.zip"
    if not found.is_file():
        raise RehearsalError(f"while {SAVING} the notebook leaves no submission.zip, so it could not be submitted")
    return []


def _check_scored(root: Path, original: dict[str, torch.Tensor]) -> list[str]:
    """submission.zip holds exactly the checkpoints; returns doubts about what they hold."""
    names = [f"kaggle/tmp/unlearned_checkpoint_{k}.pth" for k in range(RUNS)]
    try:
        with zipfile.ZipFile(root / "working" / "submission.zip") as archive:
            found, broken = archive.namelist(), archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        raise RehearsalError(f"while {SCORING} the notebook leaves no whole submission.zip ({error})") from None
    if found != names or broken:
        there = ", ".join(found[:4]) or "nothing"
        raise RehearsalError(f"submission.zip holds {there}; it should hold {' and '.join(names)}, whole")
    states = [torch.load(root / "tmp" / Path(name).name, map_location="cpu", weights_only=True) for name in names]
    return doubts_about(states, original)


def doubts_about(states: list[dict[str, torch.Tensor]], original: dict[str, torch.Tensor]) -> list[str]:
    """What Kaggle takes and what scores badly all the same: checkpoints that are the original's, or each other's."""
    found = []
    if any(_same(state, original) for state in states):
        found.append("a run leaves the weights as they were: on these images the method does nothing")
    elif all(_same(state, states[0]) for state in states[1:]):
        found.append("all runs give the same model, and the grader compares distributions: be random, set no seed")
    return found


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[key].float(), other[key].float()) for key in other)


def in_words(found: Rehearsal, name: str) -> str:
    """What was tried, and what Kaggle does otherwise; `name` as the commands take it."""
    images = ", ".join(f"{size} {split}" for split, size in SIZES.items())
    lines = [
        f"rehearsed {name}: its notebook runs from the first cell to the last, both times that Kaggle runs it",
        f"  {SAVING:<18}{found.seconds[SAVING]:4.0f} s  empty.txt in place of the data; it times itself on noise",
        f"  {SCORING:<18}{found.seconds[SCORING]:4.0f} s  {RUNS} runs, images made up: {images}",
        f"  then there was an empty submission.zip the first time, and one with {RUNS} whole checkpoints the second",
        "  it had no internet, nothing of this repository, no login of yours, and left its input as it was",
        *(f"  note: {text}" for text in found.doubts),
        f"on Kaggle otherwise: {OFFICIAL_RUNS} runs, the competition's own images, a T4 GPU (here {found.device}), "
        "Kaggle's torch",
        f"  (here {torch.__version__}), and 8 hours for everything; whether they suffice: {command('budget', [name])}",
        f"next, or by hand as docs/kaggle.md says: {command('submit', [name])}",
    ]
    return "\n".join(lines)
