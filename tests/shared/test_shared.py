"""A shared file gives back what was graded, to the bit; what was changed in it is found; nothing in it is executed."""

import json
import os
import platform
import re
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from local_eval.methods.submission import Submission
from local_eval.report.page.method import MethodText
from local_eval.shared import verifying, writing
from local_eval.shared.contents import read_shared
from local_eval.shared.verifying import bits_differ, check_score, score_anew, source_of_page, write_and_check_page
from local_eval.shared.writing import for_others, shared_bytes, spec_for_others
from local_eval.store.for_others import Private, SharedError
from local_eval.store.sealed import seal, unseal_bytes
from tests.fuzz.mutations import Planted
from tests.report.page.looking import Page
from tests.shared.made_shared import (
    NOBODY,
    ORIGINAL,
    RUNS,
    SOURCE,
    changed,
    edited,
    members_of,
    nudged,
    plainly,
    source_of,
    with_records,
    with_score,
)

pytestmark = pytest.mark.draws


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    with plainly():
        return source_of(tmp_path_factory.mktemp("graded"))


@pytest.fixture(scope="module")
def content(source):
    """A shared file, with a page that is none."""
    with plainly():
        return shared_bytes(source, NOBODY)


@pytest.fixture
def read(tmp_path):
    """read(content) -> what is in a shared file with this content."""

    def read_it(content):
        path = tmp_path / "theirs.zip"
        path.write_bytes(content)
        return read_shared(path)

    return read_it


def test_what_comes_out_is_what_went_in_to_the_bit(source, content, read):
    shared = read(content)
    ours = [*source.unlearned.values(), *source.pool, source.original]
    theirs = [*shared.runs.values(), *shared.pool, shared.original]
    assert [*shared.runs] == [*source.unlearned] and len(ours) == len(theirs)
    for one, other in zip(ours, theirs):
        assert not bits_differ(one.evaluation, other.evaluation) and one.identity == other.identity
    assert shared.method == source.method and shared.method.source == SOURCE.replace("1.0", "0.5", 1)
    told = {key: value for key, value in source.result.items() if key not in ("made_from", "sha256")}
    assert {key: shared.result[key] for key in told} == told
    with plainly():
        again = score_anew(shared)
        assert shared_bytes(source, NOBODY) == content, "the same grading gives the same bytes"
    assert again.score == source.result["score"] and again.epsilons.tolist() == source.result["epsilons"]
    assert check_score(shared, again).holds and "equal to the bit" in check_score(shared, again).said


def test_the_score_with_all_measures_is_computed_anew_and_the_page_drawn_anew_is_the_same(tmp_path, read, monkeypatch):
    made = source_of(tmp_path)
    assert len(made.result["beyond"]) > 5
    shared = read(shared_bytes(made, NOBODY))
    score = score_anew(shared)
    assert check_score(shared, score).holds
    path, check = write_and_check_page(shared, score, tmp_path / "opened")
    assert check.holds and "byte for byte" in check.said
    seen = Page(path)
    assert f"{score.score:.4f}" in seen.text and "The method" in seen.text and "SCALE 0.5 changed from 1.0" in seen.text
    assert "Shrinks <b>weights</b>." in seen.text and "{{ 7 * 7 }}" in seen.text and "<script" not in seen.source
    assert " ".join(shared.method.shown.split()) in seen.text
    (folded,) = [a for tag, a in seen.elements if tag == "details" and a.get("class") == "source"]
    assert "open" not in folded and made.method.digest in seen.text
    assert (tmp_path / "opened" / "method.py").read_text() == shared.method.source
    assert "Run 3: the reason is not in a shared file" in seen.text
    monkeypatch.setattr(verifying, "write_page", lambda *_, **__: path)  # the same again, which takes seconds
    other = replace(shared, page=shared.page.replace("The method", "The_method"))
    assert not write_and_check_page(other, score, tmp_path / "opened")[1].holds
    old = replace(other, contents=other.contents | {"made_with": {"matplotlib": "1.0"}})
    told = write_and_check_page(old, score, tmp_path / "opened")[1]
    assert told.holds and "not verified" in told.said


def told(**changes):
    """Alters fields of score.json by functions of what it says."""

    def alter(contents, members):
        found = json.loads(members["score.json"])
        with_score(**{key: change(found[key]) for key, change in changes.items()})(contents, members)

    return alter


def without_controls(records):
    return [replace(one, evaluation=replace(one.evaluation, controls=None)) for one in records[1:]]


