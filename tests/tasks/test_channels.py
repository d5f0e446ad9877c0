"""Images of one channel, or of four, go the whole way: training, loaders, evaluation, the page's pictures."""

import base64
import io
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from local_eval.methods.loaders import make_loaders
from local_eval.oracles.train import train
from local_eval.oracles.train_many import Layout, Trainer
from local_eval.report.page.render import picture
from local_eval.tasks.check import check_task
from local_eval.tasks.evaluate import evaluate
from local_eval.tasks.loading import overview
from local_eval.tasks.names import TaskError
from tests.oracles.kinds_of_networks import Small, TinyViT


def with_channels(tiny, channels, make=Small, normalised=False):
    """The tiny task with other channels; with statistics of their own, if wanted."""
    splits = {}
    for name, split in tiny.splits.items():
        images = split.images[:, [0, 1, 2, 0, 1, 2][:channels]].contiguous()
        seen = {"mean": (100.0,) * channels, "std": (60.0,) * channels} if normalised else {}
        splits[name] = replace(split, images=images, **seen)
    return replace(tiny, make_net=partial(make, channels), **splits)


def test_stacked_or_not_networks_learn_from_them_as_the_plain_loop_does(tiny):
    for channels in [1, 2, 4]:
        for normalised in [False, True]:
            for make in [Small, TinyViT]:
                task = with_channels(tiny, channels, make, normalised)
                check_task(task, "task.py")
                net = list(Trainer(task, task.retain, Layout(2)).train([1, 2]))[1]
                found, expected = (evaluate(each, task).forget_logits for each in (net, train(task, task.retain, 2)))
                assert np.allclose(found, expected, atol=1e-2)
                for loader, split in zip(make_loaders(task), (task.retain, task.forget, task.validation)):
                    batch = next(iter(loader))
                    assert batch["image"].shape[1:] == (channels, 16, 16)
                    assert len(loader.dataset.examples) == len(split)
                    assert loader.dataset[0]["image"].equal(split.pixels(slice(0, 1))[0])


def test_a_tables_title_tells_unusual_channels(tiny):
    assert "16x16 pixels (width x height) and 1 channel(s)" in overview(with_channels(tiny, 1))
    assert "channel" not in overview(tiny).splitlines()[0]


def test_the_pages_pictures_show_grey_or_the_first_three_channels(tiny):
    for channels, mode in [(1, "L"), (2, "L"), (3, "RGB"), (4, "RGB"), (6, "RGB")]:
        task = with_channels(tiny, channels)
        uri = picture(SimpleNamespace(source=SimpleNamespace(task=task)), 5)
        shown = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
        assert shown.mode == mode
        first = np.asarray(shown).reshape(*shown.size, -1)[0, 0]
        assert first.tolist() == task.forget.images[5, : len(first), 0, 0].tolist()


def without_channels(split):
    return replace(split, images=split.images[:, :0])


def test_other_channels_than_the_network_or_another_split_has_are_refused(tiny):
    for change, message in [
        (lambda t: {"test": with_channels(t, 1).test}, "test images have 1 channels, retain images 3; all splits need"),
        (lambda t: {k: without_channels(v) for k, v in t.splits.items()}, "0 channels"),
        (lambda t: {"retain": replace(t.retain, images=t.retain.images.permute(0, 2, 3, 1))}, r"permute\(0, 3, 1, 2\)"),
        (lambda t: {"test": replace(t.test, mean=(1.0,), std=(1.0,))}, "it must be a tuple of 3 numbers"),
        (lambda t: {"test": replace(t.test, images=t.test.images[:, 0])}, "grey, without their axis of channels"),
        (
            lambda t: with_channels(t, 1).splits,
            "in eval mode the network cannot take 1 of the task's images, 1 channels",
        ),
    ]:
        with pytest.raises(TaskError, match=f"task.py: .*{message}"):
            check_task(replace(tiny, **change(tiny)), "task.py")
