"""What submissions in the wild read of the loaders; each must work here as in an exported notebook.

Every function takes a loader of at least 16 examples and gives the batches or values that it makes of it.
"""

import copy

import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, WeightedRandomSampler, random_split

KEYS = ["image", "image_id", "age_group", "age", "person_id"]


class Flipped(Dataset):
    """A user's own data set around the one that is handed over."""

    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        example = self.inner[index]
        return example["image"].flip(-1), example["age_group"]


def rows(loader):
    return [[type(e["age_group"]), list(e), e["image"].dtype] for e in loader.dataset.examples]


def targets(loader):
    return [int(t) for t in torch.as_tensor(loader.dataset.targets)]


def labels_of_rows(loader):
    return [e["age_group"] for e in loader.dataset.examples]


def no_transform(loader):
    return [loader.dataset.transform, loader.batch_size, len(loader.dataset), len(loader)]


def loop_over_the_data_set(loader):
    return [sorted(example) for example in loader.dataset]


def from_the_end_and_by_tensor(loader):
    return [loader.dataset[-1]["image"], loader.dataset[torch.tensor(3)]["image"]]


def workers(loader):
    return list(DataLoader(loader.dataset, batch_size=5, num_workers=2))


def workers_after_reading_rows(loader):
    assert loader.dataset.examples
    return list(DataLoader(loader.dataset, batch_size=5, num_workers=1, persistent_workers=True))


def own_collation(loader):
    def collate(examples):
        return torch.stack([e["image"] for e in examples]), torch.tensor([e["age_group"] for e in examples])

    return [part for batch in DataLoader(loader.dataset, batch_size=7, collate_fn=collate) for part in batch]


def weighted(loader):
    counts = torch.bincount(torch.tensor(loader.dataset.targets)).clamp(min=1)
    weights = [1.0 / counts[t] for t in loader.dataset.targets]
    return list(DataLoader(loader.dataset, batch_size=8, sampler=WeightedRandomSampler(weights, 20)))


def concatenated(loader):
    return list(DataLoader(ConcatDataset([loader.dataset, loader.dataset]), batch_size=9))


def added(loader):
    return list(DataLoader(loader.dataset + loader.dataset, batch_size=9))


def subset(loader):
    return list(DataLoader(Subset(loader.dataset, torch.tensor([3, 1, 4])), batch_size=2))


def split_in_two(loader):
    return [b for part in random_split(loader.dataset, [0.5, 0.5]) for b in DataLoader(part, batch_size=4)]


def rows_filtered_in_a_copy(loader):
    kept = copy.deepcopy(loader.dataset)
    kept.examples = [e for e in kept.examples if e["age_group"] == kept.examples[0]["age_group"]]
    assert 0 < len(kept) < len(loader.dataset)
    return list(DataLoader(kept, batch_size=4))


def rows_changed_in_a_copy(loader):
    changed = copy.deepcopy(loader.dataset)
    changed.examples[0]["age_group"] = 2
    del changed.examples[5:]
    assert changed.targets[0] == 2
    return list(DataLoader(changed, batch_size=4))


def wrapped(loader):
    return [part for batch in DataLoader(Flipped(loader.dataset), batch_size=4) for part in batch]


def attributes_of_the_loader(loader):
    again = DataLoader(loader.dataset, batch_size=2 * loader.batch_size, shuffle=True, drop_last=loader.drop_last)
    return [len(again), loader.num_workers, type(loader.sampler).__name__]


USES = [use for name, use in globals().items() if callable(use) and getattr(use, "__module__", "") == __name__]
USES = [use for use in USES if not isinstance(use, type)]
