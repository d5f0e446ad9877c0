"""Made-up image files, and any task made short enough to be graded in seconds."""

import numpy as np
from PIL import Image

from local_eval.__main__ import main
from tests.conftest import GOOD, in_this_process, work_here  # noqa: F401  both places are asked

SHORT = """
from dataclasses import replace
from functools import partial
from local_eval.tasks.loading import load_task
from local_eval.tasks.digits import NarrowResNet

def task():
    long = load_task(SPEC)
    net, recipe = partial(NarrowResNet, 2, long.num_classes), replace(long.recipe, epochs=1)
    return replace(long, make_net=net, recipe=recipe, original=None)
"""


def write_image(path, seed, size=(32, 32), mode="RGB"):
    """A noisy image file of (width, height); returns its pixels, uint8 [3, H, W], as Pillow reads them back."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)
    return np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)


def grade_short(tmp_path, spec, monkeypatch, source=SHORT):
    """Grade a small submission with 16 runs on a one-epoch, narrow copy of a task; returns the exit code."""
    work_here(monkeypatch)
    task, submission = tmp_path / "short.py", tmp_path / "mine.py"
    task.write_text(source.replace("SPEC", repr(str(spec))))
    submission.write_text(GOOD)
    more = ["--runs", "16", "--workers", "1", "--device", "cpu", "--out", str(tmp_path / "out")]
    return main(["grade", str(submission), "--task", str(task), *more])