def with_contents(**fields):
    return lambda contents, _: contents.update(fields)


def with_labels(**arrays):
    def alter(_, members):
        found, _ = unseal_bytes(members["labels.npz"], "labels")
        members["labels.npz"] = seal(found | {key: change(found[key]) for key, change in arrays.items()})

    return alter


def swapped(records):
    first, second = records[:2]
    return [replace(first, identity=second.identity), replace(second, identity=first.identity), *records[2:]]


FORGED = {  # by what was forged, with all checksums made anew
    "another step in the source": edited(b"randn_like", b"rand_like"),
    "a constant in the source": edited(b"SCALE = 0.5", b"SCALE = 0.25"),
    "a constant that is told": with_score(settings={"SCALE": "0.25"}, submission="mine[SCALE=0.25]"),
    "no constant is told": with_score(settings={}, submission="mine"),
    "the method's name in the score": with_score(submission="theirs[SCALE=0.5]"),
    "the method's name in the contents": lambda contents, _: contents["method"].update(name="theirs.py"),
    "the task": told(made_from=lambda old: old | {"task": "0"}),
    "the original model": told(made_from=lambda old: old | {"original": "0"}),
    "the seed": with_score(seed=1),
    "the score": with_score(score=0.09),
    "the score's eighth digit": told(score=lambda old: old * (1 + 1e-8)),
    "an end of its interval": with_score(interval=[0.0, 1.0]),
    "the ceiling": with_score(ceiling=0.5),
    "an epsilon": told(epsilons=lambda old: [0.1, *old[1:]]),
    "the accuracies": with_score(retain_accuracy=1.0),
    "the oracles' accuracies": with_score(oracles={"retain_accuracy": 1.0, "test_accuracy": 1.0}),
    "the original's accuracies": with_score(original={"retain_accuracy": 1.0, "test_accuracy": 1.0}),
    "N": with_score(runs=17),
    "no run failed": with_score(missing_runs=[]),
    "another run failed": with_score(missing_runs=[4]),
    "its notes": with_score(notes=[]),
    "a measure": with_score(beyond=[{"key": "klom"}]),
    "a logit of a run": with_records("runs.npz", nudged),
    "a logit of an oracle": with_records("oracles.npz", nudged),
    "an accuracy of a run": with_records("runs.npz", lambda old: nudged(old, far=0, retain_accuracy=0.99)),
    "controls of a run": with_records("runs.npz", without_controls),
    "two runs swapped": with_records("runs.npz", swapped),
    "a run fewer": with_records("runs.npz", lambda old: old[:-1]),
    "an oracle fewer": with_records("oracles.npz", lambda old: old[:-1]),
    "hardly any oracles": with_records("oracles.npz", lambda old: old[:4]),
    "the original's answers": with_records("original_evaluation.npz", lambda old: nudged(old, 0, 0, test_accuracy=0.0)),
    "labels of the forget set": with_labels(forget=lambda a: (a + 1) % 3),
    "labels of other lengths": with_labels(retain=lambda a: a[:-1]),
    "labels that are no classes": with_labels(forget=lambda a: a + 7),
    "persons": with_labels(persons=lambda a: a * 0),
    "fewer persons": with_labels(persons=lambda a: a[:-1]),
    "what the kit lends": lambda _, members: members.update({"common/losses.py": b"x = 1\n"}),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGED)
def test_a_forgery_is_found_although_all_checksums_fit(content, read, what):
    forged = changed(content, FORGED[what])
    assert forged != content
    with plainly():
        try:
            shared = read(forged)
        except SharedError as error:
            assert "theirs.zip" in str(error)
            return
        check = check_score(shared, score_anew(shared))
    if what == "what the kit lends":
        assert "common/losses.py" not in check.said
    assert not check.holds, what


def test_a_last_bit_counts_as_rounding_and_is_told(content, read):
    found = json.loads(members_of(content)[1]["score.json"])["score"]
    with plainly():
        shared = read(changed(content, with_score(score=float(np.nextafter(found, 1)))))
        check = check_score(shared, score_anew(shared))
    assert check.holds and "rounding" in check.said and "to the bit" not in check.said


def test_a_comment_is_not_in_the_hash_but_on_the_page(content, read):
    """So whoever changes one is found by the page, which is drawn anew from what is in the file."""
    comment = changed(content, edited(b"\nSCALE", b"\n# very good\nSCALE"))
    shared = read(comment)
    with plainly():
        assert "very good" in source_of_page(shared, score_anew(shared)).method.shown


