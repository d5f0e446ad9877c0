"""Loader helpers."""

from __future__ import annotations

from torch.utils.data import DataLoader


def rebatch(loader: DataLoader, batch_size: int) -> DataLoader:
    """A shuffled loader over the same data with another batch size."""
    return DataLoader(loader.dataset, batch_size=batch_size, shuffle=True)
