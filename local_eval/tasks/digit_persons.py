"""Persons drawn from scikit-learn's 1,797 handwritten digits: one scan is one person, and its frames are its video.

What stays the same in all frames of a person is the scan, a cloudy background and a tint; between frames the picture
turns, grows, moves, gets lighter and noisier. The digit says which class it is, faintly; the background says who it is.
So a network can learn a class from strangers only in part, and knows the persons that it was trained on, as with faces.

Only integers are used: numpy's PCG64 raw words (whose stream numpy guarantees, unlike that of Generator.integers),
shifts, products and table look-ups. Pixels are the same on every machine; the tests pin their digest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits

SIZE = 16  # pixels
SCAN = 8  # pixels of a scan
CELLS = 5  # of the background, in each direction
BACKGROUND = 180  # brightest background, of 255
INK = 50  # percent of the scan's ink that shows
TINT = 20  # percent by which a person's channels are brighter or darker, at most
TURN, GROW = 8, 5  # 64ths by which a frame is turned (about degrees) or scaled, at most
MOVE = 12  # 16ths of a pixel by which it is moved in each direction, at most
LIGHT = 10  # percent by which it is lighter or darker, at most
NOISE = 25  # by which every value is changed, at most
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
    digits = load_digits()
    order = words.shuffled(np.arange(len(digits.target)))
    chosen = [order[: per_class[0]]]
    for digit, count in list(enumerate(per_class))[1:]:
        left = order[per_class[0] :]
        chosen.append(left[digits.target[left] == digit][:count])
    labels = np.repeat(np.arange(len(per_class)), per_class)
    scans = digits.images.astype(np.int64)[np.concatenate(chosen)] * 255 // 16
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
    value += words.between(-NOISE, NOISE, value.shape)
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
