"""What goes wrong while a submission runs and is known, in one sentence: batches misread, spawned classes, compiling.

`for images, labels in loader`, `batch[0]`, `batch["label"]`, `batch.to(device)`, `net(batch)` and
`loader.dataset.classes` end in errors of Python's or torch's that say nothing of the competition's batches. Only errors
about a value that is a batch, an example, a loader or a data set of the kit's are taken for such; others keep their
traceback.

How it is used: `misread(submission, error)` in methods/contract.py.
"""

from __future__ import annotations

import ast
import contextlib
import io
import linecache
import os
import pickletools
from collections.abc import Callable, Iterator
from functools import lru_cache
from multiprocessing import forkserver, reduction, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType, TracebackType

import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from local_eval.methods.loaders import A_BATCH, AN_EXAMPLE, Examples, NotThere
from local_eval.methods.other_projects import KEYS
from local_eval.methods.source import NOT_PYTHON, SubmissionError
from local_eval.store.errors import first_line

# Say at once that a submission's own class or function cannot go to a process that is not forked.
#
# A spawned process begins anew and imports what it is sent by the name of its module. That of a submission has no
# file by that name, here or in a notebook, so the process dies after it has loaded torch, and a DataLoader waits for
# it.


BORN = os.getpid()
TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "UNICODE", "GLOBAL"}


@contextlib.contextmanager
def reported_at_once(module: str) -> Iterator[None]:
    """Within it, sending something of this module to a process that is not forked raises SubmissionError."""
    _forget_helpers()
    dump = reduction.dump

    def telling(thing: object, file: io.BytesIO, *options: object) -> None:
        start = file.tell()
        dump(thing, file, *options)
        if isinstance(thing, BaseProcess) and isinstance(file, io.BytesIO):
            name = _named_of(module, file.getvalue()[start:])
            if name:
                raise SubmissionError(_of_spawned(name))

    reduction.dump = telling
    try:
        yield
    finally:
        reduction.dump = dump


def _forget_helpers() -> None:
    """In a run's process, which was forked and has closed all files: the parent's helpers are out of its reach.

    They would be written to by the numbers of files that are closed, or other files by now. New ones start when needed.
    """
    if os.getpid() != BORN:
        resource_tracker._resource_tracker.__init__()
        forkserver._forkserver.__init__()


def _named_of(module: str, pickled: bytes) -> str:
    """The first thing of a module that a pickle refers to by name; empty if there is none."""
    if module.encode() not in pickled:
        return ""
    before = ""
    for code, value, _ in pickletools.genops(pickled):
        if code.name == "GLOBAL" and str(value).startswith(f"{module} "):
            return str(value).partition(" ")[2]
        if code.name in TEXTS:
            if before == module:
                return str(value)
            before = str(value)
        elif code.name not in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            before = "" if code.name != "STACK_GLOBAL" else before
    return ""


def _of_spawned(name: str) -> str:
    return (
        f"{name} is the submission's own, and a process that is spawned cannot import it, here or in a notebook: leave "
        "out multiprocessing_context='spawn' (or write 'fork', or num_workers=0)"
    )


# torch.compile in a run: the code runs as it is written, uncompiled.
#
# Every run has a process and a folder of its own, so every run would compile anew: with Inductor on a CPU that took
# 18 s of work for a net of two layers and over a minute for a small resnet18, most of it g++, hundreds of times over,
# with processes of its own that are lost now and then. What a compiled net computes is what the plain one computes,
# up to rounding. On Kaggle the notebook runs as it is written, where one process compiles once for all runs.


REMARK = (
    "torch.compile is passed over: every run is a process of its own and would compile anew, which takes longer than "
    "it saves; results are those of plain PyTorch, up to rounding"
)


