"""Draw a task's untrained network, and measure a network as the grader does."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from local_eval.engine.device import exact_convolutions
from local_eval.engine.evaluation import Evaluation
from local_eval.tasks.task import Split, Task


def initial_net(task: Task, seed: int) -> nn.Module:
    """The untrained network of this seed, drawn on the CPU so that every device starts from the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return task.make_net()


def evaluate(net: nn.Module, task: Task, batch_size: int | None = None) -> Evaluation:
    """Measure a network, in eval mode and float32, on the forget, retain and test sets."""
    net.eval()
    batch_size = batch_size or large_batch(task.forget)
    with exact_convolutions():  # confidences near 30 need all of float32
        return Evaluation(
            forget_logits=predict(net, task.forget, batch_size).cpu().numpy(),
            retain_accuracy=accuracy(predict(net, task.retain, batch_size), task.retain.labels),
            test_accuracy=accuracy(predict(net, task.test, batch_size), task.test.labels),
        )


def large_batch(split: Split) -> int:
    """Examples that a network is shown at once when it only looks: a GPU takes many in one gulp, fewer if large."""
    pixels = (4096 if split.images.is_cuda else 512) * 32 * 32
    return max(64, pixels // split.images[0, 0].numel())


@torch.inference_mode()
def predict(net: nn.Module, split: Split, batch_size: int = 512) -> Tensor:
    """Logits float32 [n, C] of every example of a split, in its order."""
    starts = range(0, len(split), batch_size)
    return torch.cat([net(split.pixels(slice(start, start + batch_size))) for start in starts])


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of right answers, 0 to 1."""
    return float((logits.argmax(dim=1) == labels).float().mean())
