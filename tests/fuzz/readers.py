"""Every reader of files that may come from others: a real file to begin with, and what is read of it.

How it is used: `for reader in READERS: content = reader.make(folder)`, then `reader.read(path)` of what became of it.
"""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from local_eval.methods.notebook import extract
from local_eval.methods.submission import Submission
from local_eval.oracles.oracles import load_pool, save_pool
from local_eval.report.compare import graded_row
from local_eval.report.result import save_score
from local_eval.runs.checkpoints import Checkpoints, checkpoint_name
from local_eval.shared.contents import read_shared
from local_eval.shared.writing import shared_bytes
from local_eval.store.errors import InputError
from local_eval.store.records import Controls, Evaluation, Record, load_record, save_record
from local_eval.store.sealed import load_state, seal_state
from local_eval.tasks.data.images import pixels_of
from local_eval.tasks.data.tables import read_rows
from local_eval.tasks.manifest import task as manifest
from tests.conftest import GOOD
from tests.metric.test_score import score
from tests.shared.made_shared import NOBODY, plainly, source_of

SHAPE = (5, 3)  # (E, C) of the records
SIZES = {"retain": 12, "forget": 4, "validation": 4, "test": 4}


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def state():
    torch.manual_seed(0)
    return net().state_dict()


def identity(index: int) -> dict:
    return {"kind": "run", "task": "0123456789ab", "seed": 0, "index": index}


def record(index: int) -> Record:
    rng = np.random.default_rng(index)
    controls = Controls(*(rng.normal(size=(4, 3)).astype(np.float32) for _ in "ab"), rng.integers(0, 9, (4, 3)))
    logits = rng.normal(size=SHAPE).astype(np.float32)
    return Record(Evaluation(logits, 0.9, 0.8, controls), identity(index), {"seconds": 1.0, "read": {}})


def arrays_of(found: Record) -> list:
    e = found.evaluation
    controls = [v.tolist() for v in vars(e.controls).values()] if e.controls else None
    return [e.forget_logits.tolist(), e.retain_accuracy, e.test_accuracy, controls, found.identity, found.facts]


def torch_file(_: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(state(), buffer)
    return buffer.getvalue()


def safetensors_file(_: Path) -> bytes:
    from safetensors.torch import save

    return save(state())


def zip_file(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index in range(3):
            archive.writestr(checkpoint_name(index), torch_file(folder))
    return buffer.getvalue()


def read_checkpoints(path: Path) -> list:
    found, loaded = Checkpoints.find(path, net()), []
    for index in range(len(found.names)):
        into = net()
        found.load(index, into)
        loaded.append([value.tolist() for value in into.state_dict().values()])
    return loaded


def read_one(ending: str) -> Callable[[Path], list]:
    """Reads a file as the only checkpoint of a folder."""

    def read(path: Path) -> list:
        folder = path.with_name(f"{path.stem}-folder")
        folder.mkdir(exist_ok=True)
        (folder / f"model_0{ending}").write_bytes(path.read_bytes())
        return read_checkpoints(folder)

    return read


def saved(folder: Path, write: Callable[[Path], object]) -> bytes:
    path = folder / "made"
    write(path)
    return path.read_bytes()


def csv_file(folder: Path) -> bytes:
    """A manifest, with its images beside it."""
    lines = ["image,label,split,group"]
    for split, size in SIZES.items():
        for k in range(size):
            file, pixels = (
                folder / f"{split}{k}.png",
                np.random.default_rng(len(lines)).integers(0, 256, (4, 5, 3), np.uint8),
            )
            Image.fromarray(pixels).save(file)
            lines.append(f"{file.name},{k % 2},{split},{split}-{k // 2}")
    return ("\n".join(lines) + "\n").encode()


def read_table(path: Path) -> list:
    return [[row.number, row.cells] for row in read_rows(path, ("image", "label", "split"), optional=("group",))]


def read_manifest(path: Path) -> list:
    made = manifest(path)
    return [[name, s.labels.tolist(), s.person_id.tolist(), s.images.sum().item()] for name, s in made.splits.items()]


def notebook_file(_: Path) -> bytes:
    cells = [
        "%matplotlib inline\nimport torch",
        "!pip install x\nEPOCHS = 3",
        GOOD,
        "for k in range(512):\n    unlearning",
    ]
    made = [{"cell_type": "code", "source": text.splitlines(True), "metadata": {}, "outputs": []} for text in cells]
    about = {"language_info": {"name": "python"}, "kernelspec": {"language": "python", "name": "x"}}
    return json.dumps({"cells": made, "metadata": about, "nbformat": 4, "nbformat_minor": 5}).encode()


def read_notebook(path: Path) -> list:
    book = extract(path)
    return [book.text, book.left_out]


def score_file(folder: Path) -> bytes:
    return save_score(score(16), folder, "mine", "tiny", {"seed": 0, "device": "cpu", "when": "now"}).read_bytes()


def read_score_row(path: Path) -> dict:
    row = graded_row(path)
    if row["error"] is not None:
        raise InputError(row["error"])
    return {key: value for key, value in row.items() if key != "path"}


def shared_file(folder: Path) -> bytes:
    with plainly():
        return shared_bytes(source_of(folder), NOBODY)


def read_all_shared(path: Path) -> list:
    shared = read_shared(path)
    records = [*shared.runs.values(), *shared.pool, shared.original]
    return [shared.method.source, dict(shared.result), shared.page, *map(arrays_of, records)]


def picture_file(folder: Path, ending: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"made{ending}", comment="x", exif=Image.Exif())
    return (folder / f"made{ending}").read_bytes()


@dataclass(frozen=True)
class Reader:
    """One kind of file."""

    name: str
    ending: str
    kind: str  # of mutation
    make: Callable[[Path], bytes]
    read: Callable[[Path], object]


READERS = (
    Reader("zip of checkpoints", ".zip", "checkpoint", zip_file, read_checkpoints),
    Reader("checkpoint, .pth", ".pth", "checkpoint", torch_file, read_one(".pth")),
    Reader("checkpoint, .safetensors", ".safetensors", "safetensors", safetensors_file, read_one(".safetensors")),
    Reader("run file", ".npz", "sealed", lambda folder: saved(folder, lambda path: save_record(path, record(0))),
           lambda path: arrays_of(load_record(path, identity(0), SHAPE))),
    Reader("oracle file", ".npz", "sealed", lambda f: saved(f, lambda p: save_pool([record(0), record(1)], p)),
           lambda path: [arrays_of(one) for one in load_pool(path, identity, SHAPE)]),
    Reader("original model", ".npz", "sealed", lambda _: seal_state(state(), {"fingerprint": "x"}),
           lambda path: {name: value.tolist() for name, value in load_state(path).items()}),
    Reader("CSV table", ".csv", "csv", csv_file, read_table),
    Reader("manifest with its images", ".csv", "csv", csv_file, read_manifest),
    Reader("picture, .png", ".png", "picture", lambda f: picture_file(f, ".png"),
           lambda path: pixels_of(path, str(path), True).tolist()),
    Reader("picture, .jpg", ".jpg", "picture", lambda f: picture_file(f, ".jpg"),
           lambda path: pixels_of(path, str(path), True).tolist()),
    Reader("notebook", ".ipynb", "notebook", notebook_file, read_notebook),
    Reader("submission, .py, read and not run", ".py", "python", lambda _: GOOD.encode(),
           lambda path: [Submission.find(str(path)).source(), Submission.find(str(path)).digest()]),
    Reader("score.json", ".json", "score", score_file, read_score_row),
    Reader("shared file", ".zip", "shared", shared_file, read_all_shared),
)  # fmt: skip