WEIRD = [
    None, -1, 2**63, 10**400, 1e308, float("nan"), "", "a\nok", "\x1b[2J", "x" * 5000, [], {}, [[]], {"": {}}, ["\0"],
]  # fmt: skip
TOLD = (
    "score", "epsilons", "interval", "missing_runs", "runs", "submission", "task", "task_spec", "when", "kit", "seed",
    "settings", "made_from", "original", "originals", "untold", "notes", "torch", "hardware", "beyond", "projected",
)  # fmt: skip


def test_odd_values_are_refused_or_change_nothing_that_is_shown(content, read, monkeypatch):
    with plainly():
        shared = read(content)
        good = score_anew(shared)
        monkeypatch.setattr(verifying, "scored", lambda *_: good)  # whatever is told, the records are the same
        for k, key in enumerate(TOLD):
            for value in WEIRD[k % 3 :: 3]:
                try:
                    shared = read(changed(content, with_score(**{key: value})))
                    check = check_score(shared, score_anew(shared))
                    shown = source_of_page(shared, good)
                except SharedError as error:
                    assert "theirs.zip" in str(error), (key, value)
                    continue
                assert shown.result["score"] == good.score and shown.result["epsilons"] == good.epsilons.tolist()
                assert not check.holds or shared.result.get(key) == value
        for k, part in enumerate(("method", "task", "made_with", "larger", "files_named", "kind", "format")):
            for value in WEIRD[k % 3 :: 3]:
                try:
                    read(changed(content, with_contents(**{part: value})))
                except SharedError as error:
                    assert "theirs.zip" in str(error), (part, value)


def test_nothing_in_it_is_executed_or_worked_out(content, read, tmp_path):
    mark = tmp_path / "was-executed"
    for name in ("runs.npz", "oracles.npz", "labels.npz", "original_evaluation.npz"):

        def plant(_, members, name=name):
            arrays, _ = unseal_bytes(members[name], name)
            members[name] = seal(arrays | {next(iter(arrays)): np.array([Planted(str(mark))])})

        with pytest.raises(SharedError, match=name.replace(".", r"\.")):
            read(changed(content, plant))
    bombs = [
        f"import os\nos.mkdir({str(mark)!r})\nSCALE = 0.5\n",
        "SCALE = 9 ** 9 ** 9 ** 9\n",
        "SCALE = " + "(" * 3000 + ")" * 3000,
        "def f(:\n",
        "\0",
        "\ud800",
    ]
    for text in bombs:
        written = lambda _, members, text=text: members.update({"method.py": text.encode(errors="surrogatepass")})  # noqa: E731
        with pytest.raises(SharedError, match="theirs.zip"):
            read(changed(content, written))
    assert not mark.exists()


def test_arrays_that_grow_beyond_all_bounds_are_refused(content, read, monkeypatch):
    monkeypatch.setattr("local_eval.shared.contents.SPARE", 1 << 16)
    assert read(content).pool
    bomb = lambda _, members: members.update({"labels.npz": seal({"retain": np.zeros(1 << 20, np.int64)}, True)})  # noqa: E731
    with pytest.raises(SharedError, match="the most"):
        read(changed(content, bomb))


def everything_in(content: bytes) -> bytes:
    """All bytes of all members, with arrays as numbers and as text."""
    _, members = members_of(content)
    found = [json.dumps(members_of(content)[0]).encode(), *members, *members.values()]
    for name in [name for name in members if name.endswith(".npz")]:
        for array in unseal_bytes(members[name], name)[0].values():
            found += [array.tobytes(), str(array).encode() if array.dtype.kind == "U" else b""]
    return b"\n".join(one if isinstance(one, bytes) else one.encode() for one in found)


@pytest.fixture
def jane(tmp_path, monkeypatch):
    """An account and a machine with names of their own; the current folder lies in the home."""
    home = tmp_path / "homes" / "janedoe"
    (home / "secret project").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for name in ("USER", "LOGNAME"):
        monkeypatch.setenv(name, "janedoe")
    monkeypatch.setattr(platform, "node", lambda: "wobbly.example.org")
    monkeypatch.chdir(home / "secret project")
    return home


