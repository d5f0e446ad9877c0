"""What numbers mean: bytes and classes come out exactly as they went in, and what is neither is refused with a way."""

import numpy as np
import pytest
import torch

from local_eval.tasks.data.arrays import as_tensor, channels_first, class_numbers, pixel_bytes
from local_eval.tasks.names import TaskError

BYTES = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(4, 3, 8, 8)
UNIT = BYTES.numpy() / 255


def test_bytes_come_back_whatever_they_are_written_in():
    for given in [
        BYTES,
        BYTES.float(),
        BYTES.half(),
        BYTES.bfloat16(),
        BYTES.short(),
        BYTES.long(),
        BYTES.float() / 255,
        BYTES.double() / 255,
        (BYTES.float() / 255).half(),
        BYTES.float() * (1 / 255),
        (BYTES.float() / 255).double(),
        (BYTES.float() / 255).requires_grad_(),
        BYTES.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        BYTES.numpy().astype(">u2"),
        BYTES.numpy().astype(np.uint32),
        BYTES.numpy()[::-1][::-1],
        UNIT,
        UNIT.tolist(),
        list(BYTES),
    ]:
        assert torch.equal(pixel_bytes(as_tensor(given, "images"), "images")[0], BYTES)


def test_every_byte_survives_its_float_and_nothing_between_two_bytes_is_taken():
    for dtype in [torch.float16, torch.float32, torch.float64]:
        every = torch.arange(256)
        unit = (every.double() / 255).to(dtype)[:, None]
        assert torch.equal(pixel_bytes(unit, "images")[0][:, 0].long(), every)
        between = ((every[:255].double() + 0.3) / 255).to(dtype)
        for one in between[16:]:
            with pytest.raises(TaskError, match="not bytes divided by 255. Multiply by 255 and round"):
                pixel_bytes(torch.stack([one, torch.zeros((), dtype=dtype)])[:, None], "images")


def test_pixels_that_are_no_bytes_are_refused_with_what_to_do():
    for given, reported in [
        ((UNIT - 0.5) / 0.25, "look normalised. Give the raw pixels.*mean and std times 255"),
        (UNIT.astype(np.uint8) * 0 + np.eye(8, dtype=np.uint8), "no values but 0 and 1.*(images \\* 255)"),
        ((UNIT > 0.5).astype(np.float32), "no values but 0 and 1"),
        (UNIT > 0.5, "are bool.*images \\* 255"),
        (((UNIT - 0.5) / 0.25).astype(np.int8).astype(np.uint8), "normalised floats that were cast to bytes"),
        (torch.tensor(UNIT).bfloat16(), "too coarse"),
        (UNIT * 0.9, "not bytes divided by 255"),
        (UNIT * 2, "with fractions: neither bytes nor from 0 to 1"),
        (np.where(UNIT > 0.999, np.nan, UNIT), "image 1 has NaN or infinite"),
        (np.where(UNIT > 0.999, np.inf, UNIT), "image 1 has NaN or infinite"),
        (BYTES.numpy().astype(np.uint16) * 257, "from 0 to 65535.*16-bit values by 257"),
        (BYTES.short() - 100, "from -100 to 155"),
        (BYTES.numpy().astype(complex), "of type complex128"),
        (BYTES.numpy().astype(str), "are texts"),
        ([[1, 2], [3]], "are no array"),
    ]:
        with pytest.raises(TaskError, match=rf"(?s)retain images.*{reported}"):
            pixel_bytes(as_tensor(given, "retain images"), "retain images")


def test_black_and_white_pictures_and_dark_ones_are_pictures():
    for values in ([0, 255], [0, 3], [250, 255], [2, 3, 4]):
        images = torch.tensor(values, dtype=torch.uint8)[:, None]
        assert pixel_bytes(images, "images") == (images, "")


def test_channels_come_first():
    for shape, channels in [
        ((5, 28, 28), 1),
        ((5, 1, 28, 28), 1),
        ((5, 28, 28, 1), 1),
        ((5, 3, 28, 20), 3),
        ((5, 28, 20, 3), 3),
        ((5, 13, 64, 64), 13),
        ((5, 64, 64, 13), 13),
        ((5, 4, 16, 16), 4),
    ]:
        images = torch.arange(int(np.prod(shape))).reshape(shape)
        found = channels_first(images, "images")
        assert found.shape[:2] == (5, channels) and found.is_contiguous()
        if len(shape) == 4 and shape[1] != channels:
            assert torch.equal(found[3, 0], images[3, :, :, 0])


def test_a_layout_that_can_be_read_in_two_ways_is_refused():
    for shape, reported in [
        ((5, 3, 28, 3), "may be .n, channels, H, W. or"),
        ((5, 1, 28, 3), "may be"),
        ((5, 3, 3, 3), "may be"),
        ((5, 32, 32, 32), "may be"),
        ((5, 16, 16, 4), "alpha channel"),
        ((5, 784), r"reshape\(-1, H, W\)"),
        ((5, 2, 3, 8, 8), "images are"),
        ((5,), "images are"),
    ]:
        with pytest.raises(TaskError, match=reported):
            channels_first(torch.zeros(shape), "images")


CLASSES = torch.tensor([2, 0, 1, 1])


def test_classes_are_read_from_every_plain_form():
    for given in [
        CLASSES,
        CLASSES.int(),
        CLASSES.to(torch.uint8),
        CLASSES.float(),
        CLASSES[:, None],
        CLASSES[:, None].double(),
        torch.eye(3)[CLASSES],
        torch.eye(3, dtype=torch.long)[CLASSES],
        torch.eye(3)[CLASSES] > 0,
        CLASSES.tolist(),
        list(CLASSES),
        list(CLASSES[:, None]),
        CLASSES.numpy().astype("u2"),
        CLASSES.float().requires_grad_(),
    ]:
        assert torch.equal(class_numbers(given, 4, "labels"), CLASSES)


def test_labels_that_are_no_classes_are_refused():
    for given, reported in [
        (CLASSES - 1, "label 1 is -1.*unlabelled"),
        (CLASSES + 0.5, "have fractions, such as 2.5"),
        (torch.tensor([0, 1, float("nan"), 1]), "label 2 is NaN"),
        (torch.ones(4, 3) / 3, "not one-hot"),
        (torch.ones(4, 3), "not one-hot"),
        (torch.zeros(4, 3), "not one-hot"),
        (CLASSES[:3], "3 for 4 images"),
        (torch.zeros(4, 2, 2), "labels are"),
        (["cat", "dog", "cat", "dog"], "are texts"),
        ([None, 1, 2, 3], "not numbers"),
        (torch.tensor(1), "labels are"),
    ]:
        with pytest.raises(TaskError, match=reported):
            class_numbers(given, 4, "labels")
