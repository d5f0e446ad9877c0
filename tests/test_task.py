"""Tasks are checked when they load, and their fingerprint follows everything that oracles depend on."""

from dataclasses import replace

import pytest
import torch
from sklearn.datasets import load_digits

from local_eval.task import TaskError, load_task, task_names
from tests.conftest import TINY


def test_digits_has_the_competitions_shape():
    task = load_task("digits")
    assert {k: len(v) for k, v in task.splits.items()} == {"retain": 1365, "forget": 72, "validation": 180, "test": 180}
    assert task.retain.images.shape[1:] == (3, 32, 32)
    assert int(task.retain.images.max()) == 255
    assert task.forget.labels.unique().tolist() == [0, 1]


def test_digits_net_has_resnet18s_names_so_that_every_submission_runs_on_it():
    from torchvision.models import resnet18

    narrow, full = load_task("digits").make_net(), resnet18(num_classes=10)
    assert list(narrow.state_dict()) == list(full.state_dict())
    assert [n for n, _ in narrow.named_modules()] == [n for n, _ in full.named_modules()]


def test_wrong_labels_are_in_the_training_part_only():
    truth = torch.from_numpy(load_digits().target)
    splits = load_task("digits").splits
    wrong = {name: (split.labels != truth[split.image_id]).float().mean() for name, split in splits.items()}
    assert wrong["validation"] == wrong["test"] == 0
    assert 0.05 < wrong["retain"] < 0.15
    assert 0.02 < wrong["forget"] < 0.2


def test_the_fingerprint_is_stable_and_follows_data_recipe_and_network(tiny):
    assert load_task(TINY).fingerprint() == tiny.fingerprint()
    images = tiny.retain.images.clone()
    images[0, 0, 0, 0] += 1
    for changed in (
        replace(tiny, retain=replace(tiny.retain, images=images)),
        replace(tiny, recipe=replace(tiny.recipe, epochs=2)),
        replace(tiny, make_net=load_task("digits").make_net),
        replace(tiny, name="other"),
    ):
        assert changed.fingerprint() != tiny.fingerprint()


def test_class_weights_are_one_over_the_counts_of_the_whole_training_part(tiny):
    labels = torch.cat([tiny.retain.labels, tiny.forget.labels])
    assert tiny.class_weights().tolist() == pytest.approx([1 / (labels == c).sum().item() for c in range(3)])


def test_an_unknown_task_lists_the_known_ones():
    assert "digits" in task_names()
    with pytest.raises(TaskError, match="Known: .*digits"):
        load_task("digit")


@pytest.mark.parametrize(
    "change, message",
    [
        ("forget=good.forget[slice(0, 0)]", "forget set is empty"),
        ("test=good.retain", "splits must not overlap"),
        ("num_classes=2", "2 classes"),
        ("retain=replace(good.retain, images=good.retain.images.float())", "must be uint8"),
        ("retain=replace(good.retain, age=good.retain.age[:5])", "different lengths"),
    ],
)
def test_a_broken_task_is_refused_by_name(tmp_path, change, message):
    path = tmp_path / "broken.py"
    path.write_text(
        "from dataclasses import replace\nfrom local_eval.task import load_task\n"
        f"def task():\n    good = load_task({TINY!r})\n    return replace(good, {change})\n"
    )
    with pytest.raises(TaskError, match=message):
        load_task(str(path))


def test_a_file_without_task_is_refused(tmp_path):
    path = tmp_path / "empty.py"
    path.write_text("")
    with pytest.raises(TaskError, match="no function task"):
        load_task(str(path))
