"""A person's table is read as it is plainly meant, or refused in a sentence that names file, row, value and remedy."""

import os
import unicodedata

import pytest

from local_eval.tasks.manifest import task as manifest
from local_eval.tasks.names import TaskError, split_spec
from tests.made_up import write_image

HEADER = ["image", "label", "split", "group"]
SIZES = {"retain": 12, "forget": 4, "validation": 4, "test": 4}


@pytest.fixture
def cells(tmp_path):
    """Cells of a good table, whose images exist: two images a group, three classes."""
    made = []
    for split, size in SIZES.items():
        for k in range(size):
            write_image(tmp_path / split / f"{k}.png", len(made), size=(6, 5))
            made.append([f"{split}/{k}.png", str(k % 3), split, f"{split}-{k // 2}"])
    return made


def write(folder, cells, header=HEADER, separator=",", encoding="utf-8", end="\n"):
    path = folder / "mine.csv"
    path.write_bytes(end.join(separator.join(row) for row in [header, *cells]).encode(encoding))
    return path


def same(path, plain):
    """Is a table read as the plain one? Numbers of rows apart, which are image_id."""
    found = manifest(path)
    for name, split in found.splits.items():
        for column in ("images", "labels", "person_id"):
            assert getattr(split, column).equal(getattr(plain.splits[name], column)), (name, column)
    return found


def refused(path, *reported):
    with pytest.raises(TaskError) as caught:
        manifest(path)
    message = str(caught.value)
    assert message.startswith(str(path)), message
    for text in reported:
        assert text in message, message
    assert "manifest.py" not in message
    assert message.count(str(path)) == 1, message


@pytest.mark.parametrize("separator", [";", "\t", "|", " ; "])
def test_one_separator_in_the_whole_file_is_understood(tmp_path, cells, separator):
    same(write(tmp_path, cells, separator=separator), manifest(write(tmp_path, cells)))


def test_excels_line_that_names_the_separator_is_understood(tmp_path, cells):
    plain = manifest(write(tmp_path, cells))
    path = write(tmp_path, cells, separator=";")
    path.write_text("sep=;\n" + path.read_text())
    assert same(path, plain).retain.image_id[0] == 3


def test_separators_that_change_within_the_file_are_refused(tmp_path, cells):
    path = write(tmp_path, cells)
    path.write_text(path.read_text().replace("retain/3.png,0,retain,", "retain/3.png;0;retain;"))
    refused(path, "row 5", "1 cell, the header has 4", "semicolons where the header has commas")
    path.write_text(path.read_text().replace("image,label,split,group", "image;label;split;group"))
    refused(path, "commas where the header has semicolons")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_how_the_text_is_written(tmp_path, cells, encoding):
    same(write(tmp_path, cells, encoding=encoding), manifest(write(tmp_path, cells)))


@pytest.mark.parametrize("encoding, reported", [("latin-1", "row 4 holds the byte 0xfc"), ("utf-16-le", "zero bytes")])
def test_a_text_that_could_be_several_is_refused(tmp_path, cells, encoding, reported):
    cells[2][3] = "Jürgen"
    if encoding == "utf-16-le":
        cells[2][3] = "x"
    refused(write(tmp_path, cells, encoding=encoding), reported, "save it as 'CSV UTF-8'")


def test_a_workbook_and_a_folder_are_no_tables(tmp_path):
    (tmp_path / "mine.csv").write_bytes(b"PK\x03\x04 and so on")
    refused(tmp_path / "mine.csv", "Excel workbook; save it as 'CSV UTF-8'")
    (tmp_path / "folder.csv").mkdir()
    refused(tmp_path / "folder.csv", "it is a folder")


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n\n", "\n , ,,\n"])
def test_line_ends_of_all_systems_and_empty_lines_do_no_harm(tmp_path, cells, end):
    same(write(tmp_path, cells, end=end), manifest(write(tmp_path, cells)))


