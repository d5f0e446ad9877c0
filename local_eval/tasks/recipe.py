"""The recipe by which the original model and the oracles are trained: optimiser, schedule, augmentation.

Without more than its first fields it is the organisers': Adam with coupled weight decay, a cosine per epoch, no
augmentation. What researchers use for CIFAR:

    Recipe(epochs=182, lr=0.1, weight_decay=5e-4, optimizer="sgd", momentum=0.9, flip=True, crop=4)

oracles/train.py takes its steps one by one, oracles/train_many.py for many networks at once.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, fields

from local_eval.tasks.names import nearest

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("cosine", "constant", "steps")
FIRST = ("epochs", "lr", "weight_decay", "batch_size", "class_weighted")  # always part of a task's fingerprint


@dataclass(frozen=True)
class Recipe:
    """How original and oracles are trained: with cross-entropy, for so many epochs, in batches drawn anew in each."""

    epochs: int
    lr: float  # of the first epoch after the warm-up
    weight_decay: float  # added to the gradient; with adamw, apart from it
    batch_size: int = 64
    class_weighted: bool = True  # weight 1 / count(class) of the whole training set, for oracles too, as officially
    optimizer: str = "adam"  # or "adamw", "sgd"
    momentum: float = 0.0  # of sgd
    nesterov: bool = False  # of sgd with momentum
    schedule: str = "cosine"  # to 0 over the epochs after the warm-up; or "constant", "steps"
    milestones: tuple[int, ...] = ()  # of "steps": epochs, counted from 0, from which on lr is multiplied by gamma
    gamma: float = 0.1
    warmup: int = 0  # epochs in which lr rises evenly, from lr / (warmup + 1); the next epoch has lr
    flip: bool = False  # mirror every second image or so
    crop: int = 0  # pixels of black on all sides, out of which an image of the old size is cut
    clip: float | None = None  # largest norm of a network's gradient; a longer one is shortened to it
    label_smoothing: float = 0.0

    def facts(self) -> dict[str, object]:
        """What a fingerprint covers, by name: the first fields, and of the others those that are not as usual."""
        return {f.name: self._plain(f.name) for f in fields(self) if f.name in FIRST or self.changed(f.name)}

    def _plain(self, name: str) -> object:
        value = getattr(self, name)
        return tuple(value) if name == "milestones" else value

    def changed(self, name: str) -> bool:
        """Has a field another value than its default? True for those without one."""
        return self._plain(name) != next(f.default for f in fields(self) if f.name == name)

    @property
    def views(self) -> int:
        """In how many ways an image can be seen: each shift of the crop, mirrored or not."""
        return (2 * self.crop + 1) ** 2 * (2 if self.flip else 1)

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0, relative to `lr`."""
        if epoch < self.warmup:
            return (epoch + 1) / (self.warmup + 1)
        if self.schedule == "cosine":
            return (1 + math.cos(math.pi * (epoch - self.warmup) / (self.epochs - self.warmup))) / 2
        return self.gamma ** sum(epoch >= m for m in self.milestones)  # "constant" has none

    def in_words(self) -> str:
        """Like '182 epochs, batches of 64, learning rate 0.1, sgd, momentum 0.9, flip': what is not usual is named."""
        words = [f"{self.epochs} epochs, batches of {self.batch_size}, learning rate {self.lr:g}"]
        for name, value in self.facts().items():
            if name not in FIRST:
                words.append(str(value) if name == "optimizer" else name if value is True else f"{name} {value}")
        return ", ".join(words)


def fault_in(recipe: Recipe, size: tuple[int, int]) -> str:
    """What is wrong with a recipe for images of `size` (height, width), and what to do; empty if nothing is."""
    return _wrong_numbers(recipe) or _wrong_words(recipe) or _wrong_together(recipe, size)


def _wrong_numbers(r: Recipe) -> str:
    for name, least in {"epochs": 1, "batch_size": 1, "warmup": 0, "crop": 0}.items():
        if not is_integer(getattr(r, name)) or getattr(r, name) < least:
            return f"{name} is {getattr(r, name)!r}; it must be an integer of {least} or more"
    for name in ("class_weighted", "nesterov", "flip"):
        if not isinstance(getattr(r, name), bool):
            return f"{name} is {getattr(r, name)!r}; it must be True or False"
    for name in ("lr", "clip", "gamma"):
        value = getattr(r, name)
        if not (name == "clip" and value is None) and not (is_finite(value) and value > 0):
            return f"{name} is {value!r}; it must be a finite number above 0"
    if not is_finite(r.weight_decay) or r.weight_decay < 0:
        return f"weight_decay is {r.weight_decay!r}; it must be a finite number of 0 or more"
    for name in ("momentum", "label_smoothing"):
        if not is_finite(getattr(r, name)) or not 0 <= getattr(r, name) < 1:
            return f"{name} is {getattr(r, name)!r}; it must be a number from 0 to below 1, such as 0.9 for a momentum"
    return ""


def _wrong_words(r: Recipe) -> str:
    for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        value = getattr(r, name)
        if value not in known:
            return f"{name} is {value!r}, which the recipe does not know{nearest(str(value), known)}"
    if not isinstance(r.milestones, tuple | list) or not all(map(is_integer, r.milestones)):
        return f"milestones is {r.milestones!r}; it must hold epochs, such as (91, 136)"
    return ""


def _wrong_together(r: Recipe, size: tuple[int, int]) -> str:
    if r.momentum and r.optimizer != "sgd":
        return f"momentum {r.momentum} goes with optimizer='sgd'; {r.optimizer} has its own, so leave it out"
    if r.nesterov and not r.momentum:
        return "nesterov needs optimizer='sgd' and a momentum, such as 0.9"
    if r.warmup >= r.epochs:
        return f"warmup is {r.warmup} of {r.epochs} epochs; it must be fewer than epochs"
    stepped = r.schedule == "steps"
    if not stepped and (r.milestones or r.changed("gamma")):
        name = "milestones" if r.milestones else "gamma"
        return f"schedule is {r.schedule!r}, which has no {name}; leave {name} out, or take schedule='steps'"
    if stepped and not r.milestones:
        return "schedule 'steps' needs milestones: epochs from which on lr is multiplied by gamma, such as (91, 136)"
    if list(r.milestones) != sorted(set(r.milestones)):
        return f"milestones are {tuple(r.milestones)}; give them in rising order, each once"
    if stepped and not r.warmup < r.milestones[0] <= r.milestones[-1] < r.epochs:
        span = f"{r.warmup + 1} to {r.epochs - 1}"
        return f"milestones are {tuple(r.milestones)}; with {r.epochs} epochs they must lie in {span}"
    if r.crop >= min(size):
        return f"crop is {r.crop}, but images have {size[1]}x{size[0]} pixels; a crop of an eighth of that is usual"
    return ""


def is_integer(value: object) -> bool:
    """Is it a whole number, and not True or False?"""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_finite(value: object) -> bool:
    """Is it a finite number, and not True or False?"""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
