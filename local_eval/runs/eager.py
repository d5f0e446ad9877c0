"""torch.compile in a run: the code runs as it is written, uncompiled.

Every run has a process and a folder of its own, so every run would compile anew: with Inductor on a CPU that took 18 s
of work for a net of two layers and over a minute for a small resnet18, most of it g++, hundreds of times over, with
processes of its own that are lost now and then. What a compiled net computes is what the plain one computes, up to
rounding. On Kaggle the notebook runs as it is written, where one process compiles once for all runs.

How it is used: `uncompiled = Uncompiled()`, then `with uncompiled:` in runs/contract.py; `told` in runs/dry_run.py.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

REMARK = (
    "torch.compile is passed over: every run is a process of its own and would compile anew, which takes longer than "
    "it saves; results are those of plain PyTorch, up to rounding"
)


class Plain(nn.Module):
    """What torch.compile gives for a net, as far as code asks for it: the net is in `_orig_mod`, and does the work."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self._orig_mod = net
        self.training = net.training

    def forward(self, *inputs: object, **options: object) -> object:
        """What the net gives."""
        return self._orig_mod(*inputs, **options)

    def __getattr__(self, name: str) -> object:
        if name == "_orig_mod":
            return super().__getattr__(name)
        return getattr(self._orig_mod, name)


class Uncompiled:
    """Within it, as often as it is entered, torch.compile compiles nothing; `told` says so if it was called."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __enter__(self) -> Uncompiled:
        self._compiles, torch.compile = torch.compile, self._pass_over
        return self

    def __exit__(self, *raised: object) -> None:
        torch.compile = self._compiles

    def _pass_over(self, model: Callable | None = None, **options: object) -> Callable:
        """In place of torch.compile, called or as a decorator; nn.Module.compile comes here too."""
        self.told = [REMARK]
        if model is None:
            return lambda model: self._pass_over(model, **options)
        return Plain(model) if isinstance(model, nn.Module) else model
