"""Loader helpers keep the data, shuffle anew, and count what they should."""

import torch

from common.loaders import all_labels, endless, only_classes, random_subset, rebatch
from common.training import inputs, one_epoch
from local_eval.methods.loaders import make_loader


def ids(loader):
    return torch.cat([batch["image_id"] for batch in loader]).tolist()


def test_rebatch_keeps_the_data_and_shuffles_anew(tiny):
    loader = rebatch(make_loader(tiny.retain), 40)
    assert [len(b["image"]) for b in loader] == [40, 40, 16]
    assert sorted(ids(loader)) == tiny.retain.image_id.tolist()
    assert ids(loader) != ids(loader)


def test_a_last_batch_of_one_is_left_out_and_one_of_two_is_not(tiny):
    loader = make_loader(tiny.retain)
    assert [len(b["image"]) for b in rebatch(loader, 95)] == [95]
    assert [len(b["image"]) for b in rebatch(loader, 94)] == [94, 2]


def test_a_random_subset_has_its_size_no_repeats_and_is_drawn_anew(tiny):
    one, two = (random_subset(make_loader(tiny.retain), 16) for _ in range(2))
    assert len(ids(one)) == len(set(ids(one))) == 16
    assert set(ids(one)) != set(ids(two))
    assert len(ids(random_subset(make_loader(tiny.forget), 999))) == 16


def test_labels_come_in_the_datasets_order(tiny):
    assert torch.equal(all_labels(make_loader(tiny.retain)), tiny.retain.labels)


def test_only_some_classes_are_left(tiny):
    found = torch.cat([b["age_group"] for b in only_classes(make_loader(tiny.retain), (0, 1))])
    assert len(found) == int((tiny.retain.labels <= 1).sum())
    assert set(found.tolist()) == {0, 1}


def test_endless_goes_on_after_the_last_batch(tiny):
    batches = endless(make_loader(tiny.retain))
    assert [len(next(batches)["image"]) for _ in range(5)] == [64, 32, 64, 32, 64]


def test_one_epoch_takes_one_step_a_batch_and_leaves_the_mode(tiny):
    net = tiny.make_net().eval()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    seen = []
    one_epoch(net, make_loader(tiny.retain), optimizer, lambda z, y: seen.append(len(y)) or z.mean())
    assert seen == [64, 32]
    assert not net.training


def test_inputs_are_images_and_classes(tiny):
    batch = next(iter(make_loader(tiny.retain)))
    images, classes = inputs(batch, tiny.make_net())
    assert images is batch["image"]
    assert classes is batch["age_group"]
