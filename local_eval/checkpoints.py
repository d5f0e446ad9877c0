"""State dicts of unlearned models on disk, as the competition takes them: unlearned_checkpoint_{i}.pth, in a zip.

How to make them: python -m local_eval grade fanchuan --keep-checkpoints
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import nn

from local_eval.records import write_atomically


def checkpoint_name(index: int) -> str:
    """The file name of a run's checkpoint."""
    return f"unlearned_checkpoint_{index}.pth"


def save_checkpoint(net: nn.Module, folder: Path, index: int) -> None:
    """Write a run's state dict into a folder, whole or not at all. Raises OutputError."""
    buffer = io.BytesIO()
    torch.save({name: value.cpu().contiguous() for name, value in net.state_dict().items()}, buffer)
    write_atomically(folder / checkpoint_name(index), buffer.getvalue())
