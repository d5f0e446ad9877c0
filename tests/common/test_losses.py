"""Every shared loss equals its formula, written out with loops."""

import math

import pytest
import torch
from torch.nn import functional as F

from common import losses


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)


def softmax(z):
    e = [math.exp(v) for v in z.tolist()]
    return [v / sum(e) for v in e]


def test_kl_to_uniform_is_the_sum_over_classes_and_mean_over_the_batch(logits):
    z = logits[0]
    expected = sum(sum(0.2 * math.log(0.2 / p) for p in softmax(row)) for row in z) / 6
    assert losses.kl_to_uniform(z).item() == pytest.approx(expected)
    assert losses.kl_to_uniform(torch.zeros(4, 10)).item() == pytest.approx(0, abs=1e-6)


def test_contrastive_dissimilarity_equals_a_double_loop(logits):
    forget, retain, t = logits[0][:2], logits[1], 1.15
    total = 0.0
    for f in forget:
        similarity = [float(f @ r) / t for r in retain]
        normaliser = math.log(sum(math.exp(s) for s in similarity))
        total += sum(normaliser - s for s in similarity)
    assert losses.contrastive_dissimilarity(forget, retain, t).item() == pytest.approx(total / (2 * 6))


def test_temperature_kl_and_soft_cross_entropy_equal_their_sums_and_share_a_gradient(logits):
    student, teacher = logits[0].clone().requires_grad_(), logits[1]
    pairs = [(softmax(s / 5), softmax(t / 5)) for s, t in zip(student.detach(), teacher)]
    kl = sum(q * math.log(q / p) for ps, qs in pairs for p, q in zip(ps, qs)) / 6
    ce = sum(-q * math.log(p) for ps, qs in pairs for p, q in zip(ps, qs)) / 6
    assert losses.temperature_kl(student, teacher, 5).item() == pytest.approx(kl)
    assert losses.soft_cross_entropy(student, teacher, 5).item() == pytest.approx(ce)
    (one,) = torch.autograd.grad(losses.temperature_kl(student, teacher, 5), student)
    (two,) = torch.autograd.grad(losses.soft_cross_entropy(student, teacher, 5), student)
    assert torch.allclose(one, two)


def test_entropy_matching_is_the_mean_squared_difference_of_entropies(logits):
    def h(z):
        return -sum(p * math.log(p) for p in softmax(z))

    expected = sum((h(s) - h(t)) ** 2 for s, t in zip(*logits)) / 6
    assert losses.entropy_matching(*logits).item() == pytest.approx(expected)
    assert losses.entropy(torch.zeros(1, 10)).item() == pytest.approx(math.log(10))


def test_logit_mse_is_the_mean_over_batch_and_classes(logits):
    expected = sum((a - b) ** 2 for a, b in zip(logits[0].flatten().tolist(), logits[1].flatten().tolist())) / 30
    assert losses.logit_mse(*logits).item() == pytest.approx(expected)


def test_batch_weighted_cross_entropy_scales_the_batch_not_each_example(logits):
    targets, weights = torch.tensor([0, 0, 1, 2, 3, 4]), torch.tensor([1, 0.05, 0.05, 0.05, 0.05])
    expected = F.cross_entropy(logits[0], targets).item() * (2 + 4 * 0.05) / 6
    assert losses.batch_weighted_cross_entropy(logits[0], targets, weights.double()).item() == pytest.approx(expected)


def test_wrong_labels_are_every_class_but_the_right_one():
    """With one-hot logits of height h, a right label would cost next to nothing and every wrong one costs h."""
    targets = torch.arange(4).repeat(50)
    logits = 20.0 * F.one_hot(targets, 4).double().requires_grad_()
    loss = losses.wrong_label_cross_entropy(logits, targets)
    assert loss.item() == pytest.approx(20, abs=1e-3)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert all((gradient[targets == c] < -1e-9).any(dim=0).sum() == 3 for c in range(4)), "all wrong classes occur"
