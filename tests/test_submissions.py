"""Every submission follows its published constants step for step, reads what it says, and leaves a clean resnet18."""

from math import cos, pi

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader
from torchvision.models import resnet18

from local_eval.contract import load_submission, submission_names, submission_path
from local_eval.grade import Grader
from local_eval.loaders import Examples
from local_eval.runs import seed_everything

# The tiny task has 96 retain, 16 forget and 24 validation examples: 2, 1 and 1 batches of 64.
RETAIN, FORGET, VALIDATION = 2, 1, 1
STARTER = {"momentum": 0.9, "weight_decay": 5e-4}


class Recorded(Examples):
    """Examples that note every batch that is read from them."""

    def __init__(self, split, name, reads):
        super().__init__(split)
        self.name, self.reads = name, reads

    def __getitem__(self, index):
        self.reads.append((self.name, 1))
        return super().__getitem__(index)

    def __getitems__(self, indices):
        self.reads.append((self.name, len(indices)))
        return [Examples.__getitem__(self, i) for i in indices]


def run(name, task, net, index=1):
    """Run a submission; returns the settings of every optimiser step and (split, size) of every batch read."""
    steps, reads = [], []
    loaders = [
        DataLoader(Recorded(getattr(task, split), split, reads), batch_size=64, shuffle=True)
        for split in ("retain", "forget", "validation")
    ]

    def note(optimizer, *_):
        (group,) = optimizer.param_groups
        settings = {k: group[k] for k in ("lr", "momentum", "weight_decay") if k in group}
        steps.append(settings | {"parameters": len(group["params"])})

    function = load_submission(submission_path(name))
    handle = register_optimizer_step_pre_hook(note)
    try:
        seed_everything(0, index)
        function(net, *loaders)
    finally:
        handle.remove()
    return steps, reads


def cosine(lr, epochs, length=None):
    return [lr * (1 + cos(pi * e / epochs)) / 2 for e in range(length or epochs)]


def per_epoch(lrs, batches=RETAIN):
    return [lr for lr in lrs for _ in range(batches)]


FANCHUAN_FORGET = [1e-6 + (3e-4 - 1e-6) * (1 + cos(pi * k / 8)) / 2 for k in range(8)]
LEARNING_RATES = {
    "baseline_finetune": per_epoch([1e-3]),
    "baseline_neggrad": per_epoch([1e-3] * 5, FORGET),
    # one pass of uniform KL, then 8 x (a forget round, a retain epoch of one batch of 96)
    "fanchuan": [5e-3] + [lr for k in range(8) for lr in (FANCHUAN_FORGET[k], 4e-3)],
    "kookmin": per_epoch([1e-3 / 3, 2e-3 / 3, 1e-3, 2e-3 / 3, 1e-3 / 3]),
    "seif_achour": per_epoch(cosine(7e-4, 4)),
    "oleszko": [5e-4] * (int(3.2 * RETAIN) + 1),
    "amnesiacs": per_epoch([9e-4] * 3, VALIDATION) + per_epoch(cosine(1e-3, 3)),
    "jiaxi_sun": per_epoch([2e-4] * 5 + [2e-4, 2e-4, 2e-4, 1e-3]),
    "forget": per_epoch([1e-3, 1e-3, 5e-4, 1e-3, 5e-4]),
    "neggrad_plus": per_epoch(cosine(1e-3, 3)),
    "random_label": per_epoch(cosine(1e-3, 3), FORGET + RETAIN),
    "salun": per_epoch(cosine(1e-3, 3), FORGET + RETAIN),
    "scrub": per_epoch([1e-3] * 2, FORGET + RETAIN) + per_epoch([1e-3]),
    "l1_sparse": per_epoch(cosine(1e-3, 3)),
    "random_mask": [1e-5 + (1e-4 - 1e-5) * (1 + cos(pi * k / 10)) / 2 for k in range(10)],
}
READS = {
    "baseline_finetune": {"retain"}, "baseline_neggrad": {"forget"}, "fanchuan": {"retain", "forget"},
    "kookmin": {"retain", "forget"}, "seif_achour": {"retain"}, "oleszko": {"retain"},
    "toshi_k_marvelworld": {"retain", "forget"}, "amnesiacs": {"retain", "validation"}, "jiaxi_sun": {"retain"},
    "forget": {"retain"}, "scrub": {"retain", "forget"}, "salun": {"retain", "forget"}, "l1_sparse": {"retain"},
    "random_label": {"retain", "forget"}, "neggrad_plus": {"retain", "forget"}, "random_mask": {"retain"},
}  # fmt: skip
TRANSPOSED, PSEUDO = 1, 3  # runs of seed 0 in which rank 5 takes its first and its second method


