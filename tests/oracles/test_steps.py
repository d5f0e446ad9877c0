"""Every optimiser, schedule and augmentation does what its name says, and stacked networks take the same steps."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from local_eval.oracles.train import (
    learning_rates,
    make_optimizer,
    shorten,
    shown_orders,
    train,
    training_steps,
    viewed,
)
from local_eval.oracles.train_many import Bundle, GraphBundle, Layout, Trainer
from local_eval.tasks.recipe import Recipe

PLAIN = Recipe(epochs=3, lr=0.01, weight_decay=1e-2, batch_size=40)
RECIPES = {
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
    "sgd": {"optimizer": "sgd"},
    "momentum": {"optimizer": "sgd", "momentum": 0.9, "schedule": "constant"},
    "nesterov": {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "schedule": "steps", "milestones": (1, 2)},
    "warm-up": {"warmup": 2, "flip": True},
    "views": {"flip": True, "crop": 2},
    "clip": {"optimizer": "sgd", "clip": 0.05, "crop": 1},
    "smooth": {"label_smoothing": 0.2, "schedule": "steps", "milestones": (2,), "gamma": 0.5, "class_weighted": False},
    "smooth and weighted": {"label_smoothing": 0.2, "clip": 0.5},
}


class Small(nn.Module):
    """Convolution, batch norm, linear: what is stacked, in milliseconds."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(2), nn.Linear(16, 3)

    def forward(self, x):
        return self.fc(self.pool(F.relu(self.norm(self.conv(x / 255)))).flatten(1))


def with_recipe(task, **fields):
    return replace(task, make_net=Small, recipe=replace(PLAIN, **fields))


@pytest.mark.parametrize("name", RECIPES)
def test_stacked_networks_take_the_plain_loops_steps_in_float64(tiny, name):
    task = with_recipe(tiny, **RECIPES[name])
    bundle = Bundle(task, task.retain, [3, 4, 5], torch.float64)
    plain = zip(*(training_steps(task, task.retain, seed, torch.float64) for seed in (3, 4, 5)))
    taken = 0
    for _, alone in zip(bundle.steps(), plain, strict=True):
        taken += 1
        for net, one in zip(bundle.finish(), alone, strict=True):
            for key, value in one.state_dict().items():
                if "num_batches" not in key:
                    assert torch.allclose(net.state_dict()[key], value, rtol=1e-9, atol=1e-11), (key, taken)
    assert taken == 9
    usual = list(training_steps(with_recipe(tiny), task.retain, 3, torch.float64))[-1]
    assert not torch.allclose(usual.fc.weight, alone[0].fc.weight, rtol=1e-3), "the recipe makes a difference"


def test_learning_rates_are_those_of_the_formula():
    def rate(recipe, epoch):
        if epoch < recipe.warmup:
            return recipe.lr * (epoch + 1) / (recipe.warmup + 1)
        if recipe.schedule == "cosine":
            done = (epoch - recipe.warmup) / (recipe.epochs - recipe.warmup)
            return recipe.lr * 0.5 * (1 + math.cos(math.pi * done))
        passed = [m for m in recipe.milestones if m <= epoch]
        return recipe.lr * recipe.gamma ** len(passed)

    for recipe in (PLAIN, *(replace(PLAIN, **fields) for fields in RECIPES.values())):
        expected = [rate(recipe, epoch) for epoch in range(recipe.epochs)]
        assert learning_rates(recipe) == pytest.approx(expected, rel=1e-12), recipe


def by_hand(image, view, recipe):
    """One image after the other: move it over black, pixel by pixel, then turn it round."""
    side, padded = 2 * recipe.crop + 1, torch.zeros_like(image)
    down, along = view % side - recipe.crop, view // side % side - recipe.crop
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            if 0 <= y + down < image.shape[1] and 0 <= x + along < image.shape[2]:
                padded[:, y, x] = image[:, y + down, x + along]
    return padded.flip(2) if view >= side * side else padded