@pytest.mark.parametrize("change", [str.upper, lambda text: f"  {text}\t", lambda text: f' "{text}"'])
def test_case_of_splits_and_columns_spaces_and_quotes_do_no_harm(tmp_path, cells, change):
    plain = manifest(write(tmp_path, cells))
    for row in cells:
        row[2] = change(row[2])
    same(write(tmp_path, cells, [change(name) for name in HEADER]), plain)


@pytest.mark.parametrize(
    "row, reported",
    [
        ('"retain/1.png,1,retain,a', ["row 3", "a quote opens here and never closes"]),
        ('"retain/1.png"x,1,retain,a', ["row 3", "quotes that are not around a whole cell"]),
        ('"retain/1.png,1,retain,a\n"retain/2.png",2,retain,a', ["row 3", "quote"]),
        ('"retain/1.png\n",1,retain,a', ["row 3", "closes in row 4"]),
    ],
)
def test_quotes_that_go_wrong_are_told_by_the_row_where_they_open(tmp_path, cells, row, reported):
    path = write(tmp_path, cells)
    path.write_text(path.read_text().replace("retain/1.png,1,retain,retain-0", row))
    refused(path, *reported)


@pytest.mark.parametrize(
    "row, reported",
    [
        (["retain/1.png", "1", "retain"], "3 cells, the header has 4; write empty cells too"),
        (["retain/1.png"], "the column label is empty: 1 cell, the header has 4"),
        (["retain/1.png", "1", "retain", "a", "b"], "5 cells, the header has 4; 'b' is too much"),
        (["retain/1", "5.png", "1", "retain", "a"], "A cell that holds ',' needs quotes around it"),
    ],
)
def test_a_row_with_more_or_fewer_cells_than_the_header_is_refused(tmp_path, cells, row, reported):
    cells[1] = row
    refused(write(tmp_path, cells), "row 3", reported)


def test_empty_cells_at_the_end_of_rows_do_no_harm(tmp_path, cells):
    plain = manifest(write(tmp_path, cells))
    same(write(tmp_path, [[*row, "", ""] for row in cells]), plain)
    same(write(tmp_path, [[*row, ""] for row in cells], [*HEADER, ""]), plain)


@pytest.mark.parametrize(
    "header, reported",
    [
        (["image", "label", "split", "label"], "there are two columns label"),
        (["image", "label", "split", "Image"], "there are two columns image"),
        (["group", "label", "split", "person_id"], "two columns group and person_id"),
    ],
)
def test_the_same_column_twice_is_refused(tmp_path, cells, header, reported):
    refused(write(tmp_path, cells, header), "row 1", reported)


@pytest.mark.parametrize(
    "header, reported",
    [
        (["image", "lable", "split", "group"], "no column 'label'; it needs image, label, split"),
        (["image", "lable", "split", "group"], "rename 'lable' if that is it"),
        (["filename", "label", "split", "group"], "rename 'filename' if that is it"),
        (["image", "label", "split", "groups"], "the column 'groups' looks like 'group'"),
        (["image", "label", "split", "patient_id"], "the column 'patient_id' looks like 'group'"),
    ],
)
def test_a_column_near_a_known_name_is_suggested_and_never_passed_over(tmp_path, cells, header, reported):
    refused(write(tmp_path, cells, header), "row 1", reported)


def test_person_id_is_the_group_and_other_columns_are_said_to_be_passed_over(tmp_path, cells):
    plain = manifest(write(tmp_path, cells))
    same(write(tmp_path, cells, ["image", "label", "split", "person_id"]), plain)
    found = same(write(tmp_path, [[*row, "x"] for row in cells], [*HEADER, "note"]), plain)
    assert found.notes == ("columns passed over: note",)


def test_ten_faults_of_all_kinds_are_told_at_once(tmp_path, cells):
    cells[0][0], cells[1][1], cells[2][2] = "no.png", "old", "train"
    cells[3], cells[4][3], cells[5][0] = ["x"], "forget-0", "retain/0.png/x"
    (tmp_path / cells[6][0]).write_text("")
    path = write(tmp_path, cells)
    refused(path, "7 faults", "row 2: image", "row 3: label is 'old'", "row 4: split is 'train'", "row 5", "forget-0",
            "row 7", "row 8")  # fmt: skip
    refused(write(tmp_path, [[f"no{k}", "0", "nowhere", ""] for k in range(30)]), "30 faults; the first 10", "row 11")
    with pytest.raises(TaskError) as caught:
        manifest(path.with_name("mine.csv"))
    assert str(caught.value).count("\n") == 10


