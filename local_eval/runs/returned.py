"""What `unlearning` returned: a result that is not in `net` would be lost, so it is refused with the line to add.

Wrappers of other projects hold the net under a name of their own: an AveragedModel and DataParallel under `module`, a
compiled net under `_orig_mod`. The line names the part whose tensors fit, so that it works as it is printed.

How it is used: `check_returned(net, returned, original)` in runs/contract.py.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from local_eval.runs.refusal import SubmissionError

State = Mapping[str, Tensor]
COUNTERS = {"n_averaged"}  # what wrappers keep beside the net's tensors


def check_returned(net: nn.Module, returned: object, original: State) -> None:
    """Raise SubmissionError if the result is in a net or a state dict that was returned, and not in `net`."""
    if inspect.isawaitable(returned) or inspect.isgenerator(returned) or inspect.isasyncgen(returned):
        raise SubmissionError(
            f"unlearning() returned a {type(returned).__name__}, which nobody runs, here or on Kaggle; do the work "
            "before it returns"
        )
    parts = list(_parts(returned))
    if returned is not None and not _is_looked_into(returned) and _holds(net, original):
        parts += [(f"new.{name}", value) for name, value in _own(returned).items() if _is_looked_into(value)]
    for name, part in parts:
        lost = ""
        if isinstance(part, nn.Module):
            lost = _lost_module(net, name, part)
        elif isinstance(part, Mapping):
            lost = _lost_state(net, part)
        if lost:
            raise SubmissionError(f"unlearning() returned {lost}. Only the net passed in is graded, here and on Kaggle")


def _lost_module(net: nn.Module, name: str, module: nn.Module) -> str:
    """What is lost with a module, and the line that saves it; empty if nothing is."""
    if _shares(net, module):
        return ""
    found = _part_that_fits(net, module)
    if found is not None:
        if _holds(net, found[1].state_dict()):
            return ""
        mend = f"net.load_state_dict({name}{_dotted(found[0])}.state_dict())"
        return f"another module, so the result would be lost: end with {mend}"
    if _holds(net, module.state_dict()):
        return ""
    mend = f"net.load_state_dict({name}.state_dict())"
    return (
        f"another module, so the result would be lost: end with {mend}, from a module with the net's names and shapes"
    )


def _part_that_fits(net: nn.Module, module: nn.Module) -> tuple[str, nn.Module] | None:
    """The module itself, or the part of it, whose tensors have the net's names and shapes; where it is in it."""
    shapes = {name: value.shape for name, value in net.state_dict().items()}
    for place, part in module.named_modules():
        if {name: value.shape for name, value in part.state_dict().items()} == shapes:
            return place, part
    return None


def _dotted(place: str) -> str:
    """`.module.0` as Python writes it."""
    names = place.split(".") if place else []
    return "".join(f"[{name}]" if name.isdigit() else f".{name}" for name in names)


def _lost_state(net: nn.Module, state: Mapping[object, object]) -> str:
    """What is lost with a state dict, and the lines that save it; empty if nothing is, or it is none."""
    own, prefix = net.state_dict(), _prefix(net, state)
    plain = {str(name).removeprefix(prefix): value for name, value in state.items() if name not in COUNTERS}
    if not plain or not plain.keys() <= own.keys() or _holds(net, plain):
        return ""
    first = ""
    if prefix or len(plain) < len(state):
        inner = (
            f"k.removeprefix({prefix!r}): v for k, v in state.items()" if prefix else "k: v for k, v in state.items()"
        )
        first = f"state = {{{inner} if k not in {COUNTERS}}}; "
    first += "state = {**net.state_dict(), **state}; " if plain.keys() < own.keys() else ""
    text = "a state dict that `net` does not hold, so the result would be lost: end with "
    return f"{text}{first}net.load_state_dict(state)"


def _prefix(net: nn.Module, state: Mapping[object, object]) -> str:
    """What wrappers write before the net's names, such as 'module.', 'module._orig_mod.', 'ema_model.'."""
    names = [str(name) for name in state if name not in COUNTERS]
    for own in net.state_dict():
        for name in names:
            before = name.removesuffix(own)
            if name.endswith(f".{own}") and all(other.startswith(before) for other in names):
                return before
    return ""


def _shares(net: nn.Module, other: nn.Module) -> bool:
    """Is one inside the other, by their parameters? So is a net in DataParallel or torch.compile."""
    ours, theirs = ({id(p) for p in module.parameters()} for module in (net, other))
    return ours <= theirs or theirs <= ours


def _is_looked_into(value: object) -> bool:
    return isinstance(value, nn.Module | tuple | list | Mapping)


def _own(value: object) -> dict[str, object]:
    """What an object of the submission's own keeps, such as an average's `shadow`."""
    return dict(getattr(value, "__dict__", {}))


def _parts(returned: object, name: str = "new") -> Iterator[tuple[str, object]]:
    """What was returned, and what is in it if it is a list, tuple or dict of things; each is called `new`."""
    yield name, returned
    inside = returned if isinstance(returned, tuple | list) else ()
    inside = returned.values() if isinstance(returned, Mapping) else inside
    for part in inside:
        if _is_looked_into(part):
            yield from _parts(part, name)


def _holds(net: nn.Module, state: Mapping[object, object]) -> bool:
    """Does the net hold these very values?"""
    own, state = net.state_dict(), {_plain_name(name): value for name, value in state.items() if name not in COUNTERS}
    return state.keys() <= own.keys() and all(
        isinstance(value, torch.Tensor) and value.shape == own[k].shape and torch.equal(value.to(own[k]), own[k])
        for k, value in state.items()
    )


def _plain_name(name: object) -> str:
    return re.sub(r"^((module|_orig_mod)\.)+", "", str(name))