class Plain(nn.Module):
    """What torch.compile gives for a net, as far as code asks for it: the net is in `_orig_mod`, and does the work."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self._orig_mod = net
        self.training = net.training

    def forward(self, *inputs: object, **options: object) -> object:
        """What the net gives."""
        return self._orig_mod(*inputs, **options)

    def __getattr__(self, name: str) -> object:
        if name == "_orig_mod":
            return super().__getattr__(name)
        return getattr(self._orig_mod, name)


class Uncompiled:
    """Within it, as often as it is entered, torch.compile compiles nothing; `told` says so if it was called."""

    def __init__(self) -> None:
        self.reported: list[str] = []

    def __enter__(self) -> Uncompiled:
        self._compiles, torch.compile = torch.compile, self._pass_over
        return self

    def __exit__(self, *raised: object) -> None:
        torch.compile = self._compiles

    def _pass_over(self, model: Callable | None = None, **options: object) -> Callable:
        """In place of torch.compile, called or as a decorator; nn.Module.compile comes here too."""
        self.reported = [REMARK]
        if model is None:
            return lambda model: self._pass_over(model, **options)
        return Plain(model) if isinstance(model, nn.Module) else model


PAIR = 'images, labels = batch["image"], batch["age_group"]'
NO_GPU = ("NVIDIA driver", "Torch not compiled with CUDA", "No CUDA GPUs", "No HIP GPUs")
OF_WORKERS = "in DataLoader worker process"
# What errors say that a batch on a GPU may lead to in code that is right where batches lie on the CPU.
ON_A_CARD = (
    "only dense CPU tensors can be pinned", "device type tensor to numpy", "to be on the same device",
    "indices should be either on", "device type for generator but found", "re-initialize CUDA in forked subprocess",
)  # fmt: skip
CPU_BATCHES = "--batches-on cpu"
LONGEST = 70  # characters of a line that are shown
IMAGES = {0, "img", "imgs", "images", "x", "input", "inputs", "data", "pixel_values", "pixels", "feature", "features"}
LABELS = {1, "label", "labels", "target", "targets", "y", "class", "classes", "gt"}


def misread(path: Path, error: BaseException) -> str | None:
    """One sentence for an error of a submission's that is about what a batch is; None for all others.

    Args:
        path: the submission's file.
        error: as it came out of `unlearning`.
    """
    frames = list(_frames(error.__traceback__))
    own = [(frame, line) for frame, line in frames if _is_own(frame, str(path))]
    if not own:
        return None
    frame, line = own[-1]
    text = _explained(error, frame, line, [f for f, _ in frames])
    if text is None:
        return None
    shown = linecache.getline(frame.f_code.co_filename, line).strip()[:LONGEST]
    return f"{frame.f_code.co_filename}, line {line}: `{shown}`: {text}"


def _explained(error: BaseException, frame: FrameType, line: int, frames: list[FrameType]) -> str | None:
    statement, said = _statement(frame, line), str(error)
    if isinstance(error, NotThere | SubmissionError):  # what a data set of the kit's says itself
        return said
    if any(sign in said for sign in NO_GPU):
        return "this machine has no GPU; write .to(next(net.parameters()).device), where net and batches are, here too"
    if any(sign in said for sign in ON_A_CARD) and (place := _place_of_batches(frames)):
        return (
            f"{first_line(error)}; batches lie on {place} here, and on the CPU on Kaggle: give {CPU_BATCHES} to have "
            "them there too, or bring to one device what meets here"
        )
    if OF_WORKERS in said:
        return _in_worker(said)
    if isinstance(error, KeyError) and error.args and _unknown_key(error.args[0], frame, statement):
        return _sentence(frame, statement, _instead_of(error.args[0]))
    if isinstance(error, ValueError) and "unpack" in said:
        source = _unpacked_from(_loop_at(frame, line) or statement)
        return _sentence(frame, source, f"write {PAIR}") if _is_ours(source, frame) else None
    if isinstance(error, AttributeError) and _is_batch(getattr(error, "obj", None)):
        return _sentence(frame, statement, f"it has no `{error.name}`; write {PAIR}")
    if isinstance(error, AttributeError) and getattr(error, "obj", None) in KEYS and hasattr(torch.Tensor, error.name):
        return f"{A_BATCH}; going through it or unpacking it gives the names of its parts: write {PAIR}"
    if isinstance(error, TypeError) and "dict" in said and _has_batch(frames, statement):
        return _sentence(frame, statement, f"write {PAIR}")
    if isinstance(error, TypeError) and ("DataLoader" in said or "unhashable" in said) and _is_ours(statement, frame):
        return f"a loader gives batches: `for batch in loader`, and {A_BATCH}; write {PAIR}"
    return None


def _sentence(frame: FrameType, statement: ast.AST | None, advice: str) -> str:
    values = [value for value in _values(statement, frame) if _kind(value)]
    rows = values and all(_kind(value) in ("example", "dataset") for value in values)
    rows = rows and not any(isinstance(n, ast.Name) and n.id == DataLoader.__name__ for n in _parts(statement))
    return f"{AN_EXAMPLE}; {advice.replace('batch[', 'example[')}" if rows else f"{A_BATCH}; {advice}"


def _instead_of(key: object) -> str:
    if key in IMAGES:
        return 'write batch["image"]'
    if key in LABELS:
        return 'write batch["age_group"]'
    return f"write {PAIR}"


def counts_on_cpu_batches(said: str) -> bool:
    """May an error, or what was made of it, come of batches that do not lie on the CPU?"""
    return CPU_BATCHES in said or any(sign in said for sign in ON_A_CARD)


def _place_of_batches(frames: list[FrameType]) -> str:
    """The GPU on which the kit's batches lie, as its loaders and data sets in some frames show; empty if on none."""
    for value in (value for frame in frames for value in list(frame.f_locals.values())):
        found = _root(value.dataset) if isinstance(value, DataLoader) else value
        images = found.split.images if isinstance(found, Examples) else None
        images = value["image"] if _is_batch(value) else images
        if isinstance(images, torch.Tensor) and images.device.type != "cpu":
            return str(images.device)
    return ""


