"""Train one network by the task's recipe or by its own function: the readable loop, and what its steps are made of.

The recipe is the organisers' unless the task says more: Adam with coupled weight decay, cosine per epoch,
class-weighted cross-entropy, no augmentation, last-epoch weights. Everything random depends on `seed` alone: the
initial weights, the order of the examples, how each is shown, and what the network draws in training. This loop is the
readable one; `train_many.py` takes the same steps for many networks at once.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from local_eval.isolation.device import exact_convolutions, seeded
from local_eval.tasks.evaluate import initial_net
from local_eval.tasks.names import TaskError
from local_eval.tasks.own_code import Coded
from local_eval.tasks.recipe import Recipe
from local_eval.tasks.task import Split, Task

# What a step of the recipe is made of: optimiser, learning rates, views of images, short gradients.
#
# The plain loop (train.py) and the bundle of stacked networks (train_many.py) share it, so that both follow one recipe.


OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def make_optimizer(parameters: Iterable[Tensor], recipe: Recipe, lr: float | Tensor, **how) -> torch.optim.Optimizer:
    """The recipe's. All of them work element by element, so one serves stacked networks.

    Args:
        lr: a number, or a tensor where steps are recorded as a graph.
        how: of torch's optimiser, such as fused=True; what only Adam knows is left out of SGD's.
    """
    if recipe.optimizer == "sgd":
        how = {name: value for name, value in how.items() if name != "capturable"} | {
            "momentum": recipe.momentum,
            "nesterov": recipe.nesterov,
        }
    return OPTIMIZERS[recipe.optimizer](parameters, lr, weight_decay=recipe.weight_decay, **how)


def make_scheduler(optimizer: torch.optim.Optimizer, recipe: Recipe) -> torch.optim.lr_scheduler.LRScheduler:
    """The recipe's learning rates, for a scheduler that takes a step after every epoch."""
    if recipe.schedule == "cosine" and not recipe.warmup:  # torch's own, whose last bits shipped oracles have
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=recipe.epochs)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, recipe.rate)


def learning_rates(recipe: Recipe) -> list[float]:
    """The learning rate of every epoch, as torch's own scheduler gives it."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=recipe.lr)
    scheduler = make_scheduler(optimizer, recipe)
    rates = []
    for _ in range(recipe.epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def epoch_orders(examples: int, epochs: int, seed: int) -> Tensor:
    """int64 [epochs, examples]: the order in which the network of this seed sees the examples, epoch by epoch."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(examples, generator=generator) for _ in range(epochs)])


def shown_orders(recipe: Recipe, examples: int, seed: int) -> Tensor:
    """int64 [epochs, examples]: what the network of this seed sees, as example + examples * view.

    The view, one of `recipe.views`, says how an image is shifted and whether it is mirrored. It is drawn from the seed
    alone, by a generator of its own, so that orders are the same with and without it.
    """
    orders = epoch_orders(examples, recipe.epochs, seed)
    if recipe.views == 1:
        return orders
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, 1]).generate_state(1)[0]))
    return orders + examples * torch.randint(recipe.views, orders.shape, generator=generator)


