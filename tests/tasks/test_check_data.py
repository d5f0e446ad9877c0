"""Splits made by hand that would train without a complaint and mean something else are refused by file and split."""

from dataclasses import replace

import pytest
import torch

from local_eval.tasks.check import check_task
from local_eval.tasks.names import TaskError

MEAN, STD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)


def changed(task, names="retain forget validation test", **columns):
    """The task with columns of some splits replaced; a function gets what is there."""
    new = {}
    for name in names.split():
        split = task.splits[name]
        new[name] = replace(split, **{k: v(getattr(split, k)) if callable(v) else v for k, v in columns.items()})
    return replace(task, **new)


def unit(images):
    return images.float() / 255


def test_what_means_something_else_is_refused(tiny):
    for columns, reported in [
        # in silence once: mean and std in another unit, of one split only, and what a cast has left
        ({"mean": (0.49, 0.48, 0.45), "std": (0.25, 0.24, 0.26)}, "not in pixels.*multiply by 255.*these have mean"),
        ({"mean": MEAN, "std": (0.25, 0.24, 0.26)}, "not in pixels"),
        ({"mean": (0.49, 0.48, 0.45), "std": STD}, "not in pixels"),
        ({"mean": (0.5,), "std": (0.5,)}, "must be a tuple of 3 numbers"),
        ({"images": lambda x: unit(x).to(torch.uint8)}, "retain images hold no values but 0 and 1"),
        ({"images": lambda x: ((unit(x) - 0.5) / 0.25).to(torch.int8).to(torch.uint8)}, "normalised floats"),
        ({"images": lambda x: x * 0 + 7}, "all 96 retain images are one and the same picture"),
        ({"images": lambda x: x[:1].expand_as(x)}, "one and the same picture"),
        # said by a mere 'must be uint8' once
        ({"images": unit}, r"hold bytes all the same: \(images \* 255\).round"),
        ({"images": lambda x: x.float()}, r"must be uint8.*images.to\(torch.uint8\) loses nothing"),
        ({"images": lambda x: x.long()}, "loses nothing"),
        ({"images": lambda x: (unit(x) - 0.5) / 0.5}, "look normalised"),
        ({"images": lambda x: x > 127}, "are bool"),
        ({"images": lambda x: x.permute(0, 2, 3, 1).contiguous()}, r"channels last.*permute\(0, 3, 1, 2\)"),
        ({"images": lambda x: x[:, :, :, :3]}, "channels last"),
        ({"images": lambda x: x[:, 0]}, r"grey.*images\[:, None\]"),
        ({"images": lambda x: x.numpy()}, "ndarray, not a tensor"),
        ({"labels": lambda y: y[:, None]}, r"int64 \[n\].*squeeze\(1\)"),
        ({"labels": lambda y: torch.eye(3)[y]}, r"argmax\(1\)"),
        ({"labels": lambda y: y.float()}, r"try .long\(\)"),
        ({"labels": lambda y: y + 0.5}, "have fractions"),
        ({"labels": lambda y: y.numpy()}, "labels of the retain set are a ndarray"),
        ({"labels": lambda y: y + 1}, "span 1..3.*labels - 1"),
        ({"labels": lambda y: y - 1}, "span -1..1"),
        # what mean and std must be
        ({"mean": MEAN}, "go together"),
        ({"mean": torch.tensor(MEAN), "std": torch.tensor(STD)}, "must be a tuple of 3 numbers"),
        ({"mean": list(MEAN), "std": list(STD)}, "must be a tuple"),
        ({"mean": MEAN[:2], "std": STD[:2]}, "must be a tuple of 3 numbers"),
        ({"mean": MEAN, "std": (63.0, 0.0, 66.7)}, "above 0"),
        ({"mean": (float("nan"),) * 3, "std": STD}, "both finite"),
    ]:
        with pytest.raises(TaskError, match=rf"(?s)mine.py: .*{reported}"):
            check_task(changed(tiny, **columns), "mine.py")


def test_one_split_that_differs_is_named(tiny):
    for names, columns, reported in [
        ("test", {"mean": MEAN, "std": STD}, "test has mean .*retain None and None.*all splits alike"),
        ("validation", {"images": lambda x: unit(x).to(torch.uint8)}, "validation images hold no values but 0 and 1"),
        ("forget", {"images": lambda x: x * 0}, "all 16 forget images are one"),
    ]:
        with pytest.raises(TaskError, match=rf"mine.py: .*{reported}"):
            check_task(changed(tiny, names, **columns), "mine.py")


def test_the_same_pictures_under_other_ids_are_an_overlap(tiny):
    again = replace(tiny.test, images=tiny.retain.images[: len(tiny.test)])
    with pytest.raises(TaskError, match="mine.py: 24 pictures are in retain and in test, pixel by pixel"):
        check_task(replace(tiny, test=again), "mine.py")
    check_task(replace(tiny, test=replace(tiny.test, images=tiny.validation.images)), "mine.py")  # trained on neither
    part = replace(tiny.test, images=torch.cat([tiny.retain.images[:13], tiny.test.images[13:]]))
    with pytest.raises(TaskError, match="13 pictures are in retain and in test"):
        check_task(replace(tiny, test=part), "mine.py")
    few = replace(tiny.test, images=torch.cat([tiny.retain.images[:3], tiny.test.images[3:]]))
    check_task(replace(tiny, test=few), "mine.py")  # real data has a few pictures twice


def test_what_is_meant_so_is_taken(tiny):
    for columns in [
        {"mean": MEAN, "std": STD},
        {"mean": (127.5,) * 3, "std": (127.5,) * 3},
        {"mean": (0, 0, 0), "std": (255, 255, 255)},
        {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
        {"images": lambda x: (x > 127).to(torch.uint8) * 255},
        {"images": lambda x: x // 16},
        {"images": lambda x: x // 128, "mean": (0.5,) * 3, "std": (0.5,) * 3, "labels": lambda y: y},
    ]:
        if "labels" in columns:  # images of 0 and 1 with mean and std that fit are refused for the images alone
            with pytest.raises(TaskError, match="no values but 0 and 1"):
                check_task(changed(tiny, **columns), "mine.py")
        else:
            check_task(changed(tiny, **columns), "mine.py")
