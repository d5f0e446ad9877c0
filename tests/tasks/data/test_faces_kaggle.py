"""faces reads Kaggle's input folder: its rows, its images, its original model and its class counts."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from local_eval.tasks.loading import load_task
from local_eval.tasks.names import TaskError
from tests.competition import SIZES, make_competition, narrow_resnet18, write_image
from tests.made_up import check_gradable


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_competition(tmp_path_factory.mktemp("whole"), narrow_resnet18)[0]


@pytest.fixture(autouse=True)
def narrow(narrow_networks):
    """test_faces_casia.py tells that it is resnet18 otherwise."""


@pytest.fixture
def kaggle(whole, tmp_path):
    """A copy; but the original model, which is large, is the same file, not to be written to."""
    shutil.copytree(whole, tmp_path / "input", ignore=shutil.ignore_patterns("original_model.pth"))
    os.link(whole / "original_model.pth", tmp_path / "input" / "original_model.pth")
    return tmp_path / "input"


def rows_of(root, name):
    with open(root / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(root, name, rows):
    with open(root / f"{name}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def check_split(root, split, rows):
    """Compare a split with rows of a CSV file, one by one."""
    by_number = {int(row["person_id"]) * 10**6 + int(row["image_id"].split("-")[1]): row for row in rows}
    assert sorted(split.image_id.tolist()) == sorted(by_number)
    for k, number in enumerate(split.image_id.tolist()):
        row = by_number[number]
        image = Image.open(root / "images" / (row["image_id"].replace("-", "/") + ".png"))
        assert np.array_equal(split.images[k].permute(1, 2, 0), np.asarray(image))
        found = [int(v[k]) for v in (split.labels, split.age, split.person_id)]
        assert found == [int(row[key]) for key in ("age_group", "age", "person_id")]


def test_every_row_is_read_with_its_image(kaggle):
    splits = load_task(f"faces:{kaggle}").splits
    for name in ("retain", "forget"):
        check_split(kaggle, splits[name], rows_of(kaggle, name))
    check_split(kaggle, splits["validation"] + splits["test"], rows_of(kaggle, "validation"))
    assert splits["forget"].image_id[:3].tolist() == [12000000, 12000010, 12000002], "in the order of their paths"


def test_without_test_csv_validation_is_halved_by_persons(kaggle):
    task, again = (load_task(f"faces:{kaggle}") for _ in range(2))
    persons = [set(split.person_id.tolist()) for split in (task.validation, task.test)]
    assert [len(p) for p in persons] == [1, 1]
    assert not persons[0] & persons[1]
    assert len(task.validation) + len(task.test) == SIZES["validation"]
    assert task.fingerprint() == again.fingerprint()


def test_test_csv_is_used_if_there_is_one(kaggle):
    random = np.random.default_rng(5)
    rows = [write_image(kaggle, random, person=77, index=k) for k in range(4)]
    write_rows(kaggle, "test", rows)
    task = load_task(f"faces:{kaggle}")
    check_split(kaggle, task.test, rows_of(kaggle, "test"))
    check_split(kaggle, task.validation, rows_of(kaggle, "validation"))


def test_the_original_model_and_the_class_counts_are_kaggles(kaggle):
    (kaggle / "age_class_weights.json").write_text(json.dumps({"0": 8, "1": 4, "9": 2}))
    task = load_task(f"faces:{kaggle}")
    given = torch.load(kaggle / "original_model.pth", weights_only=True)
    assert all(torch.equal(task.original[name], value) for name, value in given.items())
    task.make_net().load_state_dict(task.original)
    assert task.class_weights().tolist() == [1 / 8, 1 / 4, 0, 0, 0, 0, 0, 0, 0, 1 / 2]


def test_kaggles_faces_can_be_graded(kaggle, tmp_path, monkeypatch):
    assert check_gradable(tmp_path, f"faces:{kaggle}", monkeypatch) == "faces"


def test_a_faulty_row_is_named(kaggle, whole):
    for column, value, message in [
        ("image_id", "12", "row 2: image_id is '12', not PERSON-NUMBER such as 12-3"),
        ("image_id", "12-x", "row 2: image_id is '12-x', not PERSON-NUMBER"),
        ("image_id", "12-03", "row 2: image_id is '12-03', not PERSON-NUMBER"),
        ("image_id", f"12-{10**6}", "row 2: image_id is '12-1000000', not PERSON-NUMBER"),
        ("image_id", "12-99", "row 2: image .*images/12/99.png does not exist"),
        ("age_group", "10", "row 2: age_group is 10; there are groups 0 to 9"),
        ("age_group", "old", "row 2: age_group is 'old', not an integer >= 0"),
        ("age", "", "row 2: the column age is empty"),
        ("person_id", "anna", "row 2: person_id is 'anna', not an integer"),
    ]:
        rows = rows_of(whole, "forget")
        rows[0][column] = value
        write_rows(kaggle, "forget", rows)
        with pytest.raises(TaskError, match=f"forget.csv, {message}"):
            load_task(f"faces:{kaggle}")


def test_a_broken_image_is_named_by_its_row(kaggle):
    broken = rows_of(kaggle, "retain")[4]["image_id"].replace("-", "/") + ".png"
    (kaggle / "images" / broken).write_text("")
    with pytest.raises(TaskError, match=f"retain.csv, row 6: image .*{broken} cannot be read"):
        load_task(f"faces:{kaggle}")


def test_missing_files_columns_and_persons_are_told(kaggle, tmp_path):
    rows = rows_of(kaggle, "validation")
    write_rows(kaggle, "validation", [row for row in rows if row["person_id"] == rows[0]["person_id"]])
    with pytest.raises(TaskError, match="validation.csv has a single person and cannot be halved; put a test.csv"):
        load_task(f"faces:{kaggle}")
    write_rows(kaggle, "validation", [{k: v for k, v in row.items() if k != "age"} for row in rows])
    with pytest.raises(TaskError, match="validation.csv, row 1: no column 'age'"):
        load_task(f"faces:{kaggle}")
    (kaggle / "forget.csv").unlink()
    with pytest.raises(TaskError, match="forget.csv cannot be read as a CSV file"):
        load_task(f"faces:{kaggle}")


def test_a_person_in_retain_and_forget_is_refused_with_both_rows(kaggle):
    rows, retained = rows_of(kaggle, "forget"), rows_of(kaggle, "retain")
    rows[3]["person_id"] = retained[0]["person_id"]
    write_rows(kaggle, "forget", rows)
    both = r".*retain.csv, row 2 \(retain\) and row 5 \(forget\)"
    with pytest.raises(TaskError, match=rf"forget.csv: the group {retained[0]['person_id']} is in {both}"):
        load_task(f"faces:{kaggle}")


def test_an_image_listed_twice_is_refused_with_both_rows(kaggle):
    rows = rows_of(kaggle, "validation")
    write_rows(kaggle, "validation", [*rows, rows[2]])
    both = rf"row 4 \(validation\) and row {len(rows) + 2} \(validation\); leave one out"
    with pytest.raises(TaskError, match=rf"validation.csv: {rows[2]['image_id']} is listed twice, in {both}"):
        load_task(f"faces:{kaggle}")


def test_an_unfit_original_is_refused(kaggle):
    path = kaggle / "original_model.pth"
    start = path.read_bytes()[:1000]
    for save, message in (
        (lambda: None, "cannot be loaded .*No such file"),
        (lambda: path.write_bytes(start), "cannot be loaded"),
        (lambda: torch.save(narrow_resnet18(num_classes=10), path), "cannot be loaded"),
        (lambda: torch.save(narrow_resnet18(num_classes=7).state_dict(), path), r"fc.weight has shape \(7, 32\)"),
        (lambda: torch.save({"a": torch.zeros(1)}, path), "missing or foreign keys: a, bn1.bias.*10 classes"),
        (lambda: torch.save([1], path), "holds no state dict"),
    ):
        path.unlink(missing_ok=True)
        save()
        with pytest.raises(TaskError, match=f"original_model.pth.*{message}"):
            load_task(f"faces:{kaggle}")


def test_unfit_class_counts_are_refused(kaggle):
    for text, message in [
        ("{", "cannot be read"),
        ("[5, 5]", "must hold {age_group: number of images}"),
        ("{}", "must hold {age_group: number of images}"),
        ('{"10": 5}', "for age groups 0 to 9"),
        ('{"1": 0.5}', "age group 1 has 0.5 images; that must be an integer >= 0"),
        ('{"1": -5}', "age group 1 has -5 images"),
    ]:
        (kaggle / "age_class_weights.json").write_text(text)
        with pytest.raises(TaskError, match=f"age_class_weights.json.*{message}"):
            load_task(f"faces:{kaggle}")
