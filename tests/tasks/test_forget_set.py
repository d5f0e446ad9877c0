"""Another forget set: the same training examples, divided otherwise; and who is memorised."""

import numpy as np
import pytest
import torch

from local_eval.grader import Grader
from local_eval.memorised import forget_file, ranked
from local_eval.store.errors import InputError
from local_eval.tasks.forget_set import with_forget_set
from local_eval.tasks.loading import load_task
from local_eval.tasks.names import TaskError, files_of, option_words, whole_paths, with_changes
from tests.conftest import TINY


def ids(split):
    return set(split.image_id.tolist())


@pytest.fixture
def listed(tmp_path):
    """listed(text): a file with it."""

    def write(text):
        (tmp_path / "ids.csv").write_text(text)
        return str(tmp_path / "ids.csv")

    return write


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        ("class:1", lambda s: s.labels == 1),
        ("person:3", lambda s: s.person_id == 3),
        ("person:3, 25", lambda s: (s.person_id == 3) | (s.person_id == 25)),
        ("5\n97\n", lambda s: (s.image_id == 5) | (s.image_id == 97)),
        ("\ufeffImage_ID,why\n5,a\n\n97,b\n", lambda s: (s.image_id == 5) | (s.image_id == 97)),
        ("note,person_id\nx,3\ny,3\n", lambda s: s.person_id == 3),
    ],
)
def test_what_is_chosen_leaves_and_what_is_not_goes_back(tiny, listed, choice, chosen):
    training = tiny.retain + tiny.forget
    made = with_forget_set(tiny, listed(choice) if "\n" in choice else choice)
    assert ids(made.forget) == ids(training[chosen(training)]) and ids(made.forget)
    assert ids(made.retain) == ids(training) - ids(made.forget) and len(made.retain) + len(made.forget) == len(training)
    assert made.oracles is None and made.original is tiny.original and made.fingerprint() != tiny.fingerprint()
    assert made.test is tiny.test and made.validation is tiny.validation


def test_a_drawn_set_has_as_many_persons_of_each_class_and_depends_on_the_seed_alone(tiny):
    def classes(task):
        first = [task.forget.labels[task.forget.person_id == one][0] for one in task.forget.person_id.unique()]
        return sorted(int(label) for label in first)

    one, again, other = (with_forget_set(tiny, f"random:{seed}") for seed in ("7", "007", "8"))
    assert ids(one.forget) == ids(again.forget) != ids(other.forget)
    assert classes(one) == classes(other)
    assert sorted(one.forget.person_id.unique().tolist()) == [5, 6, 11, 13]  # on every machine


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ("class:9", "no such class"),
        ("class:", "no such class"),
        ("class:-1", "no such class"),
        ("person:x", "give numbers of persons"),
        ("person:", "give numbers of persons"),
        ("person:9999", "9999: not in the task"),
        ("person:30", "30: of the validation or test set"),
        ("random:", "give a seed"),
        ("random:-1", "give a seed"),
        ("clas:3", "did you mean class:...?"),
        ("vulnerable", "measured first"),
        ("nowhere.csv", "no such file"),
        ("", "no such file"),
        ("5\nfive\n", "row 2: 'five'"),
        ("label,image\n3,4\n", "row 1: 'label'"),
        ("image_id,why\n5,a\n,b\n", "row 3: ''"),
        ("\n", "chooses none"),
        ("image_id\n", "chooses none"),
        ("\n".join(map(str, range(112))), "chooses all"),
        ("5\n130\n", "130: of the validation or test set"),
    ],
)
def test_what_cannot_be_chosen_is_refused_with_what_to_do(tiny, listed, choice, says):
    with pytest.raises(TaskError) as refused:
        with_forget_set(tiny, listed(choice) if "\n" in choice else choice)
    assert says in str(refused.value) and "--forget" in str(refused.value) or choice == "vulnerable"


def test_a_choice_travels_in_the_spec_and_its_file_with_a_whole_path(listed, tmp_path, monkeypatch):
    listed("person_id\n3\n")
    monkeypatch.chdir(tmp_path)
    spec = with_changes(TINY, whole_paths({"forget": "ids.csv"}))
    assert [str(path) for path in files_of(spec)] == [str(tmp_path / "ids.csv")]
    assert option_words(spec) == ["--forget", "ids.csv"] and option_words(spec, whole=True)[1] == str(
        tmp_path / "ids.csv"
    )
    assert set(load_task(spec).forget.person_id.tolist()) == {3}
    assert option_words(with_changes(TINY, whole_paths({"forget": "class:1"}))) == ["--forget", "class:1"]
    with pytest.raises(TaskError, match="did you mean vulnerable"):
        whole_paths({"forget": "vulnerabel"})


def test_persons_are_ranked_by_what_only_models_that_saw_them_know():
    """Person 1 is known by those alone that saw it; 0 by all; 2 by none, but those that saw it are surer."""
    labels, persons = np.array([0, 0, 0, 0]), np.array([0, 1, 1, 2])
    right, wrong, unsure = [4.0, 0.0], [0.0, 4.0], [0.0, 1.0]
    inside = np.array([[right, right, right, unsure]] * 3)
    outside = np.array([[right, wrong, wrong, wrong], [right, wrong, right, wrong]])
    found = ranked(inside, outside, labels, persons)
    assert found.persons.tolist() == [1, 2, 0]
    assert found.memorisation.tolist() == [0.75, 0.0, 0.0]
    assert found.shift == pytest.approx([(8 + 4) / 2, 3.0, 0.0], abs=1e-3)
    assert [found.persons[found.chosen(kind)].tolist() for kind in ("vulnerable", "protected", "mixed")] == [
        [1, 2],
        [0],
        [1, 0],
    ]


def test_who_is_memorised_is_measured_once_and_graded_as_a_task_of_its_own(tmp_path):
    grader = Grader(TINY, tmp_path, runs=16, workers=2)
    with pytest.raises(InputError, match="measured with 16 oracles, and 0 are there"):
        forget_file(TINY, tmp_path, "vulnerable")
    grader.finish_oracles()
    path = forget_file(TINY, tmp_path, "vulnerable")
    parts = [forget_file(TINY, tmp_path, kind) for kind in ("vulnerable", "protected")]
    first, second = (load_task(with_changes(TINY, {"forget": str(part)})).forget.person_id for part in parts)
    assert set(first.tolist()) | set(second.tolist()) == set(grader.task.forget.person_id.tolist())
    assert not set(first.tolist()) & set(second.tolist())
    path.write_text("person_id\n3\n")  # somebody's own choice stays
    assert forget_file(TINY, tmp_path, "vulnerable").read_text() == "person_id\n3\n"
    with pytest.raises(InputError, match="two forget sets"):
        forget_file(with_changes(TINY, {"forget": "class:1"}), tmp_path, "mixed")
    oracles = Grader(with_changes(TINY, {"forget": str(path)}), tmp_path, runs=16, workers=2).finish_oracles()
    assert len(oracles) == 16 and oracles[0].evaluation.forget_logits.shape == (4, 3)
    assert torch.isfinite(torch.tensor(oracles[0].evaluation.forget_logits)).all()