@pytest.mark.parametrize("name", LEARNING_RATES)
def test_learning_rates_follow_the_published_sequence(name, tiny):
    steps, _ = run(name, tiny, tiny.make_net())
    assert [s["lr"] for s in steps] == pytest.approx(LEARNING_RATES[name])


def test_every_submission_is_in_these_tests():
    assert set(READS) == set(LEARNING_RATES) | {"toshi_k_marvelworld"} == set(submission_names())


@pytest.mark.parametrize("name", sorted(set(LEARNING_RATES) - {"fanchuan", "random_mask"}))
def test_momentum_and_weight_decay_are_the_starters(name, tiny):
    steps, _ = run(name, tiny, tiny.make_net())
    assert {(s["momentum"], s["weight_decay"]) for s in steps} == {(0.9, 5e-4)}


def test_fanchuan_decays_weights_in_retain_rounds_only_and_uses_batches_of_256(tiny):
    steps, reads = run("fanchuan", tiny, tiny.make_net())
    assert [s["weight_decay"] for s in steps] == [0] + [0, 1e-2] * 8
    assert {s["momentum"] for s in steps} == {0.9}
    assert reads == [("forget", 16)] + [("forget", 16), ("retain", 96), ("retain", 96)] * 8
    assert load_submission(submission_path("fanchuan")).__globals__["RETAIN_BATCH"] == 256


def test_random_mask_uses_adam_with_weight_decay_1e_4(tiny):
    steps, _ = run("random_mask", tiny, tiny.make_net())
    assert {s["weight_decay"] for s in steps} == {1e-4}
    assert "momentum" not in steps[0]


@pytest.mark.parametrize("name", sorted(set(READS) - {"fanchuan", "toshi_k_marvelworld", "oleszko"}))
def test_batches_are_of_64_over_whole_epochs(name, tiny):
    _, reads = run(name, tiny, tiny.make_net())
    retain = [size for split, size in reads if split == "retain"]
    assert set(retain) <= {64, 32, 16}, "16 is rank 2's subset, as large as the forget set"
    assert sum(size for size in retain if size != 16) % 96 == 0


def test_oleszko_counts_classes_once_and_stops_in_the_middle_of_an_epoch(tiny):
    _, reads = run("oleszko", tiny, tiny.make_net())
    assert reads == [("retain", 96)] + [("retain", 64), ("retain", 32)] * 3 + [("retain", 64)]


@pytest.mark.parametrize("name", READS)
def test_only_the_loaders_that_the_method_claims_are_read(name, tiny):
    seen = set()
    for index in (TRANSPOSED, PSEUDO):
        seen |= {split for split, _ in run(name, tiny, tiny.make_net(), index)[1]}
    assert seen == READS[name]


def test_toshi_takes_either_method_with_its_own_steps(tiny):
    steps, reads = run("toshi_k_marvelworld", tiny, tiny.make_net(), TRANSPOSED)
    assert [s["lr"] for s in steps] == pytest.approx(per_epoch(cosine(1e-3, 3)))
    assert {split for split, _ in reads} == {"retain"}
    steps, reads = run("toshi_k_marvelworld", tiny, tiny.make_net(), PSEUDO)
    assert [s["lr"] for s in steps][:6] == pytest.approx(per_epoch([1e-3, 1e-3, 5e-4]))
    assert {s["lr"] for s in steps[6:]} == {1e-3}
    assert ("forget", 16) in reads


def test_toshi_draws_the_first_method_246_times_in_512():
    first = 0
    for index in range(4096):
        torch.manual_seed(index)
        first += torch.rand(()).item() < 246 / 512
    assert first / 4096 == pytest.approx(246 / 512, abs=0.03)
    function = load_submission(submission_path("toshi_k_marvelworld"))
    assert function.__globals__["TRANSPOSED_SHARE"] == 246 / 512


def test_kookmin_scales_the_loss_gradient_of_kept_weights_but_not_weight_decay(tiny):
    """With the retain gradient at zero only weight decay moves weights, and all by the same factor."""
    namespace = load_submission(submission_path("kookmin")).__globals__
    namespace["one_epoch"] = lambda net, loader, optimizer: step_with(net, optimizer, 0.0)
    net = tiny.make_net()
    before = net.layer1[0].conv1.weight.detach().clone()
    run_patched(namespace, tiny, net)
    ratio = (net.layer1[0].conv1.weight / before).flatten()
    kept = torch.isclose(ratio, ratio.median(), rtol=1e-4)
    assert kept.float().mean() == pytest.approx(0.7, abs=0.02), "all kept weights decay alike"
    namespace["one_epoch"] = lambda net, loader, optimizer: step_with(net, optimizer, 1.0)
    namespace["WEIGHT_DECAY"] = 0.0
    namespace["redraw_smallest_gradients"] = lambda weight, gradient, share: half_mask(weight)
    net = tiny.make_net()
    before = net.conv1.weight.detach().clone()
    run_patched(namespace, tiny, net)
    moved = (net.conv1.weight - before).flatten()
    half = moved.numel() // 2
    assert torch.allclose(moved[half:], 0.1 * moved[:half].mean(), rtol=1e-2), "kept weights take a tenth of the step"


