"""competition_like has the competition's sizes, classes, persons and frames, and is the same every time."""

import numpy as np
import pytest
import torch

from local_eval.tasks.competition_like import SEED, build, draw_persons, jittered, task
from local_eval.tasks.names import TaskError
from tests.made_up import check_gradable, write_image

SHORT = """
from dataclasses import replace
from functools import partial
import torch
from local_eval.tasks.competition_like import build
from tests.tiny_task import TinyResNet

def task():
    images = torch.randint(0, 256, (600, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    small = build(images, torch.arange(600) % 10, total=400, frames=4)
    return replace(small, make_net=partial(TinyResNet, 2, 10), recipe=replace(small.recipe, epochs=1))
"""


def base(count, side=8):
    images = torch.randint(
        0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    return images, torch.arange(count) % 10


def seeded():
    return torch.Generator().manual_seed(SEED)


@pytest.fixture(scope="module")
def full():
    """The whole task, of 60,000 images as CIFAR-10 has them, only smaller."""
    return build(*base(60_000, side=4))


def test_sizes_and_classes_are_the_competitions(full):
    sizes = {name: len(split) for name, split in full.splits.items()}
    assert sizes["retain"] + sizes["forget"] == 24_000
    assert sizes["validation"] == sizes["test"] == 3_000
    assert 480 - 8 < sizes["forget"] <= 480
    assert full.forget.labels.unique().tolist() == [0, 1]
    assert 0.85 < (full.forget.labels == 0).float().mean() < 0.95
    everybody = torch.cat([split.labels for split in full.splits.values()])
    counts = torch.bincount(everybody)
    assert (counts % 8 == 0).all()
    assert (counts[:-1] >= 1.7 * counts[1:]).all(), "each class is about half of the one before"
    assert counts[0] > 15_000
    weights = torch.bincount(torch.cat([full.retain.labels, full.forget.labels]))
    assert torch.allclose(full.class_weights(), 1 / weights.float())
    assert (full.recipe.epochs, full.recipe.lr, full.recipe.weight_decay, full.retain.mean) == (30, 1e-4, 5e-3, None)


def test_persons_have_eight_frames_and_are_forgotten_wholly(full):
    persons = {name: split.person_id.tolist() for name, split in full.splits.items()}
    everybody = sum(persons.values(), [])
    assert sorted(everybody) == [k // 8 for k in range(30_000)]
    assert not set(persons["retain"]) & set(persons["forget"])
    assert set(persons["forget"]) & set(persons["test"]), "held-out frames of persons that are known, as officially"
    class_of = {}
    for split in full.splits.values():
        for person, label in zip(split.person_id.tolist(), split.labels.tolist()):
            assert class_of.setdefault(person, label) == label


def test_the_same_images_give_the_same_task():
    images, labels = base(600)
    one, other = (build(images, labels, total=400, frames=4).fingerprint() for _ in range(2))
    assert one == other
    images[:, 0, 0, 0] += 1
    assert build(images, labels, total=400, frames=4).fingerprint() != one


def test_frames_are_shifted_and_brightened_copies_of_their_person():
    images, frames = base(12)[0], 5
    found = jittered(images, frames, seeded())
    generator = seeded()
    down, right = (torch.randint(0, 5, (60,), generator=generator) for _ in range(2))
    factor = 1 + 0.1 * (2 * torch.rand(60, generator=generator) - 1)
    for k in range(60):
        image = images[k // frames]
        if k % frames:
            padded = np.stack([np.pad(channel, 2, mode="reflect") for channel in image.numpy()])
            moved = padded[:, down[k] : down[k] + 8, right[k] : right[k] + 8].astype(np.float32)
            image = torch.from_numpy(np.clip(np.round(moved * factor[k].numpy()), 0, 255).astype(np.uint8))
        assert torch.equal(found[k], image)
    assert (factor.min() < 0.95, factor.max() > 1.05, down.unique().tolist()) == (True, True, [0, 1, 2, 3, 4])


def test_persons_are_different_images_of_their_class():
    labels = base(500)[1]
    drawn = draw_persons(labels, 80, seeded())
    assert len(drawn.unique()) == 80
    assert torch.bincount(labels[drawn]).tolist() == [42, 20, 10, 5, 2, 1]  # rounded down; class 0 has the rest


def test_too_few_images_of_a_class_are_told():
    with pytest.raises(TaskError, match="class 0 needs .* images for 50 persons, but there are 4"):
        build(*base(40), total=400, frames=8)


def test_both_parts_of_cifar_are_drawn_from(tmp_path):
    for label in range(10):
        for part in ("train", "test"):
            write_image(tmp_path / part / str(label) / "0.png", label)
    with pytest.raises(TaskError, match="class 0 needs 1881 images for 3750 persons, but there are 2"):
        task(tmp_path)


def test_competition_like_can_be_graded(tmp_path, monkeypatch):
    assert check_gradable(tmp_path, "", monkeypatch, source=SHORT) == "competition_like"
