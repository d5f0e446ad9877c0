"""The embedded task: scikit-learn's handwritten digits in the competition's shape. Nothing is downloaded.

1,797 real 8x8 digits (UCI optical recognition, test part) are enlarged to 32x32, three channels, raw 0-255 pixels and
split 80/10/10. The forget set is 5 % of the training part, all of it labelled 0 or 1. A share of the training
labels is wrong: such labels can only be memorised, so a model that saw the forget set gives itself away and there is
something to forget. Writers are not recorded in this copy of the data, so every image is its own person.

The network has torchvision resnet18's modules under its names, at an eighth of its width. The original model comes with
the task, as it came with the competition, so that all machines unlearn the same weights: trained anew on another
processor they would differ. It was trained as `oracles.finish_original` does; without the file, a machine trains its
own.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, ResNet

from local_eval.store.sealed import load_state
from local_eval.tasks.recipe import Recipe
from local_eval.tasks.task import Split, Task

# Persons drawn from scikit-learn's 1,797 handwritten digits: one scan is one person, and its frames are its video.
#
# What stays the same in all frames of a person is the scan, a cloudy background and a tint; between frames the
# picture turns, grows, moves, gets lighter and noisier. The digit says which class it is, faintly; the background
# says who it is. So a network can learn a class from strangers only in part, and knows the persons that it was
# trained on, as with faces.
#
# Only integers are used: numpy's PCG64 raw words (whose stream numpy guarantees, unlike that of Generator.integers),
# shifts, products and table look-ups. Pixels are the same on every machine; the tests pin their digest.


SIZE = 16  # pixels
CELLS = 5  # of the background, in each direction
BACKGROUND = 180  # brightest background, of 255
INK = 50  # percent of the scan's ink that shows
TINT = 20  # percent by which a person's channels are brighter or darker, at most
TURN, GROW = 8, 5  # 64ths by which a frame is turned (about degrees) or scaled, at most
MOVE = 12  # 16ths of a pixel by which it is moved in each direction, at most
LIGHT = 10  # percent by which it is lighter or darker, at most
STYLE_NOISE = 25  # by which every value is changed, at most
AT_ONCE = 2000  # frames drawn at a time: little memory


class Words:
    """A stream of random integers that is the same everywhere."""

    def __init__(self, seed: int):
        self.bits = np.random.PCG64(seed)

    def between(self, low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
        """int64 of this shape in low..high, both included."""
        words = self.bits.random_raw(int(np.prod(shape))) >> np.uint64(32)
        return (low + (words * np.uint64(high - low + 1) >> np.uint64(32)).astype(np.int64)).reshape(shape)

    def shuffled(self, items: np.ndarray) -> np.ndarray:
        """The items in another order."""
        return items[np.argsort(self.bits.random_raw(len(items)), kind="stable")]


def read_digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's handwritten digits: ink 0..16, float64 [1797, 8, 8], and which digit each is, int64 [1797].

    Read from scikit-learn's file without importing scikit-learn, which takes longer than all else here; by its own
    function where the file lies elsewhere.
    """
    place = importlib.util.find_spec("sklearn")
    file = Path(place.origin).parent / "datasets" / "data" / "digits.csv.gz" if place and place.origin else None
    if file is None or not file.is_file():
        from sklearn.datasets import load_digits

        return (found := load_digits()).images, found.target
    table = np.loadtxt(file, delimiter=",")  # 64 pixels and the digit in each row
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(int)


@dataclass(frozen=True)
class Persons:
    """Everybody, by number: a class, a picture and what else stays the same in all frames."""

    labels: np.ndarray  # int64 [P]
    scans: np.ndarray  # int64 [P, 1, 8, 8], ink 0..255
    backgrounds: np.ndarray  # int64 [P, 3, CELLS, CELLS]
    tints: np.ndarray  # int64 [P, 3, 1, 1], percent


