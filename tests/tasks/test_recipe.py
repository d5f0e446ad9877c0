"""What a recipe cannot mean is refused when the task loads; what it does not say leaves fingerprints as they were."""

import math
from dataclasses import replace

import pytest
import torch

from local_eval.tasks.loading import load_task, ready
from local_eval.tasks.names import TaskError
from local_eval.tasks.recipe import Recipe
from tests.conftest import TINY

RECIPE = Recipe(epochs=10, lr=0.1, weight_decay=5e-4)
SGD = {"optimizer": "sgd", "momentum": 0.9}
STEPS = {"schedule": "steps", "milestones": (4, 7)}
WRONG = [
    ({"epochs": 0}, "epochs is 0; it must be an integer of 1 or more"),
    ({"epochs": 2.0}, "epochs is 2.0; it must be an integer"),
    ({"epochs": True}, "epochs is True"),
    ({"epochs": "30"}, "epochs is '30'"),
    ({"batch_size": 0}, "batch_size is 0; it must be an integer of 1 or more"),
    ({"batch_size": None}, "batch_size is None"),
    ({"lr": 0}, "lr is 0; it must be a finite number above 0"),
    ({"lr": -0.1}, "lr is -0.1"),
    ({"lr": math.nan}, "lr is nan"),
    ({"lr": math.inf}, "lr is inf"),
    ({"lr": "0.1"}, "lr is '0.1'"),
    ({"lr": torch.tensor(0.1)}, r"lr is tensor\(0.1000\)"),
    ({"weight_decay": -1e-4}, "weight_decay is -0.0001; it must be a finite number of 0 or more"),
    ({"weight_decay": math.nan}, "weight_decay is nan"),
    ({"class_weighted": "yes"}, "class_weighted is 'yes'; it must be True or False"),
    ({"flip": 1}, "flip is 1; it must be True or False"),
    ({"optimizer": "SGD"}, "optimizer is 'SGD', which the recipe does not know; did you mean sgd"),
    ({"optimizer": "lion"}, "optimizer is 'lion'.*there are adam, adamw, sgd"),
    ({"optimizer": torch.optim.SGD}, "optimizer is <class.*there are adam, adamw, sgd"),
    ({"momentum": 0.9}, "momentum 0.9 goes with optimizer='sgd'; adam has its own"),
    ({"optimizer": "adamw", "momentum": 0.9}, "momentum 0.9 goes.*adamw has its own"),
    (SGD | {"momentum": 1.0}, "momentum is 1.0; it must be a number from 0 to below 1"),
    (SGD | {"momentum": -0.1}, "momentum is -0.1"),
    ({"nesterov": True}, "nesterov needs optimizer='sgd' and a momentum"),
    (SGD | {"momentum": 0, "nesterov": True}, "nesterov needs"),
    ({"schedule": "linear"}, "schedule is 'linear'.*there are cosine, constant, steps"),
    ({"schedule": "step"}, "schedule is 'step'.*did you mean steps"),
    ({"schedule": "steps"}, r"schedule 'steps' needs milestones"),
    ({"milestones": (4,)}, "schedule is 'cosine', which has no milestones; leave"),
    ({"gamma": 0.2}, "schedule is 'cosine', which has no gamma"),
    (STEPS | {"milestones": 4}, r"milestones is 4; it must hold epochs, such as \(91, 136\)"),
    (STEPS | {"milestones": (4, "7")}, "it must hold epochs"),
    (STEPS | {"milestones": (7, 4)}, r"milestones are \(7, 4\); give them in rising order"),
    (STEPS | {"milestones": (4, 4)}, "each once"),
    (STEPS | {"milestones": (4, 10)}, "with 10 epochs they must lie in 1 to 9"),
    (STEPS | {"milestones": (0, 4)}, "they must lie in 1 to 9"),
    (STEPS | {"milestones": (2, 4), "warmup": 2}, "they must lie in 3 to 9"),
    (STEPS | {"gamma": 0}, "gamma is 0; it must be a finite number above 0"),
    ({"warmup": 10}, "warmup is 10 of 10 epochs; it must be fewer"),
    ({"warmup": -1}, "warmup is -1; it must be an integer of 0 or more"),
    ({"crop": 16}, "crop is 16, but images have 16x16 pixels"),
    ({"crop": -4}, "crop is -4"),
    ({"crop": 2.5}, "crop is 2.5"),
    ({"clip": 0}, "clip is 0; it must be a finite number above 0"),
    ({"clip": math.inf}, "clip is inf"),
    ({"label_smoothing": 1.0}, "label_smoothing is 1.0; it must be a number from 0 to below 1"),
    ({"label_smoothing": True}, "label_smoothing is True"),
]


@pytest.fixture(scope="module")
def checked(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("task") / "cells.py"
    return lambda **fields: ready(replace(tiny, recipe=replace(RECIPE, **fields)), path, path)


def test_a_recipe_that_means_nothing_is_refused_with_the_value_and_what_to_do(checked):
    for fields, message in WRONG:
        with pytest.raises(TaskError, match=rf"cells.py: the recipe's .*{message}"):
            checked(**fields)


def test_all_that_means_something_is_taken(checked):
    for fields in (
        {}, SGD, SGD | {"nesterov": True}, {"optimizer": "adamw"}, STEPS, STEPS | {"warmup": 2, "gamma": 1.5},
        STEPS | {"milestones": [4, 7]}, {"schedule": "constant", "warmup": 9}, {"flip": True, "crop": 15}, {"clip": 1},
        {"label_smoothing": 0.1}, {"weight_decay": 0, "lr": 1}, {"epochs": 1},
    ):  # fmt: skip
        assert checked(**fields).recipe == replace(RECIPE, **fields)


def test_something_else_than_a_recipe_is_refused(tiny, tmp_path):
    with pytest.raises(TaskError, match="recipe is a dict; give Recipe"):
        ready(replace(tiny, recipe={"epochs": 3}), tmp_path / "cells.py", tmp_path / "cells.py")


def test_fingerprints_of_tasks_that_say_nothing_new_are_what_they_were(digits, small):
    for task, known in ((digits, "29630a5b7b32"), (small, "3e7e49d806eb")):
        assert task.fingerprint() == known
        assert list(task.recipe.facts()) == ["epochs", "lr", "weight_decay", "batch_size", "class_weighted"]


def test_every_field_that_changes_what_is_trained_changes_the_fingerprint(tiny):
    changes = [
        {}, {"optimizer": "adamw"}, {"optimizer": "sgd"}, SGD, SGD | {"nesterov": True}, {"schedule": "constant"},
        STEPS, STEPS | {"milestones": (4,)}, STEPS | {"gamma": 0.5}, {"warmup": 1}, {"flip": True}, {"crop": 1},
        {"crop": 2},
        {"clip": 1.0}, {"clip": 2.0}, {"label_smoothing": 0.1},
    ]  # fmt: skip
    found = [replace(tiny, recipe=replace(RECIPE, **fields)).fingerprint() for fields in changes]
    assert len(set(found)) == len(found)
    listed = replace(tiny, recipe=replace(RECIPE, **STEPS | {"milestones": [4, 7]}))
    assert listed.fingerprint() == found[6], "a list says the same as a tuple"


def test_a_recipe_in_words_names_what_is_not_usual():
    assert RECIPE.in_words() == "10 epochs, batches of 64, learning rate 0.1"
    text = replace(RECIPE, **SGD, flip=True, crop=4).in_words()
    assert text.endswith(", sgd, momentum 0.9, flip, crop 4")
    assert load_task(TINY).recipe.in_words().startswith("1 epochs")
