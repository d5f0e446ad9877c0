"""Images and labels as arrays: what their numbers mean, read exactly or refused with what to do.

A network trains on almost anything without a complaint, so nothing is guessed here: a reading is taken where it is the
only sensible one and loses nothing, and everything else is a TaskError that says how to give it.

How it is used: `pixel_bytes`, `channels_first` and `class_numbers` by from_python.py; check.py asks the same of
tasks that make their splits by hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from local_eval.tasks.names import TaskError

CHUNK = 2048  # images looked at together: float copies of all would need several times their memory
USUAL = (1, 3)  # channels of a picture: grey, or red, green and blue
COARSE = {torch.bfloat16}  # too few digits to hold k / 255
SAME = 5e-7  # relative distance of a value from k / 255: float32's last digits, for those who multiply by 1 / 255
SMALL = 5  # normalised floats are hardly beyond; cast to bytes, negative ones come out just below 256
FEWER = (np.uint16, np.uint32, np.uint64)  # which torch can hardly work with


def as_tensor(values: Any, who: str) -> Tensor:
    """A tensor on the CPU, contiguous and without gradients, of a tensor, an array or nested lists.

    Raises:
        TaskError: it holds no numbers, or rows of different lengths.
    """
    if isinstance(values, Tensor):
        return values.detach().to_dense().cpu().contiguous() if values.is_sparse else values.detach().cpu().contiguous()
    if isinstance(values, list | tuple) and values and all(isinstance(one, Tensor) for one in values):
        values = [one.detach().cpu().numpy() for one in values]
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise TaskError(f"{who} are no array ({str(error)[:100]}); give all the same shape") from None
    if array.dtype.kind not in "biuf":
        kind = "texts" if array.dtype.kind in "US" else f"of type {array.dtype}"
        raise TaskError(f"{who} are {kind}, not numbers; number them, or stack them to one array")
    if array.dtype.type in FEWER:
        array = array.astype(np.int64)
    array = array.astype(array.dtype.newbyteorder("="), copy=True)  # torch takes this machine's byte order only
    return torch.from_numpy(np.ascontiguousarray(array))


def pixel_bytes(images: Tensor, who: str) -> tuple[Tensor, str]:
    """The same pixels as uint8, and in words how they were read, '' for bytes.

    Whole numbers from 0 to 255 of any type are bytes; floats from 0 to 1 that are all k / 255 are bytes again.

    Args:
        images: of any shape, the first axis counts images.
    Raises:
        TaskError: the numbers are no bytes, or reading them would change them.
    """
    if not images.numel():
        return images.to(torch.uint8), ""
    if images.dtype == torch.bool:
        raise TaskError(f"{who} are bool; pixels are bytes from 0 to 255: give (images * 255).to(torch.uint8)")
    if images.is_complex():
        raise TaskError(f"{who} are complex numbers; pixels are bytes from 0 to 255")
    _refuse_what_is_not_finite(images, who)
    low, high = images.min().item(), images.max().item()
    _refuse_range(images, low, high, who)
    if images.dtype == torch.uint8:
        return images, ""
    name = str(images.dtype).removeprefix("torch.")
    if images.is_floating_point() and high <= 1:
        return _from_unit(images, who, name), f"images, {name} from 0 to 1, are read as the bytes that they came from"
    if images.is_floating_point() and any((part != part.round()).any() for part in images.split(CHUNK)):
        raise TaskError(
            f"{who} are {name} from {low:g} to {high:g} with fractions: neither bytes nor from 0 to 1. Give the pixels "
            "as they were before any scaling, uint8 from 0 to 255"
        )
    return images.to(torch.uint8), f"images, whole numbers in {name}, are read as bytes"


def _refuse_what_is_not_finite(images: Tensor, who: str) -> None:
    if not images.is_floating_point():
        return
    bad = [k for k, part in enumerate(images.split(CHUNK)) if not torch.isfinite(part).all()]
    if bad:
        part = images.split(CHUNK)[bad[0]]
        first = bad[0] * CHUNK + int((~torch.isfinite(part)).flatten(1).any(dim=1).nonzero()[0])
        raise TaskError(f"{who}: image {first} has NaN or infinite pixels; mend it or leave it out")


def _refuse_range(images: Tensor, low: float, high: float, who: str) -> None:
    name = str(images.dtype).removeprefix("torch.")
    if low < 0 and images.is_floating_point():
        raise TaskError(
            f"{who} are {name} from {low:.3g} to {high:.3g}: they look normalised. Give the raw pixels, uint8 (leave "
            "Normalize out of the transform), and its mean and std times 255 as mean and std"
        )
    if low < 0 or high > 255:
        more = "; divide 16-bit values by 257 and round" if low >= 0 and high <= 65535 else ""
        raise TaskError(f"{who} are {name} from {low:g} to {high:g}; pixels are bytes from 0 to 255{more}")
    if lost := lost_in_a_cast(images):
        raise TaskError(f"{who} {lost}")


def lost_in_a_cast(images: Tensor) -> str:
    """Why these pixels are what is left of floats that were cast to bytes, and what to do; '' if they are not."""
    parts = images.split(CHUNK)
    again = "give the pixels as they were before any scaling, or (images * 255).round().to(torch.uint8) of floats from "
    if all(bool(((part == 0) | (part == 1)).all()) for part in parts) and images.max() == 1 and images.min() == 0:
        why = "hold no values but 0 and 1: floats from 0 to 1 that were cast to bytes, perhaps, which lost nearly all?"
        return f"{why} {again.capitalize()}0 to 1; pictures in black and white have 0 and 255"
    if images.dtype != torch.uint8 or any(((part > SMALL) & (part < 255 - SMALL)).any() for part in parts):
        return ""
    there = set(images.unique().tolist())
    if there & set(range(1, SMALL + 1)) and there & set(range(255 - SMALL, 255)):
        why = f"hold no values but {sorted(there)}: normalised floats that were cast to bytes?"
        return f"{why} {again.capitalize()}0 to 1"
    return ""


def _from_unit(images: Tensor, who: str, name: str) -> Tensor:
    """uint8 of floats k / 255."""
    if images.dtype in COARSE:
        raise TaskError(f"{who} are {name} from 0 to 1, too coarse to hold bytes; give the pixels as uint8, 0 to 255")
    reach = torch.finfo(images.dtype).eps if images.dtype == torch.float16 else SAME
    found = torch.empty(images.shape, dtype=torch.uint8)
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK].double()
        nearest = (part * 255).round()
        if ((nearest / 255 - part).abs() > reach * part).any():
            raise TaskError(
                f"{who} are {name} from 0 to 1, but not bytes divided by 255. Multiply by 255 and round yourself, "
                "(images * 255).round().to(torch.uint8), or give the pixels before they were resized or changed"
            )
        found[start : start + CHUNK] = nearest.to(torch.uint8)
    return found


def channels_first(images: Tensor, who: str) -> Tensor:
    """Images [n, C, H, W] of [n, H, W], [n, C, H, W] or [n, H, W, C].

    Raises:
        TaskError: another shape, or one that can be read in two ways.
    """
    shape = tuple(images.shape)
    if images.ndim == 2:
        raise TaskError(f"{who} are {list(shape)}, a row each; give them their height and width, .reshape(-1, H, W)")
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4 or 0 in shape[1:]:
        raise TaskError(f"{who} are {list(shape)}; images are [n, H, W], [n, channels, H, W] or [n, H, W, channels]")
    first, last = (shape[k] in USUAL for k in (1, 3))
    if not first and not last:  # more channels than a picture has: the axis that is shorter than both others
        first, last = shape[1] < min(shape[2:]), shape[3] < min(shape[1:3])
        if last and shape[3] == 4:
            raise TaskError(f"{who} are {list(shape)}: with an alpha channel? Leave it out, images[..., :3]")
    if first == last:
        raise TaskError(
            f"{who} are {list(shape)}: that may be [n, channels, H, W] or [n, H, W, channels]. Make the tensors and "
            "give a local_eval.Split, whose images are [n, channels, H, W]"
        )
    return images if first else images.permute(0, 3, 1, 2).contiguous()


def class_numbers(labels: Any, count: int, who: str) -> Tensor:
    """int64 [n]: the classes, from integers or whole floats [n] or [n, 1], bools, or one-hot rows [n, C].

    Args:
        count: n, the images.
    Raises:
        TaskError: other labels; negative ones; another number of them.
    """
    values = as_tensor(labels, who)
    if values.ndim and len(values) != count:
        raise TaskError(f"{who}: {len(values)} for {count} images")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.is_floating_point() and not torch.isfinite(values).all():
        raise TaskError(f"{who}: label {int((~torch.isfinite(values)).nonzero()[0, 0])} is NaN or infinite")
    if values.ndim == 2:
        values = _of_one_hot(values, who)
    if values.ndim != 1:
        raise TaskError(f"{who} are {list(values.shape)}; labels are one class a image, [n]")
    if values.is_floating_point() and (values != values.round()).any():
        raise TaskError(f"{who} have fractions, such as {values[values != values.round()][0]:g}; labels are classes")
    values = values.long()
    if (values < 0).any():
        at = int((values < 0).nonzero()[0, 0])
        raise TaskError(f"{who}: label {at} is {values[at]}, which often means unlabelled; classes are 0, 1, 2 ...")
    return values


def _of_one_hot(values: Tensor, who: str) -> Tensor:
    ones = values == 1
    if not ((values == 0) | ones).all() or not (ones.sum(dim=1) == 1).all():
        raise TaskError(
            f"{who} are {list(values.shape)} and not one-hot: one class an image is needed, not several and no "
            "probabilities. Give the class, labels.argmax(1), if that is what is meant"
        )
    return ones.int().argmax(dim=1)
