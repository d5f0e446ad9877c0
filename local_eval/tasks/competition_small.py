"""The competition's shape and schedule at laptop cost, embedded: does a method work, and what would Kaggle give?

As officially: 24,399 training images with the official class counts, of 763 persons with about 32 training frames
each; 15 persons are to be forgotten (14 of class 0, one of class 1; 476 images); validation and test hold other frames
of the same persons; raw 0-255 pixels, three channels; batches of 64, so that an epoch of the retain set has 374 steps
and every schedule counts what it counted on Kaggle; an original trained by Adam with cosine and class weights 1/count.
Images are 16 x 16 digit persons (`digits.py`), the network is resnet18 with 8 channels instead of 64, and the
recipe has 12 epochs instead of 30, with its own learning rate and weight decay.

Methods bring learning rates tuned at 64 channels, so gradients are multiplied (`scaled_layers.py`). How FACTORS were
chosen, and what was known then of which winners: studies/competition_small.md.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from local_eval.store.sealed import load_state
from local_eval.tasks.digits import Words, draw_frames, draw_persons
from local_eval.tasks.recipe import Recipe
from local_eval.tasks.scaled_layers import Factors, ScaledResNet
from local_eval.tasks.task import Split, Task

TRAIN_COUNTS = (14615, 1675, 1123, 490, 632, 920, 2330, 1532, 674, 408)  # official, by class, read off a figure
FRAMES = 32  # training frames of a person, on average; an eighth as many in validation and in test
FORGET_PERSONS = {0: 14, 1: 1}  # how many of which class
WIDTH = 8  # channels of layer1; torchvision's resnet18 has 64
FACTORS = Factors(stem=1.0, body=32.0, norms=4.0, last=32.0)  # studies/competition_small.md has what else was tried
SEED = 43
RECIPE = Recipe(epochs=12, lr=3e-3, weight_decay=5e-4, batch_size=64, class_weighted=True)
ORIGINAL = Path(__file__).with_name("competition_small_original.npz")  # a stack of one, seed 0
ORACLES = Path(__file__).with_name("competition_small_oracles.npz")


def task() -> Task:
    """Build the task; takes about 1.5 s."""
    words = Words(SEED)
    persons = draw_persons([round(count / FRAMES) for count in TRAIN_COUNTS], words)
    person = np.repeat(np.arange(len(persons.labels)), frames_of(persons.labels))
    images, labels = draw_frames(persons, person, words), persons.labels[person]
    train, validation, test = split_by_class(labels, words)
    leaving = np.isin(person[train], forget_persons(persons.labels, words))
    parts = {"retain": train[~leaving], "forget": train[leaving], "validation": validation, "test": test}
    tensors = [torch.from_numpy(array) for array in (images, labels, np.arange(len(person)), person, 10 * labels)]
    splits = {name: Split(*tensors)[torch.from_numpy(index)] for name, index in parts.items()}
    make_net = partial(ScaledResNet, WIDTH, len(TRAIN_COUNTS), FACTORS)
    known = {"original": original_model(), "oracles": ORACLES}
    return Task("competition_small", make_net=make_net, recipe=RECIPE, **known, **splits)


def original_model() -> dict[str, Tensor] | None:
    """State dict of the original model that comes with the task, if its file is there."""
    return load_state(ORIGINAL) if ORIGINAL.exists() else None


def frames_of(labels: np.ndarray) -> np.ndarray:
    """int64 [P]: how many frames every person has, so that the classes come out at their counts."""
    frames = np.empty(len(labels), dtype=np.int64)
    for of_class, count in enumerate(TRAIN_COUNTS):
        members = np.flatnonzero(labels == of_class)
        each, more = divmod(count + 2 * held_out(count), len(members))
        frames[members] = each + (np.arange(len(members)) < more)
    return frames


def held_out(count: int) -> int:
    """Images of a class in validation, and in test, beside `count` for training: an eighth, as officially."""
    return round(count / 8)


def split_by_class(labels: np.ndarray, words: Words) -> list[np.ndarray]:
    """Indices of the training, validation and test images: drawn image by image, whoever they show."""
    parts = []
    for of_class, count in enumerate(TRAIN_COUNTS):
        order = words.shuffled(np.flatnonzero(labels == of_class))
        parts.append(np.split(order, [count, count + held_out(count)]))
    return [np.sort(np.concatenate(part)) for part in zip(*parts)]


def forget_persons(labels: np.ndarray, words: Words) -> np.ndarray:
    """The numbers of the persons to be forgotten."""
    drawn = [words.shuffled(np.flatnonzero(labels == c))[:count] for c, count in FORGET_PERSONS.items()]
    return np.concatenate(drawn)
