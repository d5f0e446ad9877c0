"""The loaders give exactly what a stock DataLoader over a plain dict dataset gives."""

import copy

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from local_eval.bench import PlainExamples
from local_eval.methods.loaders import BATCHES_ON, Examples, handed_out, make_loader, make_loaders
from local_eval.methods.source import SubmissionError
from local_eval.tasks.task import BATCH_SIZE
from tests.wild_loaders import USES


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


def test_no_batch_and_no_example_waits_for_the_device(tiny):
    """A split on the device `meta` holds nothing that could be read back: whatever tried to would raise."""
    away = tiny.to("meta")
    for loader in make_loaders(away, tiny)[:2]:
        batches = list(loader)
        assert all(value.device.type == "meta" for batch in batches for value in batch.values())
        assert sum(len(batch["image"]) for batch in batches) == len(loader.dataset)
    near, far = make_loaders(tiny)[0].dataset, make_loaders(away, tiny)[0].dataset
    assert list(near[3]) == list(next(iter(make_loaders(tiny)[0]))) == list(far[3])
    for one, other in zip(near, far):
        assert one["image"].shape == other["image"].shape and one["image"].dtype == other["image"].dtype
        assert {key: one[key] for key in one if key != "image"} == {key: other[key] for key in one if key != "image"}


def test_loaders_come_in_the_order_of_the_arguments(tiny):
    assert [len(loader.dataset) for loader in make_loaders(tiny)] == [96, 16, 24]


def test_normalisation_is_applied_when_a_task_asks_for_it(tiny):
    from dataclasses import replace

    split = replace(tiny.forget, mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0))
    raw, seen = tiny.forget.pixels(slice(None)), split.pixels(slice(None))
    assert torch.allclose(seen[:, 1], (raw[:, 1] - 20) / 4)


class PlainRows(Dataset):
    """A split as the official data set holds it: a list of rows."""

    transform = None

    def __init__(self, split):
        plain = PlainExamples(split)
        self.examples = [plain[k] | {"image": split.images[k]} for k in range(len(plain))]

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        return self.examples[index] | {"image": self.examples[index]["image"].float()}

    @property
    def targets(self):
        return [example["age_group"] for example in self.examples]


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_what_submissions_read_of_loaders_is_what_the_official_data_set_gives(use, tiny):
    found = []
    for dataset in (Examples(tiny.forget), PlainRows(tiny.forget)):
        loader = DataLoader(dataset, batch_size=64, shuffle=True)
        torch.manual_seed(3)
        found.append(use(loader))
    assert found[0]
    assert equal(*found)


def test_reading_the_rows_changes_no_batch_and_changing_them_in_place_is_noticed(tiny):
    loader, read = make_loader(tiny.forget), make_loader(tiny.forget)
    assert list(read.dataset.examples[0]) == ["image", "image_id", "age_group", "age", "person_id"]
    assert same(batches(loader), batches(read))
    before = tiny.forget.digest()
    copy.deepcopy(read.dataset).examples[0]["image"].zero_()
    assert tiny.forget.digest() == before
    read.dataset.examples[0]["image"].add_(1)
    assert tiny.forget.digest() != before
    read.dataset.examples[0]["image"].sub_(1)


@pytest.mark.parametrize("transform", [torch.nn.Identity(), lambda image: image / 255])
def test_a_transform_that_would_not_be_heeded_is_refused(transform, tiny):
    dataset = Examples(tiny.forget)
    dataset.transform = None
    with pytest.raises(SubmissionError, match="transform, which the competition's data set does not heed"):
        dataset.transform = transform


def test_batches_lie_with_the_net_or_on_the_cpu_as_on_kaggle(tiny):
    """On the CPU they are those of a stock loader; a device of torch's that computes nothing stands in for a card."""
    plain = [DataLoader(PlainExamples(split), 64, shuffle=True) for split in (tiny.retain, tiny.forget)]
    for batches_on in BATCHES_ON:
        handed, loaders = handed_out(tiny, "meta", batches_on)
        place = "meta" if batches_on == "device" else "cpu"
        for loader in (*loaders, DataLoader(loaders[0].dataset, batch_size=16)):
            assert {part.device.type for batch in loader for part in batch.values()} == {place}
        assert handed.retain.images.device.type == place
        assert loaders[0].dataset.split is handed.retain
    for ours, stock in zip(loaders, plain):
        assert same(batches(ours), batches(stock))
    _, here = handed_out(tiny, "cpu", "device")
    assert same(batches(here[0]), batches(plain[0]))
