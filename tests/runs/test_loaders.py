"""The loaders give exactly what a stock DataLoader over a plain dict dataset gives."""

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset

from local_eval.bench.parts import PlainExamples
from local_eval.runs.loaders import Examples, make_loader, make_loaders
from local_eval.tasks.task import BATCH_SIZE


def same(one: list[dict], other: list[dict]) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)
        for a, b in zip(one, other)
    )


def batches(loader, seed=0):
    torch.manual_seed(seed)
    return list(loader)


@pytest.mark.parametrize("batch_size", [64, 7])
def test_batches_equal_those_of_a_stock_loader_seed_for_seed(tiny, batch_size):
    ours = make_loader(tiny.retain, batch_size)
    plain = DataLoader(PlainExamples(tiny.retain), batch_size=batch_size, shuffle=True)
    assert same(batches(ours), batches(plain))
    assert not same(batches(ours, 0), batches(ours, 1))


def test_subsets_concatenations_and_collations_of_ones_own_work(tiny):
    for wrap in (
        lambda d: DataLoader(Subset(d, [3, 1, 4]), batch_size=2),
        lambda d: DataLoader(ConcatDataset([d, d]), batch_size=40, shuffle=True),
        lambda d: DataLoader(d, batch_size=5, collate_fn=lambda xs: {"image": torch.stack([x["image"] for x in xs])}),
        lambda d: DataLoader(d, batch_size=None),
    ):
        ours, plain = batches(wrap(Examples(tiny.forget))), batches(wrap(PlainExamples(tiny.forget)))
        assert len(ours) == len(plain)
        assert all(torch.equal(a["image"], b["image"]) for a, b in zip(ours, plain))


def test_images_are_raw_pixels_and_fresh_copies(tiny):
    loader = make_loader(tiny.retain)
    assert loader.batch_size == BATCH_SIZE == 64
    assert len(loader) == 2
    batch = batches(loader)[0]
    assert batch["image"].dtype == torch.float32
    assert batch["image"].max() > 200
    before = tiny.retain.digest()
    for batch in loader:
        batch["image"].zero_()
        batch["age_group"].zero_()
    assert tiny.retain.digest() == before


def test_loaders_come_in_the_order_of_the_arguments(tiny):
    assert [len(loader.dataset) for loader in make_loaders(tiny)] == [96, 16, 24]


def test_normalisation_is_applied_when_a_task_asks_for_it(tiny):
    from dataclasses import replace

    split = replace(tiny.forget, mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0))
    raw, seen = tiny.forget.pixels(slice(None)), split.pixels(slice(None))
    assert torch.allclose(seen[:, 1], (raw[:, 1] - 20) / 4)