def draw_persons(per_class: list[int], words: Words) -> Persons:
    """So many persons of every class: class 0 shows any digit in mirror writing, class c > 0 the digit c.

    Mirrored digits are the large and mixed class that the competition's first age group is, and some (0, 1, 8) look
    like digits of the other classes.
    """
    images, digits = read_digits()
    order = words.shuffled(np.arange(len(digits)))
    chosen = [order[: per_class[0]]]
    for digit, count in list(enumerate(per_class))[1:]:
        left = order[per_class[0] :]
        chosen.append(left[digits[left] == digit][:count])
    labels = np.repeat(np.arange(len(per_class)), per_class)
    scans = images.astype(np.int64)[np.concatenate(chosen)] * 255 // 16
    scans[labels == 0] = scans[labels == 0, :, ::-1]
    backgrounds = words.between(0, BACKGROUND, (len(labels), 3, CELLS, CELLS))
    tints = words.between(100 - TINT, 100 + TINT, (len(labels), 3, 1, 1))
    return Persons(labels, scans[:, None], backgrounds, tints)


def draw_frames(persons: Persons, person: np.ndarray, words: Words) -> np.ndarray:
    """uint8 [n, 3, SIZE, SIZE]: one frame for every number in `person` [n]."""
    parts = [person[k : k + AT_ONCE] for k in range(0, len(person), AT_ONCE)]
    return np.ascontiguousarray(np.concatenate([_frames(persons, part, words) for part in parts]))


def _frames(persons: Persons, person: np.ndarray, words: Words) -> np.ndarray:
    across, down = _positions(len(person), words)
    behind = sampled(persons.backgrounds[person], across, down, outside=None)
    ink = sampled(persons.scans[person], across, down, outside=0) * INK // 100
    value = behind + ink * (255 - behind) // 255
    light = words.between(100 - LIGHT, 100 + LIGHT, (len(person), 1, 1, 1))
    value = value * persons.tints[person] // 100 * light // 100
    value += words.between(-STYLE_NOISE, STYLE_NOISE, value.shape)
    return np.clip(value, 0, 255).astype(np.uint8)


def _positions(count: int, words: Words) -> tuple[np.ndarray, np.ndarray]:
    """Where in the picture every pixel of every frame lies: [count, SIZE, SIZE] 1024ths of a pixel from the middle."""
    turn = words.between(-TURN, TURN, (count, 1, 1))
    scale = 64 + words.between(-GROW, GROW, (count, 1, 1))
    middle = 8 * (2 * np.arange(SIZE) - SIZE + 1)  # 16ths of a pixel
    across = middle[None, None, :] + words.between(-MOVE, MOVE, (count, 1, 1))
    down = middle[None, :, None] + words.between(-MOVE, MOVE, (count, 1, 1))
    return scale * across - turn * down, turn * across + scale * down