def test_nobody_learns_where_or_by_whom_it_was_graded(jane, tmp_path):
    here = jane / "secret project"
    read = {
        "files": {f"{here}/data.json": "abc"}, "environment": {"TOKEN": "0123"}, "untold": [f"it lists {here}"],
        "looked": {f"{jane}/x": "file"}, "listed": {f"{here}": "abc"},
    }  # fmt: skip
    about = {
        "untold": [f"it lists {here}, where other programs come and go", f"it asks for a time of {jane}/a b/data.json"],
        "task_spec": "digits[original='/data/private/weights.pth']", "kaggle": {"none": f"{jane}/fit.json is damaged"},
    }  # fmt: skip
    with plainly():
        made = source_of(here, about=about, read=read, checkpoint="0", host="wobbly")
        noted = replace(made.task, notes=(f"read from {here}/a.csv",))
        made = replace(made, shortened=(f"{jane}/weights.pth",), task=noted)
        content = shared_bytes(made, Private.here(here))
    told = everything_in(content)
    for word in ("janedoe", "wobbly", "secret", str(jane), str(here), str(tmp_path), os.getcwd(), "/data/private"):
        assert word.encode() not in told, word
    contents, _ = members_of(content)
    assert contents["method"]["reads"] == {"files": {"data.json": "abc"}, "variables": ["TOKEN"]}
    assert contents["task"]["notes"] == ["read from a.csv"]


@pytest.mark.parametrize("line", ["PATH = '{home}/x.pth'", "# by janedoe", "# made on wobbly", "D = '{here}'"])
def test_a_source_that_tells_is_refused_with_its_line_and_shared_if_that_is_asked_for(jane, line):
    here = jane / "secret project"
    text = SOURCE.replace("STEPS", line.format(home=jane, here=here) + "\nSTEPS", 1)
    with plainly():
        made = source_of(here, text)
        with pytest.raises(SharedError, match=r"mine\.py would tell others .*line 5 .*--as-written"):
            shared_bytes(made, Private.here(here))
        content = shared_bytes(made, Private.here(here), as_written=True)
    assert line.format(home=jane, here=here) in members_of(content)[1]["method.py"].decode()


def test_names_that_are_words_of_any_text_are_let_be(jane, monkeypatch):
    for name in ("USER", "LOGNAME"):
        monkeypatch.setenv(name, "root")
    monkeypatch.setattr(platform, "node", lambda: "vm")
    assert not {"root", "vm"} & set(Private.here().names)


def test_paths_lose_their_folders_and_nothing_else_is_changed():
    private = Private(("/srv/my data",), ())
    for text, expected in {
        "it lists /home/x/y, where": "it lists y, where",
        "in /srv/my data/a b.txt": "in a b.txt",
        "C:\\Users\\x\\m.py is there": "m.py is there",
        "~/results/x": "x",
        "RA / TA and 1/2, and/or https://a.b/c/d": "RA / TA and 1/2, and/or https://a.b/c/d",
        "epsilon, quality / ceiling": "epsilon, quality / ceiling",
    }.items():
        assert private.without(text) == expected
    assert spec_for_others("cifar10:/data/x[epochs=3,start='/a/b.pth']") == "cifar10:x[start='b.pth',epochs=3]"


def test_a_score_that_its_records_do_not_give_any_more_is_not_shared(source):
    with plainly():
        more = replace(source, pool=[*source.pool, *nudged(source.pool)[:2]])
        more = replace(more, pool=[replace(r, identity=r.identity | {"index": k}) for k, r in enumerate(more.pool)])
        for made in (more, replace(source, result=source.result.changed(score=0.5))):
            with pytest.raises(SharedError, match="score it again"):
                shared_bytes(made, NOBODY)


def test_what_is_told_of_a_score_loses_the_folder_of_results_alone(source):
    told = for_others(source.result, NOBODY)
    assert {k for k in source.result if told[k] != source.result[k]} == {"made_from"}
    assert source.result["made_from"].keys() - told["made_from"].keys() == {"out"} and len(source.unlearned) == RUNS
    assert told["made_from"]["original"] == ORIGINAL


def test_the_hash_of_a_text_is_that_of_its_submission():
    for name in ("baseline_finetune", "baseline_finetune[EPOCHS=3]", "fanchuan", "kookmin"):
        found = Submission.find(name)
        text = MethodText.of(found)
        assert text.digest_of_text() == found.digest() and bool(text.common) == ("common" in found.source())


def test_a_zip_program_shows_what_a_person_looks_for(content, tmp_path):
    (tmp_path / "x.zip").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.testzip() is None
        names = archive.namelist()
    assert names[:5] == ["contents.json", "READ_ME.txt", "report.html", "method.py", "score.json"]
    assert re.search(r"local_eval open", writing.READ_ME)
