"""The competition's own faces, for those who hold them: CASIA-SURF as the official code reads it, or Kaggle's files.

    python -m local_eval grade fanchuan --task faces --data-dir DIR             or --task faces:DIR

Nothing is downloaded: the images are given out under a licence only. Decoded pixels are kept in the cache folder that
local_eval/tasks/data/images.py names. DIR has one of two layouts. CASIA-SURF, as the organisers' grader reads it:

    Age_Gender.txt                                   a line a person: ID AGE GENDER
    WBackground/<part>/<ID>/real.rssdk/color/*.jpg

Kaggle, the input folder of the competition's notebooks, with the original model that is to unlearn:

    retain.csv, forget.csv, validation.csv           columns image_id ("12-3"), age_group, age, person_id
    images/<person>/<n>.png                          12-3 is images/12/3.png
    original_model.pth, age_class_weights.json       state dict of a resnet18; {age_group: images} of its training

Kaggle gave no test set. If there is a test.csv it is used; else validation.csv is halved, whole persons at a time and
the same way every time, into a validation and a test set. Network, recipe, class weights and raw pixels are official.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torchvision.models import resnet18

from local_eval.tasks.data import casia as faces_casia
from local_eval.tasks.data import kaggle as faces_kaggle
from local_eval.tasks.names import TaskError
from local_eval.tasks.recipe import Recipe
from local_eval.tasks.task import Task

RECIPE = Recipe(epochs=30, lr=1e-4, weight_decay=5e-3, batch_size=64, class_weighted=True)


def task(where: Path) -> Task:
    """Point it at a folder with Age_Gender.txt and WBackground, or with Kaggle's retain.csv, images and so on."""
    net = partial(resnet18, num_classes=10)
    if (where / faces_casia.PEOPLE).is_file():
        return Task("faces", net, recipe=RECIPE, **faces_casia.splits(where))
    if (where / "retain.csv").is_file():
        state, counts = faces_kaggle.original(where, net()), faces_kaggle.class_counts(where)
        return Task("faces", net, recipe=RECIPE, original=state, class_counts=counts, **faces_kaggle.splits(where))
    raise TaskError(
        f"no faces in {where}: it needs {faces_casia.PEOPLE} and WBackground/ (CASIA-SURF), or retain.csv, "
        "forget.csv, validation.csv, images/, original_model.pth and age_class_weights.json (Kaggle)"
    )
