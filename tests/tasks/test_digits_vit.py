"""The fine-tuned transformer starts from weights that never saw its data; each model has a last layer of its own."""

from dataclasses import replace

import torch

from local_eval.oracles.train import train
from local_eval.tasks import digits_vit
from local_eval.tasks.digits import load
from local_eval.tasks.evaluate import evaluate, initial_net
from local_eval.tasks.loading import load_task


def test_the_start_learned_from_other_images_than_the_task_holds():
    task, (other, _) = load_task("digits_vit"), digits_vit.half(low=False)
    images = torch.cat([split.images for split in task.splits.values()])
    assert len(images) + len(other) == len(load()[0])
    assert task.forget.labels.max() <= 1 and len(task.forget) == digits_vit.FORGET


def test_nets_of_two_seeds_differ_in_the_last_layer_alone():
    task = load_task("digits_vit")
    one, other = (initial_net(task, seed).state_dict() for seed in (0, 1))
    assert {name for name in one if not one[name].equal(other[name])} == {"heads.head.weight", "heads.head.bias"}


def test_the_start_is_worth_more_than_as_many_epochs_from_scratch():
    task = load_task("digits_vit")
    short = replace(task, recipe=replace(task.recipe, epochs=3))
    tuned = evaluate(train(short, task.retain, 0), task).test_accuracy
    assert tuned > evaluate(train(replace(short, make_net=digits_vit.small_vit), task.retain, 0), task).test_accuracy
