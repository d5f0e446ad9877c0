"""Every file that is written and read again is cut off at 20 places, and a bit of it turned over at 1,000.

Files that only people read have no checksum: NNNN.failed.txt, a board's CSV, bench's JSON, notebooks, tables.
"""

import io
import random

import numpy as np
import pytest

from local_eval.oracles.oracles import load_pool, save_pool
from local_eval.report.result import read_score
from local_eval.runs.checkpoints import Checkpoints, checksum_of, zip_checkpoints
from local_eval.store.errors import InputError
from local_eval.store.records import load_record
from local_eval.store.sealed import load_state, seal_fits
from local_eval.tasks.data.images import open_pixels, save_pixels

pytestmark = pytest.mark.faults
CUTS, FLIPS = 20, 1000


@pytest.fixture
def readers(undisturbed, tmp_path):
    """Name -> (a file, what reads it: raises InputError or returns something that can be compared)."""
    grader, runs = undisturbed.grader, undisturbed.runs
    shape = (16, 3)
    original = grader.folder / "original_evaluation.npz"
    plan = grader.run_plan(str(undisturbed.path))
    oracles = grader.cached_oracles()
    save_pool(oracles, tmp_path / "pool.npz")
    save_pixels(tmp_path / "pixels.npy", np.arange(3 * 64, dtype=np.uint8).reshape(1, 3, 8, 8))
    zip_checkpoints(runs / "checkpoints", tmp_path / "two.zip", 2)
    identity = {"kind": "original", "task": grader.fingerprint, "original": plan.identity(0)["original"]}
    first = load_record(runs / "0000.npz", plan.identity(0), shape)
    checkpoint = runs / "checkpoints" / "unlearned_checkpoint_0.pth"

    def record(identity):
        return lambda file: load_record(file, identity, shape).evaluation.forget_logits.tobytes()

    def sealed(file):
        content = file.read_bytes()
        return np.load(io.BytesIO(content)).tobytes() if seal_fits(content) else refuse(file)

    def pixels(file):
        found = open_pixels(file, 1)
        return refuse(file) if found is None else found.tobytes()

    net = grader.task.make_net()

    def weights(file):
        found = Checkpoints.find(file, net)
        for index in range(2):
            found.load(index, net)
        return b"".join(value.numpy().tobytes() for value in net.state_dict().values())

    def known(file):
        return b"" if checksum_of(file) == first.facts["checkpoint"] else refuse(file)

    def state(file):
        return b"".join(value.numpy().tobytes() for value in load_state(file).values())

    return {
        "original.npz": (grader.folder / "original.npz", state),
        "original_evaluation.npz": (original, record(identity)),
        "oracles/0000.npz": (grader.folder / "oracles" / "0000.npz", record(grader.oracle_identity(0))),
        "a run's 0000.npz": (runs / "0000.npz", record(plan.identity(0))),
        "a checkpoint of --keep-checkpoints": (checkpoint, known),
        "submission.zip": (tmp_path / "two.zip", weights),
        "score.json": (runs / "score.json", lambda file: repr(read_score(file)).encode()),
        "epsilons.npy": (runs / "epsilons.npy", sealed),
        "a file of oracles": (
            tmp_path / "pool.npz",
            lambda file: load_pool(file, grader.oracle_identity, shape)[0].evaluation.forget_logits.tobytes(),
        ),
        "a cache of pixels": (tmp_path / "pixels.npy", pixels),
    }


def refuse(file):
    raise InputError(f"{file} is not what was written")


def damaged(whole: bytes, rng: random.Random):
    """The content cut off at places from nothing to all but a byte, then with one bit turned over."""
    for k in range(CUTS):
        yield whole[: len(whole) * k // (CUTS - 1) if k < CUTS - 1 else len(whole) - 1]
    for _ in range(FLIPS):
        content = bytearray(whole)
        content[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        yield bytes(content)


def test_every_file_knows_when_it_is_not_what_was_written(readers, tmp_path, table):
    for name, (file, read) in readers.items():
        whole, good, rng = file.read_bytes(), read(file), random.Random(name)
        copy, noticed, same, changed = tmp_path / f"copy{file.suffix}", 0, 0, 0
        for content in damaged(whole, rng):
            copy.write_bytes(content)
            try:
                found = read(copy)
            except InputError:
                noticed += 1
            else:
                same, changed = same + (found == good), changed + (found != good)
        end = f"{noticed} noticed" + (f", {same} without any effect on the content" if same else "")
        table.tell(f"{name}: cut off at {CUTS} places, a bit turned over at {FLIPS}", CUTS + FLIPS, 0, changed, end)


def test_what_is_damaged_in_a_store_is_made_again_and_nothing_else(store, undisturbed, table):
    assert store.resume() == 0, store.said()
    mine, lost = store.runs.name, 0
    remade = {  # by damaged file: the records that are written again
        "original.npz": set(),
        "oracles/0003.npz": {"oracles/0003.npz"},
        f"{mine}/0007.npz": {f"{mine}/0007.npz"},
        f"{mine}/checkpoints/unlearned_checkpoint_9.pth": {f"{mine}/0009.npz"},
    }
    for name, expected in remade.items():
        file = store.grader.folder / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        before = store.finished()
        store.log.unlink()
        (store.runs / "score.json").unlink()
        assert store.resume() == 0, store.said()
        assert f"{file} is damaged" in store.said(), store.said()
        now = store.finished()
        lost += len(
            {k for k, known in before.items() if now[k] != known}
            ^ {f"{store.grader.folder.name}/{k}" for k in expected}
        )
    text = "named, and made again by the same command"
    table.tell("a file of the store is cut in half", len(remade), lost, store.differs_from(undisturbed), text)