def run_patched(namespace, task, net):
    loaders = [DataLoader(Examples(s), batch_size=64) for s in (task.retain, task.forget, task.validation)]
    namespace["unlearning"](net, *loaders)


def half_mask(weight):
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[: weight.numel() // 2] = True
    return mask.view_as(weight)


def step_with(net, optimizer, slope):
    """One step on a loss whose gradient is `slope` for every weight."""
    optimizer.zero_grad()
    sum(slope * p.sum() for p in net.parameters()).backward()
    optimizer.step()


def test_seif_perturbs_conv1_only_before_training(tiny):
    namespace = load_submission(submission_path("seif_achour")).__globals__
    namespace["one_epoch"] = lambda *_: None
    net = tiny.make_net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    torch.manual_seed(0)
    run_patched(namespace, tiny, net)
    assert {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])} == {"conv1.weight"}
    spread = (net.conv1.weight - before["conv1.weight"]).std().item()
    assert spread == pytest.approx((0.6**2 + 0.005**2) ** 0.5, rel=0.1)


def test_jiaxi_noises_each_tensor_at_most_once_and_trains_nine_tensors_at_first(tiny):
    namespace = load_submission(submission_path("jiaxi_sun")).__globals__
    noised, trained = [], []
    net = tiny.make_net()
    names = {id(p): n for n, p in net.named_parameters()}
    namespace["add_noise"] = lambda parameter, sigma: noised.append((names[id(parameter)], sigma))
    namespace["one_epoch"] = lambda n, *_: trained.append({k for k, p in n.named_parameters() if p.requires_grad})
    torch.manual_seed(0)
    run_patched(namespace, tiny, net)
    assert len({name for name, _ in noised}) == len(noised) <= 4 * 6
    assert {sigma for _, sigma in noised} == {0.04}
    assert [len({n for n in names if "bn" not in n}) for names in trained] == [9] * 5 + [28] * 4
    assert all("bn1.weight" in names for names in trained)


@pytest.mark.parametrize("name", READS)
def test_one_seed_gives_one_net_and_two_give_two(name, tiny):
    torch.manual_seed(0)
    start = {k: v.clone() for k, v in tiny.make_net().state_dict().items()}
    ends = []
    for index in (1, 1, 2):
        net = tiny.make_net()
        net.load_state_dict(start)
        run(name, tiny, net, index)
        ends.append(net.state_dict())
    assert all(torch.equal(ends[0][k], ends[1][k]) for k in start)
    if name not in ONE_BATCH_METHODS:
        assert any(not torch.equal(ends[0][k], ends[2][k]) for k in start)


ONE_BATCH_METHODS = {"baseline_neggrad"}  # the tiny forget set is one batch, so the order of its examples is all


@pytest.mark.parametrize("name", READS)
def test_a_torchvision_resnet18_comes_out_clean(name, tiny):
    """Finite, strictly loadable, trainable everywhere, no hooks, from train mode and from eval mode."""
    few = {split: examples[slice(0, 12)] for split, examples in tiny.splits.items()}
    torch.manual_seed(0)
    net = resnet18(num_classes=10).train(name < "m")
    loaders = [DataLoader(Examples(few[s]), batch_size=64, shuffle=True) for s in ("retain", "forget", "validation")]
    seed_everything(0, PSEUDO)
    load_submission(submission_path(name))(net, *loaders)
    assert all(v.isfinite().all() for v in net.state_dict().values() if v.is_floating_point())
    resnet18(num_classes=10).load_state_dict(net.state_dict(), strict=True)
    assert all(p.requires_grad and not p._backward_hooks for p in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in net.modules())
    assert not net.training


def test_all_of_them_grade_on_digits(tmp_path):
    grader = Grader("digits", tmp_path, runs=16, workers=2)
    grader.finish_oracles()
    for name in submission_names():
        done, failures = grader.finish_runs(name)
        assert not failures, (name, failures)
        score, _ = grader.score(name)
        assert 0 <= score.score < 1.5 * score.ceiling, name
