"""Nothing that the kit reads from a file is unpickled, apart from what a process of its own has just handed it."""

import io
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from local_eval.oracles.oracles import load_pool
from local_eval.store.records import RecordError, load_record
from local_eval.store.sealed import DamagedFile, load_state, seal
from tests.fuzz.mutations import Planted, resealed
from tests.fuzz.readers import SHAPE, identity

PACKAGE = Path(__file__).parents[2] / "local_eval"
OWN = {
    # what a worker and its evaluator, a fork of it, tell each other
    "runs/one_run.py": ("pickle.loads(answer)", "pickle.loads(request)"),
    "cluster/node.py": ("pickle.loads(job)",),  # from the driver, whose code the node runs anyhow
    "tasks/data/box.py": ("cloudpickle.loads(arrays.pop(REST)",),  # of the same driver, never a file of others
}
UNSAFE = re.compile(
    r"pickle\.loads?\(|Unpickler|allow_pickle=True|weights_only=False|joblib\.load|marshal\.load|shelve\.|\bdill\b"
    r"|torch\.load\((?![^\n]*weights_only=True)"  # numpy's own default is to refuse
)


def unsafe_lines():
    """Lines of the package that could execute what they read, by file."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        lines = [line.strip() for line in file.read_text().splitlines() if UNSAFE.search(line)]
        if lines:
            found[str(file.relative_to(PACKAGE))] = lines
    return found


def test_no_file_is_unpickled():
    assert UNSAFE.search("torch.load(path)") and UNSAFE.search("np.load(path, allow_pickle=True)")
    assert not UNSAFE.search("torch.load(path, weights_only=True)")
    for file, lines in unsafe_lines().items():
        assert file in OWN and all(any(own in line for own in OWN[file]) for line in lines), f"{file}: {lines}"


@pytest.mark.parametrize("sealed_anew", [False, True])
def test_an_array_of_objects_is_refused_and_not_executed(tmp_path, sealed_anew):
    mark, path = tmp_path / "was-executed", tmp_path / "file.npz"
    buffer = io.BytesIO()
    np.savez(buffer, forget_logits=np.array([Planted(str(mark))]), accuracies=np.ones(2), about=np.array("{}"))
    path.write_bytes(resealed(buffer.getvalue()) if sealed_anew else buffer.getvalue())
    for read in (lambda: load_record(path, identity(0), SHAPE), lambda: load_pool(path, identity, SHAPE)):
        with pytest.raises(RecordError, match=r"file\.npz"):
            read()
    with pytest.raises(DamagedFile, match=r"file\.npz"):
        load_state(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Planted(str(mark))))
    assert mark.exists(), "else it would have shown nothing"
    os.rmdir(mark)


def test_what_is_sealed_holds_no_objects():
    with pytest.raises(ValueError, match="[Oo]bject arrays"), np.load(io.BytesIO(seal({"x": np.array([{}])}))) as there:
        there["x"]
