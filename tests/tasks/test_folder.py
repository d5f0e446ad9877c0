"""Folders of images are a task where their meaning is plain; a path alone says which task reads it."""

from dataclasses import replace
from pathlib import Path

import pytest

from local_eval.__main__ import main
from local_eval.tasks.check import check_task
from local_eval.tasks.folder import task as folder_task
from local_eval.tasks.loading import load_task
from local_eval.tasks.names import TASKS, TaskError, split_spec
from tests.conftest import TINY
from tests.made_up import write_image

SIZES = {"retain": 12, "forget": 6, "validation": 4, "test": 4}


@pytest.fixture
def where(tmp_path):
    """A good folder of images, 6x5, of three classes."""
    root, seed = tmp_path / "mine", 0
    for split, size in SIZES.items():
        for k in range(size):
            write_image(root / split / ("ant", "bee", "cat")[k % 3] / f"{k}.png", seed := seed + 1, size=(6, 5))
    return root


def refused(where, *reported):
    with pytest.raises(TaskError) as caught:
        folder_task(where)
    for text in reported:
        assert text in str(caught.value), caught.value
    assert str(caught.value).startswith(str(where))
    assert ".py" not in str(caught.value)


def test_splits_and_classes_are_the_folders(where):
    task = load_task(str(where))
    assert {name: len(split) for name, split in task.splits.items()} == SIZES
    assert task.retain.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert len(task.retain.person_id.unique()) == 12
    assert "labels are read as classes: ant -> 0, bee -> 1, cat -> 2" in task.notes
    assert load_task(f"folder:{where}").fingerprint() == task.fingerprint()


def test_numbers_as_names_of_classes_count_as_numbers(where):
    for split in SIZES:
        for name, number in (("ant", "2"), ("bee", "10"), ("cat", "1")):
            (where / split / name).rename(where / split / number)
    assert "labels are read as classes: 1 -> 0, 2 -> 1, 10 -> 2" in folder_task(where).notes


def test_what_systems_leave_in_folders_is_passed_over(where):
    before = load_task(str(where)).fingerprint()
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._1.png"):
        (where / "retain" / "ant" / name).write_text("x")
        (where / "retain" / name).write_text("x")
    assert load_task(str(where)).fingerprint() == before


def test_what_is_in_the_wrong_place_is_told_at_once(where):
    (where / "retain" / "ant" / "notes.txt").write_text("x")
    write_image(where / "test" / "loose.png", 80, size=(6, 5))
    write_image(where / "test" / "ant" / "anna" / "1.png", 81, size=(6, 5))
    (where / "validation" / "bee" / "1.png").write_text("")
    refused(where, "4 faults", "retain/ant/notes.txt is no image", "test/loose.png is in no folder of a class",
            "test/ant/anna is a folder", "1.png cannot be read")  # fmt: skip


def test_a_missing_split_and_one_picture_in_both_are_refused(where):
    write_image(where / "forget" / "ant" / "again.png", 1, size=(6, 5))
    refused(where, "retain/ant/0.png (retain) and forget/ant/again.png (forget) hold the same pixels")
    (where / "forget" / "ant" / "again.png").unlink()
    (where / "validation").rename(where / "val")
    refused(where, "there is no folder validation, only forget, retain, test, val")