@pytest.mark.parametrize(
    "written",
    [
        lambda text, folder: text.replace("/", "\\"),
        lambda text, folder: f".\\{text}",
        lambda text, folder: str(folder / text),
        lambda text, folder: f"~/{text}",
        lambda text, folder: f"x/../{text}",
    ],
)
def test_paths_in_other_notations_lead_to_the_same_images(tmp_path, cells, written, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x").mkdir()
    plain = manifest(write(tmp_path, cells))
    for row in cells:
        row[0] = written(row[0], tmp_path)
    same(write(tmp_path, cells), plain)


def test_a_macs_form_of_accented_letters_is_found(tmp_path, cells):
    write_image(tmp_path / unicodedata.normalize("NFD", "é.png"), 50, size=(6, 5))
    cells[0][0] = unicodedata.normalize("NFC", "é.png")
    assert len(manifest(write(tmp_path, cells)).retain) == 12


def test_paths_relative_to_the_current_folder_are_taken_only_if_all_are_and_said(tmp_path, cells, monkeypatch):
    plain = manifest(write(tmp_path, cells))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tables").mkdir()
    path = write(tmp_path / "tables", cells)
    note = same(path, plain).notes[0]
    assert "relative to the current folder" in note and str(tmp_path) not in note, "reports are sent to others"
    write_image(tmp_path / "tables" / "beside.png", 60, size=(6, 5))
    cells[0][0] = "beside.png"
    refused(write(tmp_path / "tables", cells), "row 3: image retain/1.png is in the current folder, others are beside")


@pytest.mark.parametrize("low, step", [(1, 1), (0, 2), (5, 3)])
def test_labels_that_start_elsewhere_or_leave_gaps_are_numbered_in_order_and_said(tmp_path, cells, low, step):
    plain = manifest(write(tmp_path, cells))
    for row in cells:
        row[1] = str(low + step * int(row[1]))
    found = same(write(tmp_path, cells), plain)
    assert found.num_classes == 3
    assert found.notes == (f"labels are read as classes: {low} -> 0, {low + step} -> 1, {low + 2 * step} -> 2",)


def test_words_as_labels_are_numbered_by_the_alphabet_and_said(tmp_path, cells):
    plain = manifest(write(tmp_path, cells))
    for row in cells:
        row[1] = ["ant", "bee", "cat"][int(row[1])]
    assert same(write(tmp_path, cells), plain).notes == ("labels are read as classes: ant -> 0, bee -> 1, cat -> 2",)


@pytest.mark.parametrize(
    "change, reported",
    [
        (lambda k, old: "cat" if k == 3 else old, "row 5: label is 'cat', not an integer >= 0 as others are"),
        (lambda k, old: "3" if k == 3 else "abc"[int(old)], "row 5: label is '3'"),
        (lambda k, old: "nan" if k == 3 else "abc"[int(old)], "row 5: label is 'nan'"),
        (lambda k, old: "A" if k == 3 else "abc"[int(old)], "'A' and 'a' differ in case"),
        (lambda k, old: f"{old}.0", "label is '0.0', not an integer"),
        (lambda k, old: f"person {k}", "24 different labels with 24 images; these look like names"),
        (lambda k, old: str(k), "24 different labels with 24 images"),
        (lambda k, old: "7", "all labels are 7; it takes two classes"),
        (lambda k, old: "cat", "all labels are cat; it takes two classes"),
        (lambda k, old: "9" * 5000 if k == 3 else old, "row 5: label is '999"),
    ],
)
def test_labels_that_could_mean_something_else_are_refused(tmp_path, cells, change, reported):
    for k, row in enumerate(cells):
        row[1] = change(k, row[1])
    refused(write(tmp_path, cells), reported)


@pytest.mark.parametrize(
    "row, group, reported",
    [
        (13, "retain-0", "the group retain-0 is in row 2 (retain) and row 15 (forget)"),
        (13, "Retain-0", "'Retain-0' and 'retain-0' differ in case"),
        (13, "retain -0", "differ in case, spaces, zeros or in how letters are stored only"),
        (13, "ｒetain-0", "how letters are stored only"),
        (0, "nan", "row 2: group is 'nan'; leave the cell empty"),
        (0, "None", "row 2: group is 'None'; leave the cell empty"),
    ],
)
def test_one_person_in_both_sets_is_refused_however_it_is_spelled(tmp_path, cells, row, group, reported):
    cells[row][3] = group
    refused(write(tmp_path, cells), reported)


@pytest.mark.parametrize("one, other", [("7", "7.0"), ("007", "7.00"), ("Zoë", "Zoe\u0308"), ("Ａnna", "anna")])
def test_spellings_that_programs_make_of_one_person_are_one_person(tmp_path, cells, one, other):
    for row in cells:
        row[3] = ""
    cells[0][3], cells[13][3] = one, other
    refused(write(tmp_path, cells), f"the groups {min(one, other)!r} and {max(one, other)!r} differ in")


@pytest.mark.parametrize("label, remedy", [("1.0", "write 1"), ("0.", "write 0"), ("1.5", "use one kind for all")])
def test_labels_that_a_spreadsheet_made_fractions_are_told_what_to_write(tmp_path, cells, label, remedy):
    for row in cells:
        row[1] = label
    refused(write(tmp_path, cells), f"label is {label!r}, not an integer", f"; {remedy}")


def test_a_cell_that_is_too_long_is_told(tmp_path, cells):
    cells[3][3] = "x" * 140_000
    refused(write(tmp_path, cells), "row 5: a cell has more than 131072 characters")


@pytest.mark.parametrize("name", ["mine.txt", "mine.csv.gz"])
def test_a_file_of_another_kind_is_told_what_it_should_be(tmp_path, cells, name):
    write(tmp_path, cells).rename(tmp_path / name)
    with pytest.raises(TaskError, match=f"{name} is no task; a table of images ends in .csv or .tsv"):
        split_spec(str(tmp_path / name))


def test_one_picture_in_retain_and_forget_is_refused_by_name_and_by_pixels(tmp_path, cells):
    cells[12][0] = "retain/../retain/3.png"
    refused(write(tmp_path, cells), "retain/3.png is listed twice, in row 5 (retain) and row 14 (forget)")
    cells[12][0] = "copy.png"
    write_image(tmp_path / "copy.png", 3, size=(6, 5))
    refused(write(tmp_path, cells), "row 5 (retain) and row 14 (forget) hold the same pixels", "leave one out")
    cells[12][0] = "copy.bmp"
    write_image(tmp_path / "copy.bmp", 3, size=(6, 5))
    refused(write(tmp_path, cells), "hold the same pixels")
    os.link(tmp_path / "retain/3.png", tmp_path / "link.png")
    cells[12][0] = "link.png"
    refused(write(tmp_path, cells), "hold the same pixels")


def test_one_picture_in_other_sets_is_allowed(tmp_path, cells):
    write_image(tmp_path / "test/0.png", 3, size=(6, 5))
    write_image(tmp_path / "retain/1.png", 3, size=(6, 5))
    assert manifest(write(tmp_path, cells)).notes == ()


def test_sets_of_one_image_or_one_class_and_partly_named_persons_are_noted(tmp_path, cells):
    cells[-1][3] = ""
    notes = manifest(write(tmp_path, [*cells[:12], *cells[12:16:3], *cells[-1:], cells[16]])).notes
    assert "the forget set has a single class, 0" in notes
    assert "the test set has a single image" in notes
    assert "1 images have no group; each of them counts as a person of its own" in notes


def test_an_empty_set_and_an_unknown_one_are_told(tmp_path, cells):
    refused(write(tmp_path, cells[:-4]), "the test set is empty; no row has test as its split")
    refused(write(tmp_path, []), "lists no images")
    cells[3][2] = "val"
    refused(write(tmp_path, cells), "row 5: split is 'val'", "write validation if that is meant")
