"""A score of one N never takes the place of a larger one's, and nothing that was known of the same models is lost."""

import json
import shutil

import numpy as np
import pytest

from local_eval.report.compare import graded
from local_eval.report.result import Result, keep, kept, kept_at, kept_under, result_folder
from local_eval.store.files import OutputError

FROM = {"kind": "run", "task": "t", "submission": "s", "original": "o", "seed": 0, "index": None}


def result(runs, value=0.1, missing=(), **fields):
    known = {"runs": runs, "score": value, "epsilons": [float(runs), value], "missing_runs": list(missing)}
    known |= {"interval": [0.0, 1.0], "made_from": FROM, "notes": ["a note"], "task": "tiny", "when": "2026-01-01"}
    known |= {"repeats": None, "within_budget": None, "runs_over_budget": []}
    return Result(known | fields)


def in_page(path):
    """Leave a page beside a score, as `grade` does."""
    (path.parent / "figures").mkdir(exist_ok=True)
    (path.parent / "figures" / "a.png").write_text(str(Result.read(path)["runs"]))
    (path.parent / "report.html").write_text(str(Result.read(path)["runs"]))
    return path


def there(folder):
    """N of what the old paths show, and of all that is kept; every file beside a score must be of that score."""
    for path, found in kept(folder):
        assert np.load(path.with_name("epsilons.npy")).tolist() == found["epsilons"]
        for page in (path.with_name("report.html"), path.parent / "figures" / "a.png"):
            assert not page.exists() or page.read_text() == str(found["runs"]), page
    assert result_folder(folder / "score.json") == folder == result_folder(folder / "N16" / "score.json")
    return Result.read(folder / "score.json")["runs"], [found["runs"] for _, found in kept(folder)]


def test_whatever_the_order_of_gradings_the_largest_is_shown_and_all_are_kept(tmp_path):
    for number, order in enumerate([(16, 64, 32), (64, 16, 32), (32, 16, 64), (64, 32, 16), (16, 32, 64, 16, 32)]):
        folder = tmp_path / f"tiny-{number}" / "mine"
        for runs in order:
            path = in_page(keep(result(runs), folder))
            assert Result.read(path)["runs"] == runs
        assert there(folder) == (64, [64, 32, 16])
        assert kept_at(folder, 16)[0] == folder / "N16" / "score.json" and kept_at(folder, 48) is None
        assert sorted(row["runs"] for row in graded(folder)) == [16, 32, 64]
        assert len(kept_under(folder.parent)) == 3
        shutil.copytree(folder / "N16", folder / "N64")
        shutil.copy(folder / "score.json", folder / "N64")
        assert len(graded(folder)) == 3, "what an interrupted grading has in both places is one"


def test_an_old_folder_keeps_what_it_has_when_a_larger_score_comes_and_when_a_smaller_one_does(tmp_path):
    """Written by a version that knew only one score, and of which not all is there."""
    for runs in (64, 16):
        for lost in ((), ("epsilons.npy",), ("figures/a.png", "figures"), ("report.html",)):
            folder = tmp_path / f"{runs}-{len(lost)}-{lost[0] if lost else ''}".replace("/", "-")
            in_page(result(32).save(folder))
            for name in lost:
                (folder / name).unlink() if (folder / name).is_file() else (folder / name).rmdir()
            old = (folder / "score.json").read_bytes()
            keep(result(runs), folder)
            place = folder if runs == 16 else folder / "N32"
            assert (place / "score.json").read_bytes() == old, "not a byte is written anew"
            assert (place / "report.html").exists() == ("report.html" not in lost)
            assert not (folder / "report.html").exists() or runs == 16, "no page of another N stays beside a score"


def test_runs_that_failed_make_a_score_of_its_own_that_gives_way_to_a_whole_one(tmp_path):
    keep(result(62, missing=(3, 7)), tmp_path)
    keep(result(64), tmp_path)
    keep(result(62, missing=(3, 9)), tmp_path)
    keep(result(62), tmp_path)
    assert sorted(path.parent.name for path, _ in kept(tmp_path)[1:]) == ["N62", "N62-of-64"]
    assert kept_at(tmp_path, 62, 2)[1]["missing_runs"] == [3, 9] and kept_at(tmp_path, 62)[1]["missing_runs"] == []
    assert there(tmp_path)[0] == 64
    other = tmp_path / "other"
    keep(result(62), other)
    keep(result(62, missing=(3, 7)), other)
    assert Result.read(other / "score.json")["missing_runs"] == []


def test_scores_of_other_models_never_hide_those_of_the_models_as_they_are(tmp_path):
    """The folder's name does not know the original model, which may have been trained anew elsewhere."""
    in_page(keep(result(64, made_from=FROM | {"original": "another"}), tmp_path))
    in_page(keep(result(16), tmp_path))
    assert there(tmp_path) == (16, [16, 64])
    keep(result(16, made_from=FROM | {"out": "/moved"}), tmp_path)
    assert there(tmp_path) == (16, [16, 64])
    old = {key: FROM[key] for key in ("task", "submission")}  # of a version that said less
    keep(result(48, made_from=old), tmp_path)
    keep(result(16), tmp_path)
    assert there(tmp_path)[0] == 48


def test_a_score_that_was_deleted_or_damaged_is_replaced_by_the_largest_that_is_left(tmp_path):
    for number, harm in enumerate((lambda file: file.unlink(), lambda file: file.write_text("{"))):
        folder = tmp_path / str(number)
        for runs in (16, 32, 64):
            keep(result(runs), folder)
        harm(folder / "score.json")
        keep(result(16), folder)
        assert there(folder) == (32, [32, 16])
        assert not (folder / "N32").exists()


def test_what_earlier_gradings_of_the_same_models_knew_stays(tmp_path):
    seeds = {"seeds": [0, 1, 2], "scores": [0.1, 0.2, 0.3]}
    late = {"within_budget": False, "runs_over_budget": [2], "notes": ["NOT A VALID SCORE: slow", "a note"]}
    keep(result(16, repeats=seeds, **late), tmp_path)
    for again in (result(16), result(16, repeats={"seeds": [0, 1], "scores": [0.1, 0.2]})):
        keep(again, tmp_path)
        found = Result.read(tmp_path / "score.json")
        assert found["repeats"] == seeds and found["within_budget"] is False and found["runs_over_budget"] == [2]
        assert found["notes"] == ["NOT A VALID SCORE: slow", "a note"]
    keep(result(16, within_budget=True), tmp_path)
    assert Result.read(tmp_path / "score.json")["within_budget"] is True, "another limit was asked for"
    keep(result(16, value=0.2), tmp_path)
    assert Result.read(tmp_path / "score.json")["repeats"] is None, "of other models it is not known"


def test_files_that_are_no_scores_are_passed_over_and_a_folder_that_cannot_be_written_is_told(tmp_path):
    keep(result(64), tmp_path)
    for name, text in (("N8", "[]"), ("Nonsense", "{}"), ("N1-of-2", json.dumps({"when": "now", "sha256": "0"}))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "score.json").write_text(text)
    keep(result(16), tmp_path)
    assert {found["runs"] for _, found in kept(tmp_path) if "runs" in found} == {16, 64}
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        keep(result(16), tmp_path / "file" / "mine")
