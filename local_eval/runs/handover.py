"""What passes from a submission's process to the grader: the net's weights as plain bytes, and what it read.

The bytes are the original's tensors, in its order and types, one after the other. So there is nothing to parse, no name
to trust and no size to believe: it fits or it does not.
"""

from __future__ import annotations

import json
import struct

import torch
from torch import Tensor

from local_eval.runs.submissions import SubmissionError

LENGTH = struct.Struct("<I")
LARGEST = 1 << 23  # bytes of what is told beside the weights


def pack(state: dict[str, Tensor], like: dict[str, Tensor], told: dict) -> bytes:
    """`state`, which has the names and shapes of `like`, and after it what is told, as bytes."""
    weights = b"".join(_bytes_of(state[name].detach().to("cpu", value.dtype)) for name, value in like.items())
    head = json.dumps(told).encode()[:LARGEST]
    return LENGTH.pack(len(head)) + head + weights


def _bytes_of(value: Tensor) -> bytes:
    return value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def unpack(content: bytes, like: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict]:
    """A state dict with the names, shapes and types of `like`, on the CPU, and what was told beside it.

    Raises:
        SubmissionError: anything but that came, or a value is not finite.
    """
    expected = sum(value.numel() * value.element_size() for value in like.values())
    try:
        start = LENGTH.size + LENGTH.unpack_from(content)[0]
        told = json.loads(content[LENGTH.size : start])
    except (struct.error, ValueError, RecursionError):
        raise SubmissionError("its process handed over something unreadable") from None
    if len(content) - start != expected or not isinstance(told, dict):
        raise SubmissionError(f"its process handed over {len(content) - start} bytes of weights, not {expected}")
    state, place = {}, start
    for name, value in like.items():
        size = value.numel() * value.element_size()
        raw = torch.frombuffer(bytearray(content[place : place + size]), dtype=torch.uint8)
        state[name] = raw.view(value.dtype).reshape(value.shape)
        place += size
        if value.is_floating_point() and not state[name].isfinite().all():
            raise SubmissionError(f"the net holds NaN or infinite values in {name}: lower the learning rate?")
    return state, told
