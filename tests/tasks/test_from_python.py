"""Data sets and arrays of a session become one and the same task, or are refused in a sentence that says what to do."""

import functools

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from local_eval.tasks.from_python import task_from
from local_eval.tasks.names import SPLITS, TaskError
from local_eval.tasks.recipe import Recipe
from local_eval.tasks.task import Split, Task

SIZES = (40, 12, 10, 10)
ENDS = np.cumsum((0, *SIZES))
IMAGES = torch.randint(0, 256, (72, 3, 6, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
LABELS = torch.arange(72) % 3
SPANS = [slice(a, b) for a, b in zip(ENDS, ENDS[1:])]


def net(channels=3, classes=3):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, classes))


def made(change=lambda x, y: (x, y), make_net=net, **more) -> Task:
    """The task of four splits, each changed on its way."""
    return task_from(*(change(IMAGES[s], LABELS[s]) for s in SPANS), make_net=make_net, **more)


PLAIN = made()


class Items(Dataset):
    """What people give: one item at a time."""

    def __init__(self, images, labels, item):
        self.images, self.labels, self.item = images, labels, item

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, k):
        return self.item(self.images[k], int(self.labels[k]), k)


def items(item):
    return lambda x, y: Items(x, y, item)


def picture(image, mode="RGB"):
    return Image.fromarray(image.permute(1, 2, 0).numpy()).convert(mode)


def number_of(image):
    return int.from_bytes(image.flatten()[:4].numpy().tobytes(), "big")


def named(image, label, k):
    return {"image": image.float(), "image_id": torch.tensor(number_of(image)), "age_group": label, "age": 40 + k}


def test_every_form_of_the_same_data_is_the_same_task():
    for change in [
        lambda x, y: (x.numpy(), y.numpy()),
        lambda x, y: (x.permute(0, 2, 3, 1).numpy(), y[:, None].float()),
        lambda x, y: (x.float() / 255, torch.eye(3)[y]),
        lambda x, y: {"images": x, "labels": y},
        lambda x, y: TensorDataset(x.float() / 255, y),
        lambda x, y: [(one, int(label)) for one, label in zip(x, y)],
        items(lambda image, label, k: (picture(image), label)),
        items(lambda image, label, k: (picture(image), torch.tensor([label]))),
        items(lambda image, label, k: (image / 255, torch.tensor(float(label), requires_grad=True))),
        items(lambda image, label, k: (image, label, k)),  # the index counts from 0 in each split: no name
        items(lambda image, label, k: {"img": picture(image), "label": label}),
        items(lambda image, label, k: {"image": image, "label": label, "image_id": f"{k}.png"}),
    ]:
        assert made(change).fingerprint() == PLAIN.fingerprint()


def test_parts_of_one_data_set_keep_its_numbers_and_must_not_overlap():
    base = TensorDataset(IMAGES, LABELS)
    order = torch.randperm(72, generator=torch.Generator().manual_seed(1)).tolist()
    task = task_from(*(Subset(Subset(base, order), range(s.start, s.stop)) for s in SPANS), make_net=net)
    assert torch.equal(task.retain.image_id, torch.tensor(order[:40]))
    assert torch.equal(task.test.images, IMAGES[order[62:]])
    with pytest.raises(TaskError, match="item 39 of one data set is in retain and in forget"):
        rest = [(IMAGES[s], LABELS[s]) for s in SPANS[2:]]
        task_from(Subset(base, range(40)), Subset(base, range(39, 52)), *rest, make_net=net)


def test_what_the_competitions_batches_name_is_taken():
    task = made(items(named))
    assert task.forget.image_id.tolist() == [number_of(image) for image in IMAGES[SPANS[1]]]
    assert task.forget.age.tolist() == list(range(40, 52)) and torch.equal(task.forget.images, IMAGES[SPANS[1]])


