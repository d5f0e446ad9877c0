"""What the runs of a submission need on another machine, and how paths of there become paths of here again.

The submission and what it reads keep their whole paths below one folder, so what they look for beside themselves is
found. A run works in an empty folder of its own, there as here. A file that is read by an absolute path must lie there
on every node.

How it is used: the methods of `RunPlan` in plan.py that engine/cluster/parcels.py asks for.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from local_eval.engine.cluster.parcels import FILES, Parcel, home_path, packed_path
from local_eval.engine.failure import Failure
from local_eval.engine.records import Record
from local_eval.runs.refusal import SubmissionError

PLACE = "place.json"
LARGEST = 2**30  # bytes that a submission may read and have sent


def submission_parcel(path: Path, reads: dict) -> Parcel:
    """A submission's file, the files that it is known to read, and the variables that it asks for.

    Raises:
        SubmissionError: that is too much to be sent.
    """
    named = {Path(name) for key in ("files", "looked") for name in reads.get(key, {})}
    named |= {file for folder in map(Path, reads.get("listed", {})) if folder.is_dir() for file in folder.iterdir()}
    files = [file for file in (path, *sorted(named - {path})) if file.is_file()]
    if (size := sum(file.stat().st_size for file in files)) > LARGEST:
        raise SubmissionError(
            f"{path} reads {size / 1e9:.1f} GB, too much to be sent; put the files at the same place on every node "
            "and read them by an absolute path"
        )
    variables = {name: os.environ.get(name) for name in reads.get("environment", {})}
    place = {"folder": os.getcwd(), "environment": variables}
    return {PLACE: json.dumps(place).encode()} | {packed_path(file): file.read_bytes() for file in files}


def go_there(folder: Path) -> None:
    """On a node, in the process that works: take the driver's working directory and variables."""
    place = json.loads((folder / PLACE).read_text())
    here = folder / packed_path(place["folder"])
    here.mkdir(parents=True, exist_ok=True)
    os.chdir(here)
    for name, value in place["environment"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def as_at_home(result: Record | Failure, folder: Path) -> Record | Failure:
    """A node's result with the driver's paths in what it tells."""
    inside = str(folder / FILES)
    if isinstance(result, Failure):
        told = (result.reason, result.traceback, result.printed)
        return Failure(*(text.replace(inside, "") for text in told))
    read = dict(result.facts.get("read", {}))
    for key in {"files", "looked", "listed"} & (read.keys() | {"files"}):
        read[key] = {home_path(name, folder): found for name, found in read.get(key, {}).items()}
    read["untold"] = [text.replace(inside, "") for text in read.get("untold", ())]
    return replace(result, facts=result.facts | {"read": read})
