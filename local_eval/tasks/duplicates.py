"""The same picture twice, by its pixels: under two names, or in two formats.

Between retain and forget it is refused for people's own data: oracles would see what they are to forget. Elsewhere it
is told and allowed, as in the competition, whose frames of one person are in several sets.

How it is used: `twins(hashes(images))`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from torch import Tensor


def hashes(images: Tensor) -> list[bytes]:
    """The hash of each image's pixels; images uint8 [n, C, H, W] on the CPU. About 2 GB a second and core."""
    pixels = images.numpy()

    def part(start: int) -> list[bytes]:
        return [hashlib.sha256(image.tobytes()).digest()[:16] for image in pixels[start : start + 512]]

    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        return [one for some in pool.map(part, range(0, len(pixels), 512)) for one in some]


def twins(found: Sequence[bytes]) -> list[list[int]]:
    """Groups of places that hold the same pixels, two or more, in order."""
    places: dict[bytes, list[int]] = {}
    for k, one in enumerate(found):
        places.setdefault(one, []).append(k)
    return [group for group in places.values() if len(group) > 1]