def test_splits_by_hand_come_back_as_they_are():
    ids = torch.arange(100, 172)
    splits = [Split(IMAGES[s], LABELS[s], ids[s], ids[s] // 2, LABELS[s] * 5, (9.0,) * 3, (80.0,) * 3) for s in SPANS]
    task = task_from(*splits, make_net=net)
    for split, name in zip(splits, SPLITS):
        assert task.splits[name].digest() == split.digest()


def test_persons_are_numbers_or_names_and_must_be_wholly_in_retain_or_forget():
    by_name = {name: [f"p{k // 2}" for k in range(s.start, s.stop)] for name, s in zip(SPLITS, SPANS)}
    task = made(persons=by_name)
    assert [len(split.person_id.unique()) for split in task.splits.values()] == [20, 6, 5, 5]
    assert task.forget.person_id[0] == task.forget.person_id[1] != task.forget.person_id[2]
    some = made(persons={"forget": [7] * 12})
    assert len(some.forget.person_id.unique()) == 1 and len(some.retain.person_id.unique()) == 40
    for persons, reported in (
        ({"retain": ["a"] * 40, "forget": ["a"] * 12}, "person 'a' is in retain and in forget"),
        ({"forget": [1]}, "1 persons for 12 images of the forget set"),
        ({"train": [1]}, "persons has train"),
    ):
        with pytest.raises(TaskError, match=reported):
            made(persons=persons)


def test_grey_images_are_repeated_for_a_network_that_takes_three_channels():
    for change in [
        lambda x, y: (x[:, 0], y),
        lambda x, y: (x[:, :1].float() / 255, y),
        lambda x, y: (x[:, 0, ..., None].numpy(), y),
        items(lambda image, label, k: (Image.fromarray(image[0].numpy()), label)),
    ]:
        task = made(change)
        assert torch.equal(task.test.images, IMAGES[SPANS[3]][:, :1].repeat(1, 3, 1, 1))
        assert "grey images are given to the network three times, as red, green and blue" in task.notes


def test_how_things_were_read_is_told_once():
    assert made(lambda x, y: (x.float() / 255, y)).notes == (
        "images, float32 from 0 to 1, are read as the bytes that they came from",
    )
    assert PLAIN.notes == ()


def test_a_class_that_is_to_be_forgotten_as_a_whole_is_told():
    images, labels = IMAGES[:72], torch.cat([torch.arange(40) % 2, torch.full((12,), 2), torch.arange(20) % 3])
    task = task_from(*((images[s], labels[s]) for s in SPANS), make_net=net)
    assert "class 2 is in the forget set alone: a whole class is to be forgotten" in task.notes
    labels = torch.cat([torch.arange(52) % 2, torch.arange(20) % 3])
    task = task_from(*((images[s], labels[s]) for s in SPANS), make_net=net)
    assert "class 2 is in validation or test but in no training image" in task.notes


def flaky(image, label, k):
    return (image if torch.rand(()) < 0.5 else image.flip(2)), label


def boom(image, label, k):
    raise OSError("no such file")


class Stream(IterableDataset):
    def __iter__(self):
        yield IMAGES[0], 0


def test_what_cannot_be_read_in_one_way_only_is_refused():
    for change, reported in [
        (items(flaky), "retain item .* each time that it is read: its transform draws at random"),
        (items(lambda i, y, k: (i, int(torch.randint(3, ())))), "draws at random"),
        (items(boom), "retain item 0 cannot be read: OSError: no such file"),
        (items(lambda i, y, k: (picture(i, "RGBA"), y)), "mode RGBA"),
        (items(lambda i, y, k: (i[:, : 5 + k % 2], y)), r"differ in size: item 1 is \[3, 6, 5\], item 0 \[3, 5, 5\]"),
        (items(lambda i, y, k: ("a.png", y)), "are texts"),
        (items(lambda i, y, k: i), "item 0 is a Tensor; items are"),
        (items(lambda i, y, k: (i, y, k, k)), "item 0 is 4 things"),
        (items(lambda i, y, k: {"image": i, "label": y, "target": y}), "label and target: which is it"),
        (items(lambda i, y, k: {"picture": i, "label": y}), "none of image, images"),
        (items(lambda i, y, k: (i / 255 if k % 2 else i, y)), "several types"),
        (items(lambda i, y, k: ((i / 255 - 0.5) / 0.5, y)), "look normalised"),
        (lambda x, y: Stream(), "whose items have no numbers"),
        (lambda x, y: DataLoader(TensorDataset(x, y)), "give its data set, retain_loader.dataset"),
        (lambda x, y: x, "give a data set, or a pair"),
        (lambda x, y: (y, x), r"labels before the images; give \(images, labels\)"),
        (lambda x, y: (x.permute(2, 3, 1, 0), y), "counted by their last axis.*moveaxis"),
        (lambda x, y: (x[:0], y[:0]), "the retain set is empty"),
        (lambda x, y: TensorDataset(x[:0], y[:0]), "the retain set is empty"),
        (lambda x, y: (x, y + 1), "labels start at 1; give labels - 1, or num_classes=4"),
        (lambda x, y: (x, y * 2), "no image has label 1, 3.*num_classes=5"),
        (lambda x, y: (x, y * 0), "all labels are 0"),
        (lambda x, y: (x * 0 + 3, y), "one and the same picture"),
        (lambda x, y: (IMAGES[: len(y)], y), "pixel by pixel"),
    ]:
        with pytest.raises(TaskError, match=rf"task_from: .*{reported}"):
            made(change)


def test_one_picture_that_is_to_be_kept_and_forgotten_is_refused_by_its_places():
    images = IMAGES.clone()
    images[45] = images[7]
    with pytest.raises(TaskError, match="1 pictures are in retain and in forget.*retain 7 and forget 5"):
        task_from(*((images[s], LABELS[s]) for s in SPANS), make_net=net)


def test_the_rest_is_checked_as_it_is_for_a_task_in_a_file():
    for more, reported in [
        ({"make_net": net()}, "Sequential that exists already.*lambda: Sequential"),
        ({"make_net": "resnet18"}, "make_net is 'resnet18'"),
        ({"name": "a/b"}, "no name for a folder"),
        ({"num_classes": 2}, "span 0..2"),
        ({"mean": 0.5, "std": 0.25}, "multiply by 255"),
        ({"mean": 127.0}, "go together"),
        ({"class_names": ("a", "b")}, "2 class_names for 3 classes"),
    ]:
        with pytest.raises(TaskError, match=reported):
            made(**{"make_net": net} | more)


def test_options_of_a_task_are_taken():
    recipe, wide = Recipe(2, 1e-2, 0.0, class_weighted=False), functools.partial(net, classes=5)
    task = made(make_net=wide, num_classes=5, recipe=recipe, name="mine-2", mean=np.array([9, 8, 7]), std=[60] * 3)
    assert (task.name, task.num_classes, task.recipe) == ("mine-2", 5, recipe)
    assert task.test.mean == (9.0, 8.0, 7.0) and task.test.std == (60.0,) * 3
    original = net()
    kept = made(original=original).original
    with torch.no_grad():
        original[0].weight.zero_()
    assert kept["0.weight"].abs().sum() > 0, "a copy"
