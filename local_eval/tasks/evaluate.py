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


def evaluate_stack(stacked: nn.Module, count: int, task: Task, batch_size: int | None = None) -> list[Evaluation]:
    """Measure `count` stacked networks, [B, count * C, H, W] -> [B, count * classes], as `evaluate` does each alone.

    For a GPU: every image is cut out once for all of them, and what is kept of all comes to the host in a few copies.
    Sums within a network may come in another order than alone, so the last bits of its logits may differ.

    Args:
        batch_size: images that the stack is shown at once; by default as many as make one network's batch.
    """
    stacked.eval()
    batch_size = batch_size or max(large_batch(task.forget) // count, 1)
    with exact_convolutions(), seeded(0, task.forget.images.device):
        logits = {name: predict_stack(stacked, count, split, batch_size) for name, split in task.splits.items()}
    samples = [logits[name][:, control_sample(logits[name].shape[1]).to(logits[name].device)] for name in CONTROLLED]
    correct = {name: logits[name].argmax(dim=2) == task.splits[name].labels for name in SPLITS}
    none = torch.zeros(count, task.num_classes, dtype=torch.int64, device=logits["forget"].device)
    right = [none.index_add(1, task.splits[name].labels, correct[name].long()) for name in SPLITS]
    shares = [correct[name].float().mean(dim=1) for name in ("retain", "test")]
    kept = (logits["forget"], torch.stack(shares, dim=1), *samples, torch.stack(right, dim=1))
    return [
        Evaluation(forget, *map(float, accuracies), Controls(*controls))
        for forget, accuracies, *controls in zip(*(tensor.cpu().numpy() for tensor in kept))
    ]


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


@torch.inference_mode()
def predict_stack(stacked: nn.Module, count: int, split: Split, batch_size: int) -> Tensor:
    """Logits float32 [count, n, C] that stacked networks give, each, on every example of a split, in its order."""
    found = []
    for start in range(0, len(split), batch_size):
        images = split.pixels(slice(start, start + batch_size))
        beside = images[:, None].expand(-1, count, -1, -1, -1).flatten(1, 2)
        found.append(stacked(beside).float().view(len(images), count, -1))
    return torch.cat(found).transpose(0, 1).contiguous()


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of right answers, 0 to 1."""
    return float((logits.argmax(dim=1) == labels).float().mean())
