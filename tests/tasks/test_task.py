"""Tasks are checked when they load, and their fingerprint follows everything that oracles depend on."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from local_eval.__main__ import main
from local_eval.oracles.original import finish_original, trained_original
from local_eval.store.sealed import ABOUT, load_state, unseal
from local_eval.tasks import digits as module
from local_eval.tasks.digits import NOISE, ORIGINAL
from local_eval.tasks.evaluate import accuracy, predict
from local_eval.tasks.loading import download_task, load_task
from local_eval.tasks.names import TaskError, task_names
from local_eval.tasks.task import structure
from tests.conftest import TINY


def test_digits_has_the_competitions_shape(digits):
    task = digits
    assert {k: len(v) for k, v in task.splits.items()} == {"retain": 1365, "forget": 72, "validation": 180, "test": 180}
    assert task.retain.images.shape[1:] == (3, 32, 32)
    assert int(task.retain.images.max()) == 255
    assert task.forget.labels.unique().tolist() == [0, 1]


def test_digits_says_that_labels_are_wrong_on_purpose_and_how_many(digits):
    assert NOISE == 0.1 and "one training label in ten" in digits.notes[0]


def test_digits_brings_the_original_model_that_its_recipe_makes(digits):
    """It belongs to exactly this task, and a freshly trained one is as good on every split."""
    assert json.loads(str(unseal(ORIGINAL)[0][ABOUT]))["fingerprint"] == digits.fingerprint()
    shipped, fresh = digits.make_net(), digits.make_net()
    shipped.load_state_dict(digits.original)
    fresh.load_state_dict(trained_original(digits, "cpu"))
    for split in digits.splits.values():
        one, other = (accuracy(predict(net.eval(), split), split.labels) for net in (shipped, fresh))
        assert abs(one - other) < 0.06
    assert accuracy(predict(shipped, digits.test), digits.test.labels) > 0.9


def test_digits_net_has_resnet18s_names_so_that_every_submission_runs_on_it(digits):
    from torchvision.models import resnet18

    narrow, full = digits.make_net(), resnet18(num_classes=10)
    assert list(narrow.state_dict()) == list(full.state_dict())
    assert [n for n, _ in narrow.named_modules()] == [n for n, _ in full.named_modules()]


def test_wrong_labels_are_in_the_training_part_only(digits):
    truth = torch.from_numpy(load_digits().target)
    splits = digits.splits
    wrong = {name: (split.labels != truth[split.image_id]).float().mean() for name, split in splits.items()}
    assert wrong["validation"] == wrong["test"] == 0
    assert 0.05 < wrong["retain"] < 0.15
    assert 0.02 < wrong["forget"] < 0.2


def test_a_network_is_the_same_under_older_versions_of_torch():
    for affine in ["True", "False"]:
        older = f"BatchNorm2d(8, eps=1e-05, momentum=0.1, affine={affine}, track_running_stats=True)"
        newer = f"BatchNorm2d(8, eps=1e-05, momentum=0.1, affine={affine}, bias={affine}, track_running_stats=True)"
        assert structure(older) == structure(newer) == newer
        shown = repr(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.BatchNorm2d(8, affine=affine == "True")))
        assert structure(structure(shown)) == structure(shown)
        assert newer in structure(shown)


def test_the_fingerprint_is_stable_and_follows_data_recipe_and_network(tiny, digits):
    assert load_task(TINY).fingerprint() == tiny.fingerprint()
    images = tiny.retain.images.clone()
    images[0, 0, 0, 0] += 1
    for changed in (
        replace(tiny, retain=replace(tiny.retain, images=images)),
        replace(tiny, recipe=replace(tiny.recipe, epochs=2)),
        replace(tiny, make_net=digits.make_net),
        replace(tiny, name="other"),
    ):
        assert changed.fingerprint() != tiny.fingerprint()


def test_class_weights_are_one_over_the_counts_of_the_whole_training_part(tiny):
    labels = torch.cat([tiny.retain.labels, tiny.forget.labels])
    assert tiny.class_weights().tolist() == pytest.approx([1 / (labels == c).sum().item() for c in range(3)])


def test_an_unknown_task_lists_the_known_ones():
    assert "digits" in task_names()
    with pytest.raises(TaskError, match="did you mean digits"):
        load_task("digit")


def test_a_file_without_task_is_refused(tmp_path):
    path = tmp_path / "empty.py"
    path.write_text("")
    with pytest.raises(TaskError, match="no function task"):
        load_task(str(path))


WITH_PLACE = """
from pathlib import Path
from local_eval.tasks.loading import load_task

def task(where: Path):
    \"\"\"Point it at a folder with data.txt.\"\"\"
    assert where.name == "place", where
    return load_task({tiny!r})

def download(where: Path):
    where.mkdir()
"""


def test_a_task_that_reads_files_is_named_together_with_their_place(tmp_path, tiny):
    path = tmp_path / "mine.py"
    path.write_text(WITH_PLACE.format(tiny=TINY))
    place = tmp_path / "place"
    assert load_task(f"{path}:{place}").fingerprint() == tiny.fingerprint()
    with pytest.raises(TaskError, match="needs data.*:PATH.*Point it at a folder"):
        load_task(str(path))
    with pytest.raises(TaskError, match="reads no files"):
        load_task(f"digits:{place}")
    with pytest.raises(TaskError, match="needs data.*:PATH"):
        download_task(str(path))
    download_task(f"{path}:{place}")
    assert place.is_dir()
    with pytest.raises(TaskError, match="nothing to download"):
        download_task("digits")


def test_data_dir_is_the_same_as_naming_the_place(tmp_path, submission, capsys):
    path = tmp_path / "reader.py"
    path.write_text(WITH_PLACE.format(tiny=TINY))
    assert main(["check", submission(), "--task", str(path), "--data-dir", str(tmp_path / "place"), "--download"]) == 0
    assert (tmp_path / "place").is_dir()


def test_an_original_that_exists_already_is_taken_and_changed_originals_are_noticed(tmp_path, tiny):
    path = tmp_path / "original.npz"
    for value in (0.5, 0.25):
        state = {k: torch.full_like(v, value) if v.is_floating_point() else v for k, v in tiny_state(tiny).items()}
        task = replace(tiny, original=state)
        finish_original(task, task.fingerprint(), path, "cpu")
        assert load_state(path)["fc.bias"].tolist() == [value] * 3


def test_class_counts_that_the_owner_gives_replace_the_counted_ones(tiny):
    given = replace(tiny, class_counts=(2, 4, 0))
    assert given.class_weights().tolist() == [0.5, 0.25, 0.0]
    assert given.fingerprint() != tiny.fingerprint()


def tiny_state(task):
    return task.make_net().state_dict()


def test_digits_are_scikit_learns_to_the_bit_wherever_its_file_lies(monkeypatch):
    truth = load_digits()
    for find in (module.importlib.util.find_spec, lambda name: None):
        monkeypatch.setattr(module.importlib.util, "find_spec", find)
        images, labels = module.read_digits()
        assert np.array_equal(images, truth.images) and np.array_equal(labels, truth.target)
        assert (images.dtype, labels.dtype) == (truth.images.dtype, truth.target.dtype)
