"""Sides that were made elsewhere are graded in any mix, apart from the task's own oracles, and the score says so."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import local_eval
from local_eval import grade_given as given_sides
from local_eval import grade_given as grade_checkpoints
from local_eval.__main__ import main
from local_eval.grader import Grader
from local_eval.metric.metric import confidences_of
from local_eval.metric.score import ScoreError
from local_eval.on_disk import entries
from local_eval.oracles import oracles as oracle_room
from local_eval.report.result import read_score
from local_eval.runs.checkpoints import checkpoint_name
from local_eval.store.records import Evaluation, Record, record_in, record_path, save_record
from tests.conftest import GOOD, TINY, in_this_process
from tests.report.page.looking import Page

N = 16
FACTS = {"seconds": 1.0, "device": "cpu x86_64", "torch": "2"}


def made_up(tiny, seed, shift=0.0):
    """Logits [N, E, C] of models that know some examples better than others."""
    right = np.eye(tiny.num_classes)[tiny.forget.labels.numpy()]
    hard = np.random.default_rng(0).normal(2, 2, (len(tiny.forget), 1))
    noise = np.random.default_rng([9, seed]).normal(size=(N, len(tiny.forget), tiny.num_classes))
    return (right * (hard + shift) + noise).astype(np.float32)


def save_weights(folder, tiny, names, first):
    folder.mkdir()
    for k in range(N):
        torch.manual_seed(first + k)
        torch.save(tiny.make_net().state_dict(), folder / names.format(k))


@pytest.fixture(scope="module")
def made(tmp_path_factory, original_out, tiny):
    """A folder with sides of all forms, a submission with its runs, and a task with oracles of its own."""
    place = tmp_path_factory.mktemp("sides")
    shutil.copytree(original_out, place / "out", ignore=shutil.ignore_patterns("*-seed*"))
    (place / "mine.py").write_text(GOOD)
    ours, theirs = made_up(tiny, 1, 0.3), np.concatenate([made_up(tiny, 2), made_up(tiny, 3)])
    accuracies = {"retain_accuracy": np.full(N, 0.8), "test_accuracy": 0.7}
    np.savez(place / "ours.npz", logits=ours, **accuracies)
    np.savez(place / "theirs.npz", logits=theirs, retain_accuracy=0.9, test_accuracy=np.full(2 * N, 0.75))
    np.save(place / "ours.npy", confidences_of(ours, tiny.forget.labels.numpy()))
    save_weights(place / "nets", tiny, "unlearned_checkpoint_{}.pth", 0)
    save_weights(place / "oracle nets", tiny, "oracle_{}.pt", 100)
    grader = Grader(TINY, place / "out", N)
    plan = grader.run_plan(str(place / "mine.py"))
    for folder, identity, logits in (("oracles", grader.oracle_identity, 4), (plan.folder_name, plan.identity, 5)):
        for k, one in enumerate(made_up(tiny, logits)):
            save_record(record_path(grader.folder / folder, k), Record(Evaluation(one, 0.85, 0.75), identity(k), FACTS))
    return place


@pytest.fixture(autouse=True)
def here(without_a_pool, monkeypatch):
    """No processes, and nothing is trained: it is all there, or not needed."""
    monkeypatch.setattr("local_eval.isolation.share_gpu.run_jobs", in_this_process)
    monkeypatch.setattr("local_eval.cli.grading.check_submission", lambda *_: [])
    monkeypatch.setattr(oracle_room, "one_job", lambda *_: pytest.fail("an oracle is trained"))


def graded(made, *arguments, code=0):
    end = ["--task", TINY, "--out", str(made / "out"), "--device", "cpu", "--runs", str(N)]
    words = [str(made / a) if (made / a).exists() else a for a in arguments]
    assert main([words[0], *words[1:], *end]) == code


def score_of(said, start):
    """What is in the score.json that a grading has named, which must lie in a folder that starts so."""
    path = Path(said.partition("written to ")[2].partition("\n")[0])
    assert path.parent.name.startswith(start)
    return read_score(path)


MIXES = {  # arguments of grade, how the score's folder begins, is there a score, and which side was given
    "numbers against oracles": (["ours.npz"], "given-", True, "ours.npz, logits"),
    "numbers, both": (["--unlearned", "ours.npz", "--retrained", "theirs.npz"], "given-", True, "theirs.npz"),
    "confidences": (["ours.npy", "--retrained", "theirs.npz"], "given-", False, "ours.npy, confidences"),
    "a submission": (["mine.py", "--retrained", "theirs.npz"], "mine-", True, "theirs.npz, logits"),
    "weights against oracles": (["nets"], "checkpoints-", True, "nets, weights"),
    "weights, both": (["nets", "--retrained", "oracle nets"], "checkpoints-", True, "oracle nets, weights"),
    "a submission, weights": (["mine.py", "--retrained", "oracle nets"], "mine-", True, "oracle nets"),
    "mixed": (["nets", "--retrained", "theirs.npz"], "checkpoints-", True, "theirs.npz, logits"),
}


@pytest.mark.parametrize("name", MIXES)
def test_any_mix_is_graded_and_says_what_could_not_be_verified(name, made, capsys):
    arguments, folder, known, given = MIXES[name]
    oracles = next((made / "out").glob("tiny-*/oracles"))
    (oracles / ".lock").touch()
    before = {path.name: path.read_bytes() for path in oracles.iterdir()}
    graded(made, "grade", *arguments)
    score = score_of(said := capsys.readouterr().out, folder)
    assert ("-against-" in score["made_from"]["out"]) == ("--retrained" in arguments)
    assert {path.name: path.read_bytes() for path in oracles.iterdir()} == before
    assert (score["score"] is not None) == known and 0 < score["forgetting_quality"] <= 1
    reported = [note for note in score["notes"] if "could not be verified" in note]
    sides = [side for side in ("unlearned", "retrained") if score.get(side)]
    assert [score[side]["unverified"] for side in sides] == reported and given in " ".join(reported)
    assert all(f"note: {note}" in said for note in reported)
    if "--retrained" in arguments:
        assert "never saw the forget set, follow the task's recipe" in reported[-1]
        assert score["made_from"]["retrained"] == score["retrained"]["digest"] in score["made_from"]["out"]
        assert score["oracles"]["retain_accuracy"] == pytest.approx(0.9) or "oracle nets" in arguments
    if not known:
        assert "= score                   unknown  without accuracies there is none" in said
        assert score["score_over_ceiling"] is score["interval"][0] is score["retain_accuracy"] is None
    json.loads(json.dumps(score), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))


def test_numbers_from_files_score_as_from_python(made, tiny):
    ours, theirs = np.load(made / "ours.npz"), np.load(made / "theirs.npz")
    given = {"unlearned": dict(ours), "retrained": made / "theirs.npz"}
    more = {"task": TINY, "out": made / "again", "device": "cpu", "runs": N}
    found = local_eval.grade(**given, **more)
    sides = [local_eval.logit_scaled_confidence(one["logits"], tiny.forget.labels) for one in (ours, theirs)]
    assert found.forgetting_quality == local_eval.forgetting_quality(sides[0], sides[1][:N], order="models, examples")
    assert found.score == pytest.approx(found.forgetting_quality * 0.8 / 0.9 * 0.7 / 0.75)
    alone = local_eval.grade(unlearned=torch.tensor(ours["logits"]), retrained=list(theirs["logits"][:N]), **more)
    assert alone.forgetting_quality == found.forgetting_quality and not alone.is_known
    by_file = local_eval.grade(str(made / "ours.npz"), retrained=str(made / "theirs.npz"), **more)
    assert by_file.score == found.score
    assert not list((made / "again").glob("tiny-*/oracles*")), "no oracle was made or looked for"


def test_given_weights_score_as_oracles_of_the_same_weights(made, tmp_path, capsys):
    shutil.copytree(made, tmp_path / "made")
    made = tmp_path / "made"
    graded(made, "grade", "nets", "--retrained", "oracle nets")
    one = score_of(capsys.readouterr().out, "checkpoints-")
    grader = Grader(TINY, made / "out", N)
    for path in sorted(grader.folder.glob("retrained-*/*.npz")):
        record, _ = record_in(path.read_bytes(), path)
        index = record.identity["index"]
        own = Record(record.evaluation, grader.oracle_identity(index), record.facts)
        save_record(record_path(grader.folder / "oracles", index), own)
    graded(made, "grade", "nets")
    other = score_of(capsys.readouterr().out, "checkpoints-")
    assert one["retrained"] and other["retrained"] is None
    for key in ("score", "epsilons", "interval", "ceiling", "oracles", "beyond"):
        assert one[key] == other[key]


def test_checkpoints_that_were_looked_at_are_not_looked_at_again_unless_they_changed(made, tmp_path, monkeypatch):
    nets, seen = tmp_path / "nets", []
    shutil.copytree(made / "nets", nets)
    shutil.copytree(made / "out", tmp_path / "out", ignore=shutil.ignore_patterns("checkpoints-*"))

    def interrupted(function, argument, indices, *_, **__):
        for index in indices:
            if len(seen) == 5:
                raise KeyboardInterrupt
            seen.append(index)
            yield index, function(argument, index)

    def counted(function, argument, indices, *_, **__):
        seen.extend(indices)
        return ((index, function(argument, index)) for index in indices)

    grader = Grader(TINY, tmp_path / "out", N)
    monkeypatch.setattr("local_eval.isolation.share_gpu.run_jobs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        given_sides.find_given(grader, nets, "unlearned")
    monkeypatch.setattr("local_eval.isolation.share_gpu.run_jobs", counted)
    whole = given_sides.find_given(grader, nets, "unlearned")
    assert seen == list(range(N))
    other, times = nets / checkpoint_name(3), os.stat(nets / checkpoint_name(3))
    shutil.copy(nets / checkpoint_name(7), other)
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = given_sides.find_given(grader, nets, "unlearned")
    assert seen[N:] == [3], "a file of the same size and time, of other content"
    assert (again.records[3].evaluation.forget_logits == whole.records[7].evaluation.forget_logits).all()


def test_a_checkpoint_that_does_not_fit_is_named_and_the_others_are_kept(made, tmp_path, capsys):
    shutil.copytree(made, tmp_path / "made", ignore=shutil.ignore_patterns("retrained-*"))
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "made" / "oracle nets" / "oracle_9.pt")
    graded(tmp_path / "made", "grade", "nets", "--retrained", "oracle nets", code=2)
    assert "oracle nets: oracle_9.pt has missing or foreign keys" in capsys.readouterr().err
    assert len(list((tmp_path / "made" / "out").glob("tiny-*/retrained-*/*.npz"))) == N - 1


REFUSED = [
    (["ours.npz", "--retrained", "ours.npz"], "hold the same models"),
    (["nets", "--retrained", "nets"], "hold the same models"),
    (["mine.py", "--unlearned", "ours.npz"], "stands in place of a submission; leave"),
    (["--unlearned", "nowhere.npz"], "--unlearned nowhere.npz does not exist; give a folder"),
    (["mine.py", "--retrained", "nowhere"], "--retrained nowhere does not exist"),
    (["mine.py", "--retrained", "mine.py"], "neither weights nor numbers"),
    (["mine.py", "--retrained", "theirs.npz", "--originals", "2"], "leave it or --retrained out"),
    (["theirs.npz", "--retrained", "ours.npz"], "holds 16 retrained models, and 32 unlearned ones need as many"),
    (["few.npz", "--retrained", "theirs.npz"], "few.npz holds 15 unlearned models; a score needs 16 or more"),
    (["mine.py", "--retrained", "few.npz"], "few.npz holds 15 retrained models"),
    (["mine.py", "--retrained", "other.npz"], "other.npz: logits have shape (16, 15, 3)"),
    (["ours.npz", "--set", "A=1"], "have no constants"),
]


def test_sides_that_cannot_be_meant_are_refused_before_anything_is_made(made, capsys):
    np.savez(made / "few.npz", logits=np.load(made / "ours.npz")["logits"][:15])
    np.savez(made / "other.npz", logits=np.load(made / "ours.npz")["logits"][:, :15])
    for arguments, reported in REFUSED:
        graded(made, "grade", *arguments, code=2)
        assert "error: " in (said := capsys.readouterr().err) and reported in said, arguments


def side(tiny, logits, role="unlearned", kind="logits", retain=0.9, test=0.8):
    labels = tiny.forget.labels.numpy()
    seen = (Evaluation(one, retain, test, None, own) for one, own in zip(logits, confidences_of(logits, labels)))
    records = tuple(Record(one, {}, {}) for one in seen)
    return given_sides.Given(role, Path("side.npz"), kind, records, "abc")


def test_copies_an_odd_order_and_models_that_saw_the_forget_set_are_told(tiny):
    grader, right = Grader(TINY), np.eye(3)[tiny.forget.labels.numpy()]
    good = made_up(tiny, 1, 3.0)
    sure = (9 * right + np.random.default_rng(0).normal(size=good.shape)).astype(np.float32)
    turned = sure[:, np.random.default_rng(3).permutation(len(right))]

    def reported(*given, **more):
        return " ".join(given_sides.suspicions(side(tiny, *given, **more), grader))

    assert (
        reported(good) == reported(made_up(tiny, 1, -9.0)) == reported(sure, "retrained", retain=1.0, test=0.95) == ""
    )
    assert (
        reported(np.concatenate([good[:-2], good[:2]]))
        == "2 of the 16 unlearned models are copies of others among them"
    )
    assert "are the examples in its order?" in reported(turned, "retrained")
    assert reported(turned, kind="weights") == ""
    assert (
        "are right on 100% of the forget set, 90% of the retain and 80% of the test set: did they see it?"
        in reported(sure, "retrained")
    )
    assert reported(sure) == "", "of unlearned models that is another matter"


def test_sides_whose_examples_do_not_go_together_are_told_and_exchanged_axes_refused(tiny):
    grader, ours, theirs = Grader(TINY), made_up(tiny, 1), made_up(tiny, 2)
    records = [side(tiny, one).records for one in (ours, theirs, theirs[:, ::-1].copy())]

    def together(given, retrained):
        return given_sides._together(given, dict(enumerate(records[0])), list(retrained), grader)

    assert together(side(tiny, ours), records[1]) == ()
    assert "which examples are hard" in together(side(tiny, ours), records[2])[0]
    assert together(side(tiny, ours, kind="weights"), records[2]) == ()
    one, other = (confidences_of(each, tiny.forget.labels.numpy()).T for each in (ours, theirs))
    flat = [
        tuple(Record(Evaluation(np.empty((16, 0), np.float32), np.nan, np.nan, None, row), {}, {}) for row in each)
        for each in (one, other)
    ]
    with pytest.raises(ScoreError, match="the axes seem to be exchanged"):
        given_sides._together(side(tiny, ours, kind="confidences"), dict(enumerate(flat[0])), list(flat[1]), grader)


@pytest.mark.draws
def test_the_page_the_rows_and_the_board_keep_them_apart(made, tmp_path, capsys, monkeypatch):
    from local_eval.cli.grading import report_after_grading

    monkeypatch.setattr("local_eval.cli.grading.report_after_grading", report_after_grading)
    scored = shutil.ignore_patterns("given-*", "*-against-*", "checkpoints-*", "retrained-*", "again")
    made = shutil.copytree(made, tmp_path / "made", ignore=scored)
    graded(made, "grade", "ours.npz", "--retrained", "theirs.npz")
    (page,) = (made / "out").glob("tiny-*/given-*-against-*/report.html")
    text, before = Page(page).text, page.read_bytes()
    for role in ("unlearned", "retrained"):
        assert read_score(page.with_name("score.json"))[role]["unverified"] in text
    assert "grade ours.npz --task tiny_task.py --retrained theirs.npz" in text
    page.unlink()
    end = ["--task", TINY, "--out", str(made / "out"), "--device", "cpu"]
    assert main(["report", str(made / "ours.npz"), *end, "--retrained", str(made / "theirs.npz")]) == 0
    assert page.read_bytes() == before
    graded(made, "score", "mine.py", "--retrained", "theirs.npz")
    graded(made, "score", "mine.py")
    rows = {row["path"]: row for row in local_eval.graded(made / "out")}
    assert sorted((row["unlearned"] or "-", row["retrained"] or "-") for row in rows.values()) == [
        ("-", "-"), ("-", "theirs.npz"), ("ours.npz", "theirs.npz"),
    ]  # fmt: skip
    on_board, left_out, _ = entries(Grader(TINY, made / "out", N))
    assert [row.name for row in on_board] == ["mine"]
    assert any("against retrained models that were given" in one.reason for one in left_out)
    capsys.readouterr()
    graded(made, "grade", "ours.npy", "--retrained", "theirs.npz")
    assert "no report: ScoreError: " in (said := capsys.readouterr().err) and "knows no accuracies" in said
    assert any(row["error"] is None and row["score"] != row["score"] for row in local_eval.graded(made / "out"))


def test_checkpoints_are_looked_at_from_where_a_grading_was_stopped_in_a_folder_and_in_a_zip(made, tiny, monkeypatch):
    look, looked = grade_checkpoints.one_checkpoint, []

    def stopped_after_five(plan, index):
        looked.append(index)
        if len(looked) == 6:
            raise KeyboardInterrupt
        return look(plan, index)

    shutil.make_archive(made / "nets", "zip", made / "nets")
    for given in ("nets", "nets.zip"):
        out = made / f"out of {given}"
        shutil.copytree(made / "out", out, ignore=shutil.ignore_patterns("checkpoints-*", "given-*", "retrained-*"))
        looked.clear()
        monkeypatch.setattr(grade_checkpoints, "one_checkpoint", stopped_after_five)
        with pytest.raises(KeyboardInterrupt):
            grade_given_from(out, made / given)
        assert looked == [0, 1, 2, 3, 4, 5]
        grade_given_from(out, made / given)
        assert looked[6:] == list(range(5, N))


def grade_given_from(out, path):
    return local_eval.grade(path, TINY, N, out, device="cpu")