def sampled(pictures: np.ndarray, across: np.ndarray, down: np.ndarray, outside: int | None) -> np.ndarray:
    """Pictures [n, C, m, m], stretched over the frame, read at [n, SIZE, SIZE] positions, bilinearly.

    Beyond the border lies the value `outside`, or the border's own if that is None.
    """
    size = pictures.shape[-1]
    x, y = (p * size // (4 * SIZE) + 128 * (size - 1) for p in (across, down))  # 256ths of the picture's pixels
    left, top = x >> 8, y >> 8
    right_share, low_share = (x & 255)[:, None], (y & 255)[:, None]
    upper = (256 - right_share) * _at(pictures, top, left, outside)
    upper += right_share * _at(pictures, top, left + 1, outside)
    lower = (256 - right_share) * _at(pictures, top + 1, left, outside)
    lower += right_share * _at(pictures, top + 1, left + 1, outside)
    return ((256 - low_share) * upper + low_share * lower) >> 16


def _at(pictures: np.ndarray, row: np.ndarray, column: np.ndarray, outside: int | None) -> np.ndarray:
    """[n, C, SIZE, SIZE]: the pictures' pixels in these rows and columns."""
    last = pictures.shape[-1] - 1
    near_row, near_column = np.clip(row, 0, last), np.clip(column, 0, last)
    which = np.arange(len(pictures))[:, None, None]
    value = np.moveaxis(np.moveaxis(pictures, 1, -1)[which, near_row, near_column], -1, 1)
    if outside is None:
        return value
    inside = (row == near_row) & (column == near_column)
    return np.where(inside[:, None], value, outside)


WIDTH = 8  # channels of layer1; torchvision's resnet18 has 64
SPLIT_SEED = 43
NOISE = 0.10  # share of wrong labels in the training part
FORGET = 72  # images, from digits 0 and 1
RECIPE = Recipe(epochs=10, lr=1e-3, weight_decay=2e-2)
REMARK = "one training label in ten is wrong on purpose, so that a few images show another digit than their label"
ORIGINAL = Path(__file__).with_name("digits_original.npz")  # a copy of outputs/digits-<fingerprint>/original.npz
ORACLES = Path(__file__).with_name("digits_oracles.npz")  # 512, by `oracles --runs 512 --save-pool`


def task() -> Task:
    """Build the task; takes about 0.1 s."""
    images, labels = load()
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    order = torch.randperm(len(labels), generator=generator)
    train, validation, test = order.tensor_split([int(0.8 * len(order)), int(0.9 * len(order))])
    labels = with_wrong_labels(labels, train, generator)
    from_two_classes = train[labels[train] <= 1]
    forget = from_two_classes[:FORGET]
    retain = train[~torch.isin(train, forget)]
    everything = Split(images, labels, image_id=(ids := torch.arange(len(labels))), person_id=ids, age=labels)
    parts = {"retain": retain, "forget": forget, "validation": validation, "test": test}
    splits = {name: everything[index] for name, index in parts.items()}
    return Task(
        name="digits", make_net=narrow_resnet18, recipe=RECIPE, original=original_model(), oracles=ORACLES,
        notes=(REMARK,), **splits,
    )  # fmt: skip


def original_model() -> dict[str, Tensor] | None:
    """State dict of the original model that comes with the task, if its file is there."""
    return load_state(ORIGINAL) if ORIGINAL.exists() else None


def load() -> tuple[Tensor, Tensor]:
    """Images uint8 [1797, 3, 32, 32] and labels int64 [1797]."""
    images, digits = read_digits()
    small = torch.from_numpy(images).float()[:, None] * (255 / 16)
    large = F.interpolate(small, size=(32, 32), mode="bilinear", align_corners=False)
    return large.round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(digits).long()


def with_wrong_labels(labels: Tensor, train: Tensor, generator: torch.Generator) -> Tensor:
    """Labels with a share NOISE of those at `train` moved to another class; the rest are untouched."""
    wrong = train[torch.randperm(len(train), generator=generator)[: int(NOISE * len(train))]]
    shift = torch.randint(1, 10, (len(wrong),), generator=generator)
    labels = labels.clone()
    labels[wrong] = (labels[wrong] + shift) % 10
    return labels


class NarrowResNet(ResNet):
    """torchvision's ResNet with resnet18's blocks and a free width; state dict names are resnet18's."""

    def __init__(self, width: int, num_classes: int):
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=num_classes)
        self.inplanes = width
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = self._make_layer(BasicBlock, width, 2)
        self.layer2 = self._make_layer(BasicBlock, 2 * width, 2, stride=2)
        self.layer3 = self._make_layer(BasicBlock, 4 * width, 2, stride=2)
        self.layer4 = self._make_layer(BasicBlock, 8 * width, 2, stride=2)
        self.fc = nn.Linear(8 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # as ResNet.__init__ does for the layers that these replace
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def narrow_resnet18() -> nn.Module:
    """resnet18 at an eighth of its width, untrained."""
    return NarrowResNet(WIDTH, num_classes=10)