def test_a_path_alone_says_which_task_reads_it(where, tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("x")
    (tmp_path / "T.TSV").write_text("x")
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "retain.csv").write_text("x")
    for path, name in ((tmp_path / "t.csv", "manifest"), (tmp_path / "T.TSV", "manifest"), (where, "folder"),
                       (tmp_path / "faces", "faces")):  # fmt: skip
        assert split_spec(str(path)) == (TASKS / f"{name}.py", str(path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert split_spec("digits") == (TASKS / "digits.py", None), "the kit's names come first"


def test_a_path_that_could_be_several_tasks_or_none_is_refused_with_what_to_write(tmp_path):
    for name in ("train", "test"):
        (tmp_path / "two" / name).mkdir(parents=True)
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "a.csv").write_text("x")
    (tmp_path / "none").mkdir()
    (tmp_path / "a.xlsx").write_text("x")
    for name, reported in (("two", "--task cifar10:"), ("table", "--task .*a.csv"),
                       ("none", "needs the folders retain"),
                       ("a.xlsx", "save it as 'CSV UTF-8'"), ("no.csv", "does not exist")):  # fmt: skip
        with pytest.raises(TaskError, match=reported):
            split_spec(str(tmp_path / name))


def test_an_error_after_reading_names_the_persons_data_and_not_our_module(where):
    for file in (where / "forget").rglob("*.png"):
        if file.name != "0.png":
            file.unlink()
    with pytest.raises(TaskError, match=f"^{where}: forget has 1 images.*add an image or leave one out"):
        load_task(str(where))


def test_check_without_a_submission_tells_what_was_understood(where, capsys):
    write_image(where / "test" / "ant" / "0.png", 1, size=(6, 5))  # one of the retain images
    assert main(["check", "--task", str(where)]) == 0
    reported = capsys.readouterr().out
    for line in (
        "folder: images of 6x5 pixels (width x height), 3 classes",
        "  images                    12           6           4           4",
        "  persons                   12           6           4           4",
        "  class 0: ant               4           2           2           2",
        "duplicates: 1 pictures are in retain and in test",
        "note: labels are read as classes: ant -> 0, bee -> 1, cat -> 2",
        "To be forgotten: 6 images of 6 persons, 33.3 % of the training images.",
    ):
        assert line in reported, reported
    assert main(["check", "--task", str(where / "none.csv")]) == 2


@pytest.mark.parametrize(
    "labels, reported",
    [
        (["dog", "cat"], ["class 0: cat ", "class 1: dog "]),
        (["7", "2"], ["class 0: 2 ", "class 1: 7 "]),
        (["1", "0"], ["class 0 ", "class 1 "]),
        (["x" * 60, "y"], ["class 0: " + "x" * 20 + "... ", "class 1: y "]),
    ],
)
def test_classes_are_shown_by_their_names(labels, reported, tmp_path, capsys):
    rows = ["image,label,split"]
    for number, split in enumerate(["retain"] * 4 + ["forget", "validation", "test"] * 4):
        write_image(tmp_path / f"{number}.png", number, size=(6, 5))
        rows.append(f"{number}.png,{labels[number % 2]},{split}")
    (tmp_path / "mine.csv").write_text("\n".join(rows))
    assert main(["check", "--task", str(tmp_path / "mine.csv")]) == 0
    said = capsys.readouterr().out
    lines = [line.strip() for line in said.splitlines() if line.startswith("  class ")]
    assert [line.startswith(start) for line, start in zip(lines, reported)] == [True, True], said
    columns = [line for line in said.splitlines() if line.startswith(("  images", "  class"))]
    assert len({len(line) for line in columns}) == 1, "columns stay in line"


def test_names_of_some_classes_only_are_refused():
    tiny = load_task(TINY)
    with pytest.raises(TaskError, match="2 class_names for 3 classes"):
        check_task(replace(tiny, class_names=("a", "b")), Path("mine.py"))


def test_check_tells_many_classes_in_few_lines_and_duplicates_within_a_set(tmp_path, capsys):
    rows = ["image,label,split"]
    for k in range(120):
        split = ("retain", "retain", "retain", "forget", "validation", "test")[k % 6]
        write_image(tmp_path / f"{k}.png", 500 if k in (0, 6) else k, size=(6, 5))
        rows.append(f"{k}.png,{k // 4},{split}")
    (tmp_path / "mine.csv").write_text("\n".join(rows))
    assert main(["check", "--task", str(tmp_path / "mine.csv")]) == 0
    reported = capsys.readouterr().out
    assert "class 19" in reported and "class 20" not in reported and "other classes" in reported
    assert "duplicates: 1 of the retain images are there again in retain" in reported
