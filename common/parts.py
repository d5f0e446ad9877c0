"""Parts of a network and of the data that a method works on: weights that matter, the last layers, sets that are mixed.

Each is used by two methods: importances by SSD and SFR-on, the last layers by CF-k and EU-k, mixed sets by Bad Teacher
and LoTUS.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset

from common.loaders import image_shape, shuffled
from common.roles import CONVOLUTIONS, RoleError, find_roles, is_in, is_matrix, learning, norms
from common.training import inputs

WHOLE = (nn.Linear, nn.MultiheadAttention, *CONVOLUTIONS)  # layers, whatever modules they may have inside


def squared_gradients(net: nn.Module, loader: DataLoader) -> dict[str, Tensor]:
    """Mean over the batches of (gradient of a batch's mean cross-entropy)^2, for every parameter that learns, by name.

    The net is in eval mode, and left so, without gradients. Source: the importance of SSD, which SFR-on takes for the
    diagonal of the Fisher information; of batches in the code of both, of single examples in SSD's paper.
    """
    parameters = learning(net)
    found = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    net.eval()
    for batch in loader:
        images, targets = inputs(batch, net)
        net.zero_grad()
        F.cross_entropy(net(images), targets).backward()
        for name, parameter in parameters.items():
            if parameter.grad is not None:  # of an auxiliary head there is none: it takes no part in the outputs
                found[name] += parameter.grad**2 / len(loader)
    net.zero_grad()
    return found


def last_layers(net: nn.Module, loader: DataLoader, count: int) -> list[str]:
    """Names of the last `count` layers with a weight matrix, and of the norms between and behind them, first to last.

    The order is that in which an image meets them, so six are `layer4` and `fc` of a torchvision resnet18. Several
    heads come together. A parameter that belongs to no such layer, as position embeddings, is in none of them.
    Args:
        loader: of images of the size that the network sees.
    Raises:
        RoleError: nothing in these layers learns, or the network's last layer cannot be told.
    """
    heads = find_roles(net, loader).heads
    order = _layers_in_order(net, image_shape(loader))
    weighted = [name for name in order if any(map(is_matrix, net.get_submodule(name).parameters()))]
    first = min(order.index(name) for name in (weighted[-count:][0], *heads) if name in order)
    chosen = order[first:]
    if not any(is_in(name, chosen) for name in learning(net)):
        raise RoleError(f"the method trains the last {count} layers, where nothing learns (requires_grad is False)")
    return chosen


def _layers_in_order(net: nn.Module, shape: tuple[int, ...]) -> list[str]:
    """The layers with parameters that two images [C, H, W] meet, by their last call; a copy of the net is asked."""
    twin, order, around = copy.deepcopy(net).eval(), [], []

    def enters(name: str) -> None:
        for other in (name, *around[-1:]):  # what has layers inside is none
            if other in order:
                order.remove(other)
        order.append(name)
        around.append(name)

    whole = [name for name, module in twin.named_modules() if isinstance(module, WHOLE)]
    for name, module in twin.named_modules():
        if any(True for _ in module.parameters()) and not (is_in(name, whole) and name not in whole):
            module.register_forward_pre_hook(lambda *_, name=name: enters(name))
            module.register_forward_hook(lambda *_: around.pop() and None)
    first = next(twin.parameters())
    with torch.no_grad():
        twin(torch.zeros(2, *shape, device=first.device, dtype=first.dtype))
    return order


@contextlib.contextmanager
def only_learning(net: nn.Module, layers: Iterable[str]) -> Iterator[list[nn.Parameter]]:
    """Within, only these layers learn, and the norms of all others keep their statistics; gives what learns.

    The net is in train mode within and in eval mode afterwards, when all learns again that did.
    """
    layers, parameters = list(layers), learning(net)
    net.train()
    for name in norms(net):
        net.get_submodule(name).train(is_in(f"{name}.", layers))
    for name, parameter in parameters.items():
        parameter.requires_grad_(is_in(name, layers))
    try:
        yield [parameter for name, parameter in parameters.items() if is_in(name, layers)]
    finally:
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        net.eval()


def clipped_epoch(
    net: nn.Module, loader: DataLoader, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], norm: float
) -> None:
    """One pass over a loader with cross-entropy; each step's gradient is shortened to `norm`. Source: CF-k and EU-k."""
    for batch in loader:
        images, targets = inputs(batch, net)
        optimizer.zero_grad()
        F.cross_entropy(net(images), targets).backward()
        nn.utils.clip_grad_norm_(parameters, norm)
        optimizer.step()


class Marked(Dataset):
    """The examples of a forget set and then others; each says with `forget` (1 or 0) which of the two it is."""

    def __init__(self, forget: Dataset, others: Dataset):
        self.forget, self.others = forget, others

    def __len__(self) -> int:
        return len(self.forget) + len(self.others)

    def __getitem__(self, index: int) -> dict:
        beyond = index - len(self.forget)
        example = self.others[beyond] if beyond >= 0 else self.forget[index]
        return {**example, "forget": int(beyond < 0)}


def mixed(forget_loader: DataLoader, retain_loader: DataLoader, share: float, batch_size: int) -> DataLoader:
    """A shuffled loader of the forget set and a share of the retain set, drawn now; examples are Marked.

    Source: Bad Teacher, share 0.3; LoTUS took it over.
    """
    retain = retain_loader.dataset
    chosen = torch.randperm(len(retain))[: int(share * len(retain))].tolist()
    return shuffled(Marked(forget_loader.dataset, Subset(retain, chosen)), batch_size)
