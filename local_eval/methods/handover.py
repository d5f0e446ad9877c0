"""What passes from a submission's process to the grader: the net's weights as plain bytes, and what it read.

The bytes are the original's tensors, in its order and types, one after the other. So there is nothing to parse, no name
to trust and no size to believe: it fits or it does not.

The run counts as it stood when `unlearning` returned. Timers that it has left are stopped then, and the weights are
copied at once; a thread or process that goes on changing them makes the run fail.

How it is used: `ended`, `as_it_stands`, `check_at_rest` and `pack` in the submission's process, `unpack` outside.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from local_eval.isolation.processes import has_children
from local_eval.methods.source import SubmissionError

LENGTH = struct.Struct("<I")
LARGEST = 1 << 23  # bytes of what is told beside the weights
TIMERS = ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")
OF_TIMERS = ("SIGALRM", "SIGVTALRM", "SIGPROF", "SIGXCPU")  # they end a process that has no handler for them
A_WHILE = 0.05  # seconds in which what goes on changing the weights shows
MANY = 8  # times that something of the foreign code may break into its own ending
# Foreign code may replace these in their modules.
_set_handler, _handler_of, _set_timer = signal.signal, signal.getsignal, getattr(signal, "setitimer", None)
_sleep, _other_threads, _trace, _profile = time.sleep, sys._current_frames, sys.settrace, sys.setprofile


def stop_tracing() -> None:
    """Take out tracers and profilers."""
    _trace(None)
    _profile(None)
    threading.settrace(None)


def disarm() -> None:
    """Stop every timer, handler and tracer, for good: only in a process that ends with the run."""
    stop_tracing()
    faulthandler.cancel_dump_traceback_later()
    for name in TIMERS if _set_timer else ():
        _set_timer(getattr(signal, name), 0)
    _drop_handlers()


def ended(work: Callable[[], object], stop: Callable[[], None] = disarm) -> object:
    """What `work()` returns; what it leaves behind is stopped by `stop`, so nothing of it is called later."""
    try:
        return work()
    finally:
        for _ in range(MANY):
            try:
                stop()
                break
            except BaseException:  # a handler that was due already, or a tracer, which is gone once it has raised
                continue


def _drop_handlers() -> None:
    for number in signal.valid_signals():
        handler = _handler_of(number)
        if callable(handler) or number in {getattr(signal, name, None) for name in OF_TIMERS}:
            with contextlib.suppress(OSError, ValueError):  # those that nobody may handle
                _set_handler(number, signal.SIG_DFL if number == signal.SIGCHLD else signal.SIG_IGN)


def as_it_stands(net: nn.Module) -> dict[str, Tensor]:
    """A copy of the net's state, on its device."""
    return {name: value.detach().clone() for name, value in net.state_dict().items() if isinstance(value, Tensor)}


def check_at_rest(net: nn.Module, state: dict[str, Tensor]) -> None:
    """Raise SubmissionError if something goes on changing the net after `state` was copied of it.

    A moment is waited only where the submission has left a thread or a process of its own.
    """
    if len(_other_threads()) < 2 and not has_children():
        return
    _sleep(A_WHILE)
    now = net.state_dict()
    if any(not _same_bits(now[name], value) for name, value in state.items()):
        raise SubmissionError(
            "a thread or process that it has started goes on changing the net after unlearning() has returned; wait "
            "for it before the end: thread.join()"
        )


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.detach().nan_to_num(), other.nan_to_num())


def pack(state: dict[str, Tensor], like: dict[str, Tensor], reported: dict) -> bytes:
    """`state`, which has the names and shapes of `like`, and after it what is told, as bytes."""
    weights = b"".join(_bytes_of(state[name].detach().to("cpu", value.dtype)) for name, value in like.items())
    head = json.dumps(reported).encode()[:LARGEST]
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
        reported = json.loads(content[LENGTH.size : start])
    except (struct.error, ValueError, RecursionError):
        raise SubmissionError("its process handed over something unreadable") from None
    if len(content) - start != expected or not isinstance(reported, dict):
        raise SubmissionError(f"its process handed over {len(content) - start} bytes of weights, not {expected}")
    state, place = {}, start
    for name, value in like.items():
        size = value.numel() * value.element_size()
        raw = torch.frombuffer(bytearray(content[place : place + size]), dtype=torch.uint8)
        state[name] = raw.view(value.dtype).reshape(value.shape)
        place += size
        if value.is_floating_point() and not state[name].isfinite().all():
            raise SubmissionError(f"the net holds NaN or infinite values in {name}: lower the learning rate?")
    return state, reported
