"""faces reads CASIA-SURF as the official code does: its classes, its order, its cuts, its forgotten persons."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18
from torchvision.transforms import Resize

from local_eval.tasks.data.casia import read_people
from local_eval.tasks.loading import load_task
from local_eval.tasks.names import TaskError
from tests.made_up import check_gradable, write_image

PERSONS = 24


@pytest.fixture
def casia(tmp_path):
    """24 persons in three parts, with 3 to 7 frames each, in another order in Age_Gender.txt than among the folders."""
    root, numbers = tmp_path / "casia", np.random.default_rng(0)
    ids = [f"{part}_{k:03d}" for k, part in enumerate(["2", "1", "10"] * (PERSONS // 3))]
    for k, who in enumerate(ids):
        folder = root / "WBackground" / who.split("_")[0] / who / "real.rssdk"
        for frame in range(3 + k % 5):
            write_image(folder / "color" / f"{frame:04d}.jpg", (k, frame), size=(40, 50))
        (folder / "depth").mkdir()
        (folder / "depth" / "0000.jpg").write_text("not read")
    lines = [f"{who} {numbers.integers(18, 70)} {'mf'[k % 2]}" for k, who in enumerate(ids)]
    (root / "Age_Gender.txt").write_text("\n".join(numbers.permutation(lines)) + "\n")
    return root


def slowly(root):
    """The official reading, example by example: dicts in four lists."""
    people = dict(line.split(" ")[:2] for line in (root / "Age_Gender.txt").read_text().splitlines())
    ages = [int(age) for age in people.values()]
    edges = np.linspace(min(ages), max(ages) + 1, 11)
    examples = []
    for file in sorted(str(f) for f in root.glob("WBackground/*/*/real.rssdk/color/*.jpg")):
        who = file.split("/")[-4]
        pixels = torch.from_numpy(np.asarray(Image.open(file)).transpose(2, 0, 1).copy())
        age = int(people[who])
        group = max(k for k in range(10) if edges[k] <= age)
        facts = {"labels": group, "age": age, "person_id": sorted(people).index(who), "image_id": len(examples)}
        examples.append({"images": Resize((32, 32))(pixels), **facts})
    random.Random(43).shuffle(examples)
    n = len(examples)
    train, validation, test = np.split(np.array(examples, dtype=object), [int(0.8 * n), int(0.9 * n)])
    first = sorted({e["person_id"] for e in train})[:15]
    forget = [e for e in train if e["person_id"] in first]
    retain = [e for e in train if e["person_id"] not in first]
    return {"retain": retain, "forget": forget, "validation": validation, "test": test}


def test_splits_are_the_official_ones_example_by_example(casia):
    task = load_task(f"faces:{casia}")
    for name, expected in slowly(casia).items():
        split = task.splits[name]
        assert len(split) == len(expected) > 0
        for key, tensor in split.tensors().items():
            for value, example in zip(tensor, expected):
                assert torch.equal(value, torch.as_tensor(example[key])), (name, key)


def test_fifteen_persons_are_forgotten_and_training_is_weighted(casia):
    task = load_task(f"faces:{casia}")
    assert len(task.forget.person_id.unique()) == 15
    assert task.make_net.func is resnet18
    assert (task.recipe.epochs, task.recipe.lr, task.recipe.weight_decay) == (30, 1e-4, 5e-3)
    labels = torch.cat([task.retain.labels, task.forget.labels])
    there = torch.bincount(labels, minlength=10)
    assert torch.allclose(task.class_weights()[there > 0], 1 / there[there > 0].float())
    assert (task.original, task.class_counts, task.retain.mean) == (None, None, None)


def test_age_groups_are_ten_of_equal_width(tmp_path, casia):
    ages = [k.split(" ")[1] for k in (casia / "Age_Gender.txt").read_text().splitlines()]
    low, width = min(map(int, ages)), (max(map(int, ages)) + 1 - min(map(int, ages))) / 10
    for split in load_task(f"faces:{casia}").splits.values():
        assert all(low + width * g <= a < low + width * (g + 1) + 1e-9 for g, a in zip(split.labels, split.age))


def test_faces_can_be_graded(casia, tmp_path, monkeypatch):
    assert check_gradable(tmp_path, f"faces:{casia}", monkeypatch) == "faces"


@pytest.mark.parametrize(
    "lines, message",
    [
        ("1_001 20 m\n1_001 30 f", "line 2: the id 1_001 is there twice"),
        ("1_001 20 m\n\n1_002 thirty f", "line 3: '1_002 thirty f' is not 'ID AGE GENDER'"),
        ("1_001 20", "line 1: '1_001 20' is not 'ID AGE GENDER'"),
        ("\n", "lists nobody"),
    ],
)
def test_a_faulty_line_is_named(casia, lines, message):
    (casia / "Age_Gender.txt").write_text(lines)
    with pytest.raises(TaskError, match=f"Age_Gender.txt.*{message}"):
        load_task(f"faces:{casia}")


def test_a_list_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(TaskError, match="Age_Gender.txt cannot be read"):
        read_people(tmp_path / "Age_Gender.txt")


def test_a_person_who_is_not_in_the_list_is_named(casia):
    write_image(casia / "WBackground" / "1" / "1_999" / "real.rssdk" / "color" / "0000.jpg", 0)
    with pytest.raises(TaskError, match="1/1_999 has images, but the id 1_999 is not in .*Age_Gender.txt"):
        load_task(f"faces:{casia}")


def test_a_broken_image_is_named(casia):
    file = casia / "WBackground" / "1" / "1_001" / "real.rssdk" / "color" / "0001.jpg"
    file.write_bytes(file.read_bytes()[:400])
    with pytest.raises(TaskError, match=f"image {file} cannot be read"):
        load_task(f"faces:{casia}")


def test_missing_images_and_too_few_persons_are_told(tmp_path, casia):
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "Age_Gender.txt").write_text((casia / "Age_Gender.txt").read_text())
    with pytest.raises(
        TaskError, match="no images in .*WBackground; they are expected as <part>/<ID>/real.rssdk/color"
    ):
        load_task(f"faces:{tmp_path / 'few'}")
    for person in sorted(casia.glob("WBackground/*/*"))[15:]:
        person.rename(tmp_path / person.name)
    with pytest.raises(TaskError, match="15 persons in the training part, of which 15 are to be forgotten"):
        load_task(f"faces:{casia}")


def test_without_a_place_or_data_it_says_what_to_point_it_at(tmp_path):
    with pytest.raises(
        TaskError, match="--task faces:PATH.*Age_Gender.txt and WBackground, or with Kaggle's retain.csv"
    ):
        load_task("faces")
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(TaskError, match=f"no faces in {place}: .*CASIA-SURF.*original_model.pth.*Kaggle"):
            load_task(f"faces:{place}")