def test_a_view_is_a_shifted_and_mirrored_image():
    images = torch.randint(1, 256, (1, 3, 5, 6), dtype=torch.uint8)
    for flip, crop, count in ((True, 0, 2), (False, 2, 25), (True, 3, 98), (False, 0, 1)):
        recipe = replace(PLAIN, flip=flip, crop=crop)
        views = torch.arange(recipe.views)
        found = viewed(images.expand(len(views), -1, -1, -1), views, recipe)
        assert torch.equal(found, torch.stack([by_hand(images[0], int(view), recipe) for view in views]))
        assert len({one.numpy().tobytes() for one in found}) == recipe.views == count


def test_orders_are_the_same_with_and_without_views_and_views_are_drawn_evenly():
    orders, shown = (shown_orders(replace(PLAIN, epochs=40, crop=c), 500, seed=7) for c in (0, 1))
    assert torch.equal(orders, shown % 500)
    counts = torch.bincount((shown // 500).flatten(), minlength=9)
    assert counts.min() > 20000 / 9 * 0.9
    assert not torch.equal(shown, shown_orders(replace(PLAIN, epochs=40, crop=1), 500, seed=8))
    assert not torch.equal(shown[0] // 500, shown[1] // 500), "an example is shown otherwise in every epoch"
    mirrored = shown_orders(replace(PLAIN, epochs=40, flip=True), 500, seed=7) // 500
    assert 0.45 < mirrored.double().mean() < 0.55, "where images are only mirrored, half of them are"


def test_a_long_gradient_is_shortened_network_by_network_as_torch_does():
    nets = [nn.Linear(5, 2) for _ in range(3)]
    for scale, net in zip((0.1, 1.0, 10.0), nets):
        net(torch.ones(4, 5)).square().mean().mul(scale).backward()
    stacked = [torch.cat([getattr(net, name).grad for net in nets]) for name in ("weight", "bias")]
    shorten(stacked, 0.5, networks=3)
    norms = [float(nn.utils.clip_grad_norm_(net.parameters(), 0.5)) for net in nets]
    assert min(norms) < 0.5 < max(norms)
    for name, together in zip(("weight", "bias"), stacked):
        assert torch.allclose(together, torch.cat([getattr(net, name).grad for net in nets]), rtol=1e-5)


def test_which_networks_are_trained_together_changes_none_of_them(tiny):
    task = with_recipe(tiny, **RECIPES["views"])
    images = task.forget.pixels(slice(0, 8))
    alone = [train(task, task.retain, seed)(images) for seed in (1, 2, 3)]
    for networks in (1, 2, 4):
        for net, expected in zip(Trainer(task, task.retain, Layout(networks)).train([1, 2, 3]), alone, strict=True):
            assert torch.allclose(net(images), expected, rtol=1e-3, atol=1e-4)


def test_the_optimisers_are_torchs_own():
    kinds = {name: type(make_optimizer([torch.zeros(1)], replace(PLAIN, optimizer=name), 0.1)) for name in OPTIMIZERS}
    assert kinds == OPTIMIZERS
    sgd = make_optimizer([torch.zeros(1)], replace(PLAIN, **RECIPES["nesterov"]), 0.1).param_groups[0]
    assert (sgd["momentum"], sgd["nesterov"], sgd["weight_decay"], sgd["lr"]) == (0.9, True, 1e-2, 0.1)


OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


@pytest.mark.gpu
@pytest.mark.parametrize("name", RECIPES)
def test_replayed_steps_are_the_plain_ones(tiny, name):
    task = with_recipe(tiny, **RECIPES[name] | {"epochs": 6}).to("cuda")
    graph, plain = GraphBundle(task, task.retain, [3, 4]), Bundle(task, task.retain, [3, 4])
    for _ in zip(graph.steps(), plain.steps()):
        pass
    for one, other in zip(graph.finish(), plain.finish()):
        assert torch.allclose(one.fc.weight, other.fc.weight, rtol=1e-3, atol=1e-4)