def viewed(raw: Tensor, view: Tensor, recipe: Recipe) -> Tensor:
    """The images [k, C, H, W], of any type, each as its view [k] shows it: shifted over black, then mirrored or not."""
    if recipe.views == 1:
        return raw
    side, (height, width) = 2 * recipe.crop + 1, raw.shape[2:]
    down, along = view % side, view // side % side
    rows = down[:, None] + torch.arange(height, device=raw.device)
    columns = along[:, None] + torch.arange(width, device=raw.device)
    columns = torch.where((view // side**2 == 1)[:, None], columns.flip(1), columns)
    around = F.pad(raw, [recipe.crop] * 4)
    image = torch.arange(len(raw), device=raw.device)[:, None, None]
    return around[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def shorten(gradients: list[Tensor], longest: float, networks: int = 1) -> None:
    """Scale each network's gradient, in place, to a norm of at most `longest`, as torch's clip_grad_norm_ does.

    Args:
        gradients: of the parameters; of stacked networks, these lie one after the other along the first axis.
    """
    of_each = [gradient.reshape(networks, -1) for gradient in gradients]
    norms = torch.stack([part.square().sum(dim=1) for part in of_each]).sum(dim=0).sqrt()
    factors = (longest / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.repeat_interleave(len(gradient) // networks).view(-1, *[1] * (gradient.ndim - 1)))


# A task's own way to train, `Task.train(net, loader, seed)`, in place of the recipe's loop: one network at a time.
#
# The network is the initial one of this seed, in train mode, on the device of the work. The loader gives what
# submissions get: shuffled batches as dicts of tensors on that device, `image` (float32, as the network sees it),
# `age_group` (the class), `image_id`, `age`, `person_id`; its batch size is the recipe's. torch, numpy and random
# start from the seed, so a function that draws from them trains each network the same way every time. It trains the
# network in place, or returns the trained one, of the same structure.


class Rows(Dataset):
    """A split as the competition's data set: examples are dicts. Every access makes fresh tensors."""

    def __init__(self, split: Split):
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict:
        (row,) = self.__getitems__([range(len(self))[index]])  # IndexError past the end, where a loop stops
        return {name: value if name == "image" else value.item() for name, value in row.items()}

    def __getitems__(self, indices: list[int]) -> list[dict[str, Tensor]]:
        """Several at once, cut out of the split in one piece; the loader puts them together again."""
        index, split = torch.tensor(indices, device=self.split.images.device), self.split
        columns = {"image": split.pixels(index), "image_id": split.image_id[index], "age_group": split.labels[index]}
        columns |= {"age": split.age[index], "person_id": split.person_id[index]}
        return [dict(zip(columns, row)) for row in zip(*columns.values())]


def loader_of(examples: Split, batch_size: int, seed: int) -> DataLoader:
    """Shuffled batches of a split, in orders that depend on the seed alone."""
    order = torch.Generator().manual_seed(seed)
    return DataLoader(Rows(examples), batch_size=batch_size, shuffle=True, generator=order)


def trained_by_own(task: Task, examples: Split, seed: int) -> nn.Module:
    """Train a fresh network on `examples` by the task's own function; returns it in eval mode.

    Raises:
        TaskError: the function fails, or gives something else than a trained network of the task.
    """
    device = examples.images.device
    net = initial_net(task, seed).to(device).train()
    shapes = _shapes(net)
    with exact_convolutions(same_shapes=True), seeded(seed, device):
        try:
            found = task.train(net, loader_of(examples, task.recipe.batch_size, seed), seed)
        except Exception as error:  # whatever the owner's code raises
            raise TaskError(f"Task.train failed{_place(error, task)}: {type(error).__name__}: {error}") from error
    net = net if found is None else found
    if not isinstance(net, nn.Module):
        raise TaskError(f"Task.train returned a {type(found).__name__}; let it return the trained network, or nothing")
    if _shapes(net) != shapes:
        raise TaskError("Task.train gave a network of another structure; its state dict must have the same entries")
    return net.to(device).eval()


def _shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in net.state_dict().items()}


def _place(error: Exception, task: Task) -> str:
    """' (cells.py, line 40)': the deepest line of the owner's file in a traceback."""
    function = task.train.function if isinstance(task.train, Coded) else task.train
    file = getattr(getattr(inspect.unwrap(function), "__code__", None), "co_filename", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" ({file}, line {lines[-1]})" if lines else ""


def train(task: Task, examples: Split, seed: int, stepped: Callable[[], None] = lambda: None) -> nn.Module:
    """Train a fresh network on `examples`, which may lie on any device; returns it in eval mode.

    `stepped` is called with each step.
    What the network draws while it trains (dropout) starts from `seed` too.
    """
    with exact_convolutions(same_shapes=True), seeded(seed, examples.images.device):
        for net in training_steps(task, examples, seed):  # noqa: B007
            stepped()
    return net.eval()


def training_steps(task: Task, examples: Split, seed: int, dtype: torch.dtype = torch.float32) -> Iterator[nn.Module]:
    """Yield the network, in train mode, after every step of the recipe.

    A network with dropout draws from the generators as they are; `train` starts them from the seed.
    """
    recipe, device = task.recipe, examples.images.device
    net = initial_net(task, seed).to(device, dtype).train()
    weights = task.class_weights()
    weights = None if weights is None else weights.to(device, dtype)
    optimizer = make_optimizer(net.parameters(), recipe, recipe.lr)
    scheduler = make_scheduler(optimizer, recipe)
    for order in shown_orders(recipe, len(examples), seed).to(device):
        for shown in order.split(recipe.batch_size):
            batch, view = shown % len(examples), shown // len(examples)
            images = examples.seen(viewed(examples.images[batch], view, recipe)).to(dtype)
            labels = examples.labels[batch]
            loss = F.cross_entropy(net(images), labels, weight=weights, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            if recipe.clip is not None:
                nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
            optimizer.step()
            yield net
        scheduler.step()
