"""Draw a task's untrained network, and measure a network as the grader does."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from local_eval.isolation.device import exact_convolutions, seeded
from local_eval.store.records import SPLITS, Controls, Evaluation
from local_eval.tasks.task import Split, Task

CONTROLLED = ("retain", "test")  # of which a sample of logits is kept
CONTROLS = 256  # examples of each: 20 kB a model with ten classes


def initial_net(task: Task, seed: int) -> nn.Module:
    """The untrained network of this seed, drawn on the CPU so that every device starts from the same weights.

    Of a task with pretrained weights to start from, those; what they leave out, such as the head, is drawn.
    """
    with seeded(seed):
        net = task.make_net()
    if task.start is not None:
        net.load_state_dict(task.start, strict=False)
    return net


def evaluate(net: nn.Module, task: Task, batch_size: int | None = None) -> Evaluation:
    """Measure a network, in eval mode and float32, on all four sets.

    What a network draws in eval mode, if it does, is the same for all: a measurement depends on the weights alone.
    """
    net.eval()
    batch_size = batch_size or large_batch(task.forget)
    # confidences near 30 need all of float32
    with exact_convolutions(), seeded(0, task.forget.images.device):
        logits = {name: predict(net, split, batch_size) for name, split in task.splits.items()}
    sample = {name: logits[name][control_sample(len(logits[name])).to(logits[name].device)] for name in CONTROLLED}
    right = torch.stack([right_by_class(logits[name], task.splits[name].labels, task.num_classes) for name in SPLITS])
    return Evaluation(
        forget_logits=logits["forget"].cpu().numpy(),
        retain_accuracy=accuracy(logits["retain"], task.retain.labels),
        test_accuracy=accuracy(logits["test"], task.test.labels),
        controls=Controls(*(sample[name].cpu().numpy() for name in CONTROLLED), right.cpu().numpy()),
    )


def control_sample(examples: int) -> Tensor:
    """int64 [<= 256]: which examples of a set of this size are kept as controls: evenly spaced, for every model."""
    kept = min(examples, CONTROLS)
    return torch.arange(kept) * examples // kept


def right_by_class(logits: Tensor, labels: Tensor, classes: int) -> Tensor:
    """int64 [C]: how many examples of each class are answered rightly."""
    return torch.bincount(labels[logits.argmax(dim=1) == labels], minlength=classes)


def large_batch(split: Split) -> int:
    """Examples that a network is shown at once when it only looks: a GPU takes many in one gulp, fewer if large."""
    pixels = (4096 if split.images.is_cuda else 512) * 32 * 32
    return max(64, pixels // split.images[0, 0].numel())


@torch.inference_mode()
def predict(net: nn.Module, split: Split, batch_size: int = 512) -> Tensor:
    """Logits float32 [n, C] of every example of a split, in its order."""
    starts = range(0, len(split), batch_size)
    return torch.cat([net(split.pixels(slice(start, start + batch_size))).float() for start in starts])


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of right answers, 0 to 1."""
    return float((logits.argmax(dim=1) == labels).float().mean())
