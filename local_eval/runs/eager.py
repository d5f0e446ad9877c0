"""torch.compile in a run: the code runs as it is written, uncompiled.

Every run has a process and a folder of its own, so every run would compile anew: with Inductor on a CPU that took 18 s
of work for a net of two layers and over a minute for a small resnet18, most of it g++, hundreds of times, and it failed
now and then. What a compiled net computes is what the plain one computes, up to rounding. On Kaggle the notebook runs
as it is written, where one process compiles once for all runs.

How it is used: `uncompiled = Uncompiled()`, then `with uncompiled:` in runs/contract.py; `told` in runs/dry_run.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

REMARK = (
    "torch.compile is passed over: every run is a process of its own and would compile anew, which takes longer than "
    "it saves; results are those of plain PyTorch, up to rounding"
)


class Uncompiled:
    """Within it, as often as it is entered, what torch.compile makes runs uncompiled; `told` says if there was any."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self._stance: object = None

    def __enter__(self) -> Uncompiled:
        self._compiles = compiles = torch.compile

        @functools.wraps(compiles)
        def passed_over(*args: object, **options: object) -> Callable:
            self._pass_over()
            return compiles(*args, **options)

        torch.compile = passed_over
        if self.told:
            self._pass_over()
        return self

    def __exit__(self, *raised: object) -> None:
        torch.compile = self._compiles
        if self._stance is not None:
            self._stance.__exit__(*raised)
            self._stance = None

    def _pass_over(self) -> None:
        """From now on; not before it is needed, since the import behind it takes seconds. From torch 2.6 on."""
        if self._stance is None and hasattr(torch.compiler, "set_stance"):
            self.told = [REMARK]
            self._stance = torch.compiler.set_stance("force_eager")
            self._stance.__enter__()
