"""A manifest's images, classes, splits and groups are taken as written, and every fault names the file and the row."""

import numpy as np
import pytest

from local_eval.tasks.loading import load_task
from local_eval.tasks.names import TaskError
from tests.made_up import check_gradable, write_image

SIZES = {"test": 12, "forget": 8, "retain": 40, "validation": 12}  # in the file's order, which is not the kit's


def write(folder, rows, header="image,label,split,group"):
    path = folder / "faces.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture
def rows(tmp_path):
    """Rows of a good manifest, whose images exist; two images a group."""
    written = []
    for split, size in SIZES.items():
        for k in range(size):
            write_image(tmp_path / split / f"{k}.png", len(written), size=(20, 16))
            written.append(f"{split}/{k}.png,{k % 3},{split},{split}-{k // 2}")
    return written


def test_every_row_ends_in_its_split_with_its_image_label_and_group(tmp_path, rows):
    task = load_task(f"manifest:{write(tmp_path, rows)}")
    assert {name: len(split) for name, split in task.splits.items()} == SIZES
    groups = {}
    for name, split in task.splits.items():
        for k in range(len(split)):
            row = int(split.image_id[k])
            image, label, in_split, group = rows[row - 2].split(",")
            assert in_split == name
            assert np.array_equal(split.images[k], write_image(tmp_path / image, row - 2, size=(20, 16)))
            assert int(split.labels[k]) == int(split.age[k]) == int(label)
            groups.setdefault(group, set()).add(int(split.person_id[k]))
    assert all(len(persons) == 1 for persons in groups.values())
    assert len(set.union(*groups.values())) == len(groups)


def test_network_and_recipe_are_the_competitions_with_as_many_classes_as_labels_ask_for(tmp_path, rows):
    task = load_task(f"manifest:{write(tmp_path, rows)}")
    assert task.make_net().fc.out_features == task.num_classes == 3
    assert (task.recipe.epochs, task.recipe.lr, task.recipe.weight_decay) == (30, 1e-4, 5e-3)
    assert task.class_weights().tolist() == pytest.approx([1 / 17, 1 / 16, 1 / 15])
    assert task.retain.mean is None


def test_without_groups_every_image_is_its_own_person(tmp_path, rows):
    no_column = [row.rpartition(",")[0] for row in rows]
    for path in (write(tmp_path, no_column, "image,label,split"), write(tmp_path, [f"{r}," for r in no_column])):
        splits = load_task(f"manifest:{path}").splits.values()
        assert len({int(person) for split in splits for person in split.person_id}) == sum(SIZES.values())


def test_spaces_capitals_blank_lines_byte_order_marks_and_further_columns_do_no_harm(tmp_path, rows):
    plain = load_task(f"manifest:{write(tmp_path, rows)}")
    path = write(tmp_path, [f" x , {row.replace(',', ' , ')}" for row in rows], "\ufeffnote, Image, label ,SPLIT,Group")
    path.write_text(path.read_text(encoding="utf-8") + "\n,,,\n", encoding="utf-8")
    assert load_task(f"manifest:{path}").fingerprint() == plain.fingerprint()


def test_splits_share_the_pages_of_one_cached_array(tmp_path, rows):
    task = load_task(f"manifest:{write(tmp_path, rows)}")
    storages = {split.images.untyped_storage().data_ptr() for split in task.splits.values()}
    assert len(storages) == 1


def test_a_manifest_can_be_graded(tmp_path, rows, monkeypatch):
    assert check_gradable(tmp_path, f"manifest:{write(tmp_path, rows)}", monkeypatch) == "manifest"


def test_without_a_place_it_says_what_to_point_it_at(tmp_path):
    with pytest.raises(TaskError, match="--task manifest:PATH.*CSV file with the columns image, label, split"):
        load_task("manifest")
    for place in (tmp_path, tmp_path / "no.csv"):
        with pytest.raises(TaskError, match=f"{place} cannot be read as a CSV file"):
            load_task(f"manifest:{place}")


@pytest.mark.parametrize("column", ["image", "label", "split"])
def test_a_missing_column_is_named(tmp_path, rows, column):
    header = "image,label,split,group".replace(column, "other")
    with pytest.raises(TaskError, match=rf"faces.csv, row 1: no column '{column}'; .* has .*other"):
        load_task(f"manifest:{write(tmp_path, rows, header)}")


@pytest.mark.parametrize(
    "row, message",
    [
        ("test/0.png,0,train,", "row 2: split is 'train'; it must be one of retain, forget, validation, test"),
        ("test/0.png,0", "row 2: the column split is empty"),
        (",0,test,", "row 2: the column image is empty"),
        ("test/0.png,,test,", "row 2: the column label is empty"),
        ("test/0.png,1.0,test,", "row 2: label is '1.0', not an integer >= 0"),
        ("test/0.png,-1,test,", "row 2: label is '-1', not an integer >= 0"),
        (f"test/0.png,{2**63},test,", "row 2: label is '9223372036854775808', not an integer"),
        ("test/0.png,72,test,", "row 2: label 72 with 72 images; number the classes 0, 1, 2"),
        ("test/no.png,0,test,", "row 2: image .*test/no.png does not exist"),
        ("faces.csv,0,test,", "row 2: image .*faces.csv cannot be read"),
        ("wide.png,0,test,", r"row .: image .* is .*x16 .*width x height.*resize the images to one size"),
        ("test/1.png,0,test,", r"test/1.png is listed twice, in row 2 \(test\) and row 3 \(test\)"),
        ("forget/../retain/0.png,0,forget,", r"listed twice, in row 22 \(retain\) and row 2 \(forget\); leave one"),
        ("test/0.png,0,forget,retain-3", r"group retain-3 is in row 28 \(retain\) and row 2 \(forget\); .*wholly"),
    ],
)
def test_a_faulty_row_is_named(tmp_path, rows, row, message):
    write_image(tmp_path / "wide.png", 0, size=(24, 16))
    with pytest.raises(TaskError, match=f"faces.csv.*{message}"):
        load_task(f"manifest:{write(tmp_path, [row, *rows[1:]])}")


def test_a_broken_image_is_named_by_its_row(tmp_path, rows):
    file = tmp_path / "forget" / "3.png"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(TaskError, match="faces.csv, row 17: image .*forget/3.png cannot be read"):
        load_task(f"manifest:{write(tmp_path, rows)}")


@pytest.mark.parametrize("split", SIZES)
def test_an_empty_split_is_named(tmp_path, rows, split):
    with pytest.raises(TaskError, match=f"faces.csv: the {split} set is empty; no row has {split} as its split"):
        load_task(f"manifest:{write(tmp_path, [row for row in rows if f',{split},' not in row])}")


def test_files_without_rows_labels_without_classes_and_binary_files_are_told(tmp_path, rows):
    with pytest.raises(TaskError, match="faces.csv lists no images"):
        load_task(f"manifest:{write(tmp_path, [])}")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(TaskError, match="row 1: no column 'image'; .* has nothing"):
        load_task(f"manifest:{tmp_path / 'empty.csv'}")
    one_class = [",0,".join((row.split(",")[0], ",".join(row.split(",")[2:]))) for row in rows]
    with pytest.raises(TaskError, match="all labels are 0; it takes two classes"):
        load_task(f"manifest:{write(tmp_path, one_class)}")
    with pytest.raises(TaskError, match="test/0.png cannot be read as a CSV file in UTF-8"):
        load_task(f"manifest:{tmp_path / 'test' / '0.png'}")
