"""What cannot be graded is refused when the task loads, with its file and split, not after hours of training."""

import pytest

from local_eval.tasks.loading import load_task
from local_eval.tasks.names import TaskError
from tests.conftest import TINY

ONE_MORE = "good.retain[slice(0, 65)]"


def load_changed(tmp_path, change):
    """Load the tiny task with some fields replaced."""
    folder = tmp_path / str(len(list(tmp_path.iterdir())))  # another each time: Python may keep what it has compiled
    folder.mkdir()
    path = folder / "broken.py"
    path.write_text(
        "from dataclasses import replace\nimport torch\nfrom torch import nn\nfrom torchvision.models import resnet18\n"
        "from local_eval.tasks.loading import load_task\nfrom local_eval.tasks.digits import NarrowResNet\n"
        f"def task():\n    good = load_task({TINY!r})\n    return replace(good, {change})\n"
    )
    return load_task(str(path))


def test_a_broken_task_is_refused_by_file_and_split(tmp_path):
    for change, message in [
        ("forget=good.forget[slice(0, 0)]", "forget set is empty"),
        ("test=good.retain", "image 0 is in retain and in test; splits must not overlap"),
        ("test=good.test[torch.tensor([0, 0, 1])]", "image 136 is twice in test"),
        ("num_classes=2", "labels span 0..2, but there are 2 classes"),
        ("num_classes=4", r"answers an image with \(1, 3\), but num_classes is 4"),
        ("make_net=lambda: resnet18(num_classes=10)", r"answers an image with \(1, 10\), but num_classes is 3"),
        ("retain=replace(good.retain, images=good.retain.images.float())", "retain images must be uint8"),
        ("test=replace(good.test, labels=good.test.labels.int())", r"labels of the test set must be int64 .*int32"),
        ("test=replace(good.test, age=good.test.age[:, None])", r"age of the test set must be int64 \[n\]"),
        ("test=replace(good.test, images=good.test.images[:, :, 1:])", "must have one image size"),
        ("retain=replace(good.retain, age=good.retain.age[:5])", "retain has 5 values of age for 96 labels"),
        ("retain=replace(good.retain, person_id=good.retain.person_id + 5)", "person 24 is in retain and in forget"),
        (f"retain={ONE_MORE}", "retain has 65 images, so that the last batch holds a single one"),
        ("retain=good.retain[slice(0, 49)]", "retain and forget has 65 images"),
        ("recipe=replace(good.recipe, batch_size=19)", "retain has 96 images"),
    ]:
        with pytest.raises(TaskError, match=rf"broken.py: .*{message}"):
            load_changed(tmp_path, change)


def test_a_single_image_in_the_last_batch_is_allowed_where_it_does_no_harm(tmp_path):
    for change in [
        "retain=good.retain[slice(0, 49)], original=good.make_net().state_dict()",  # nobody trains on both
        f"retain={ONE_MORE}, make_net=lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 3))",  # no batch norms
    ]:
        assert load_changed(tmp_path, change).name == "tiny"


def test_looking_at_the_network_leaves_the_global_generator_alone():
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_task(TINY)
    assert torch.equal(torch.rand(3), expected)
