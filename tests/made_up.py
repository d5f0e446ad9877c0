"""Made-up image files, and any task made short enough to be tried in seconds."""

import numpy as np
from PIL import Image

from local_eval.grader import Grader
from tests.conftest import GOOD, in_this_process, work_here  # noqa: F401  both places are asked

SHORT = """
from dataclasses import replace
from functools import partial
from local_eval.tasks.loading import load_task
from tests.tiny_task import TinyResNet

def task():
    long = load_task(SPEC)
    net, recipe = partial(TinyResNet, 2, long.num_classes), replace(long.recipe, epochs=1)
    return replace(long, make_net=net, recipe=recipe, original=None)
"""


def write_image(path, seed, size=(32, 32), mode="RGB"):
    """A noisy image file of (width, height); returns its pixels, uint8 [3, H, W], as Pillow reads them back."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)
    return np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)


def check_gradable(tmp_path, spec, monkeypatch, source=SHORT):
    """Make original, oracles and a run on a one-epoch, narrow copy of a task; returns the copy's name.

    What a grading does more is the same for all tasks.
    """
    work_here(monkeypatch)
    task, submission = tmp_path / "short.py", tmp_path / "mine.py"
    task.write_text(source.replace("SPEC", repr(str(spec))))
    submission.write_text(GOOD)
    grader = Grader(str(task), tmp_path / "out", runs=1)
    done, failures = grader.make_runs(str(submission))
    assert not failures
    shape = len(grader.task.forget), grader.task.num_classes
    for record in (*grader.finish_oracles(), *done.values()):
        assert record.evaluation.forget_logits.shape == shape
        assert 0 <= record.evaluation.test_accuracy <= 1 and 0 <= record.evaluation.retain_accuracy <= 1
    return grader.task.name