def _in_worker(said: str) -> str | None:
    """An error that a DataLoader's worker sent as text: one of unpacking, or of a key that no example has."""
    last = said.strip().splitlines()[-1]
    key = last.partition("KeyError: ")[2].strip("'\"")
    known = key in {str(k) for k in IMAGES | LABELS}
    if (last.startswith("ValueError") and "unpack" in last) or known:
        return f"in a worker of its DataLoader, {last}; {AN_EXAMPLE}"
    return None


def _frames(trace: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _is_own(frame: FrameType, path: str) -> bool:
    name = frame.f_code.co_filename
    return name == path or name.startswith(f"{path}, code cell ")


@lru_cache(maxsize=8)
def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except NOT_PYTHON:
        return None


def _statements(frame: FrameType, line: int) -> list[ast.stmt]:
    """The statements around a line, the innermost last."""
    tree = _parsed("".join(linecache.getlines(frame.f_code.co_filename)))
    nodes = [node for node in (ast.walk(tree) if tree else ()) if isinstance(node, ast.stmt)]
    around = [node for node in nodes if node.lineno <= line <= node.end_lineno]
    return sorted(around, key=lambda node: (node.lineno, node.col_offset))


def _statement(frame: FrameType, line: int) -> ast.stmt | None:
    return next(reversed(_statements(frame, line)), None)


def _loop_at(frame: FrameType, line: int) -> ast.stmt | None:
    """A loop that begins at this line and unpacks what it goes through."""
    loops = [node for node in _statements(frame, line) if isinstance(node, ast.For) and node.lineno == line]
    return next((node for node in loops if any(isinstance(n, ast.Tuple) for n in ast.walk(node.target))), None)


def _parts(statement: ast.AST | None) -> Iterator[ast.AST]:
    """All parts of a statement, without the statements in it."""
    waiting = [statement] if statement is not None else []
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [n for n in ast.iter_child_nodes(node) if not isinstance(n, ast.stmt)]


def _unpacked_from(statement: ast.AST | None) -> ast.AST | None:
    """The part of a statement that is unpacked; a comprehension is looked at whole."""
    if isinstance(statement, ast.For):
        return statement.iter
    return statement.value if isinstance(statement, ast.Assign) else statement


def _unknown_key(key: object, frame: FrameType, statement: ast.AST | None) -> bool:
    """Was one of our dicts asked for a key that it does not have?"""
    for node in _parts(statement):
        if isinstance(node, ast.Subscript) and key not in KEYS:
            literal = node.slice.value if isinstance(node.slice, ast.Constant) else key
            if literal == key and _is_ours(node.value, frame):
                return True
    return False


def _is_ours(node: ast.AST | None, frame: FrameType) -> bool:
    return any(_kind(value) for value in _values(node, frame))


def _has_batch(frames: list[FrameType], statement: ast.AST | None) -> bool:
    """Is one of our dicts named in the statement, or in the hands of what it called?"""
    return any(_is_batch(value) for frame in frames[-8:] for value in list(frame.f_locals.values())) or any(
        _is_batch(value) for value in _values(statement, frames[-1])
    )


def _values(node: ast.AST | None, frame: FrameType) -> Iterator[object]:
    """What the names in an expression hold, `self.loader` included; in a comprehension, what it goes through."""
    waiting = [node] if node is not None else []
    while waiting:
        part = waiting.pop()
        value = _value(part, frame) if isinstance(part, ast.Name | ast.Attribute) else None
        if _kind(value):  # `loader.dataset` is a data set, not a loader too
            yield value
        else:
            waiting += [n for n in ast.iter_child_nodes(part) if not isinstance(n, ast.stmt)]
    if ".0" in frame.f_locals:
        yield frame.f_locals[".0"]


def _value(node: ast.expr, frame: FrameType) -> object:
    if isinstance(node, ast.Name):
        around = frame.f_back.f_locals if frame.f_code.co_name.startswith("<") and frame.f_back else {}
        return {**frame.f_globals, **around, **frame.f_locals}.get(node.id)
    if isinstance(node, ast.Attribute):
        return _own(_value(node.value, frame)).get(node.attr)
    return None


def _own(value: object) -> dict:
    """An object's own attributes, found without running any code of its class."""
    try:
        return object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}


def _kind(value: object) -> str:
    """'batch', 'example', 'dataset' or 'loader' if it is one of the kit's, else ''."""
    if _is_batch(value):
        return "example" if getattr(value["image"], "ndim", 4) == 3 else "batch"
    if isinstance(value, list | tuple) and value:
        return _kind(value[0])
    if isinstance(value, DataLoader):
        return "loader" if _root(value.dataset) else ""
    if isinstance(value, _BaseDataLoaderIter):
        return "loader" if _root(value._dataset) else ""
    return "dataset" if _root(value) else ""


def _root(dataset: object) -> Examples | None:
    """The data set of the kit's that others such as Subset stand around."""
    for _ in range(8):
        if isinstance(dataset, Examples):
            return dataset
        held = _own(dataset)
        dataset = held.get("dataset") or held.get("examples") or next(iter(held.get("datasets") or ()), None)
    return None


def _is_batch(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == set(KEYS)
