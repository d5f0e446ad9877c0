"""The methods of 2022 to 2025 do what their papers say: hand-made examples, slow twins, and what may not move."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from local_eval.methods.contract import load_submission
from local_eval.methods.loaders import Examples
from local_eval.methods.submission import Submission
from local_eval.runs.one_run import seed_everything
from tests.submissions.test_submissions import run


def names_of(method):
    """A method's functions and constants, to be replaced; what `unlearning` looks up is what is here."""
    return load_submission(Submission.find(method)).__globals__


def unlearned(namespace, task, net=None):
    """The net, a new one of the task's by default, after a run of a method."""
    net = task.make_net() if net is None else net
    loaders = [
        DataLoader(Examples(s), batch_size=64, shuffle=True) for s in (task.retain, task.forget, task.validation)
    ]
    seed_everything(0, 1)
    namespace["unlearning"](net, *loaders)
    return net


def examples(*rows):
    """A loader of flat images with their classes, and the numbers that a submission's examples have."""
    made = [
        {"image": torch.tensor([[pixels]]), "image_id": i, "age_group": y, "age": 0, "person_id": i}
        for i, (pixels, y) in enumerate(rows)
    ]
    return DataLoader(made, batch_size=64, shuffle=True)


def linear(*weights):
    """A net whose logits are products of the pixels with these rows."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(len(weights[0]), len(weights), bias=False))
    net[1].weight.data = torch.tensor(weights)
    return net


# SSD


def test_ssd_dampens_by_hand_computed_importances():
    """Equal rows answer 1/2 whatever the image x, so class 0 has the gradient -x/2 in the first row, x/2 in the other.

    For the forget image (1, 0) the squares are 1/4 in the first column. For it and three images (0, 1) the mean
    gradient is (1, 3)/8, and its squares 1/64 and 9/64: in the first column a sixteenth of those for the forget set.
    """
    forget, retain = examples(([1.0, 0.0], 0)), examples(*[([0.0, 1.0], 0)] * 3)
    for constants, first in (("", 3 / 16), ("[ALPHA=15.9]", 3 / 16), ("[ALPHA=16.1]", 3), ("[LAMBDA=4.0]", 3 / 4),
                             ("[LAMBDA=32.0]", 3)):  # fmt: skip
        net = linear([3.0, 5.0], [3.0, 5.0])
        names_of(f"ssd{constants}")["unlearning"](net, retain, forget, None)
        assert torch.allclose(net[1].weight, torch.tensor([[first, 5.0]] * 2)), constants


def test_ssd_only_shrinks_weights_and_leaves_statistics_alone(tiny):
    torch.manual_seed(0)
    net = tiny.make_net()
    before = copy.deepcopy(net.state_dict())
    after = unlearned(names_of("ssd"), tiny, net).state_dict()
    ratio = torch.cat([(after[name] / before[name]).flatten() for name, _ in net.named_parameters()])
    ratio = ratio[ratio.isfinite()]
    assert ratio.min() >= 0 and ratio.max() <= 1
    assert 0 < float((ratio < 1).float().mean()) < 0.5
    assert all(torch.equal(after[name], value) for name, value in before.items() if "running" in name)


# Bad Teacher


def test_the_bad_teachers_distance_is_a_hand_computed_divergence():
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]]))
    good, bad = torch.log(torch.tensor([[0.5, 0.5], [0.6, 0.4], [0.5, 0.5]])), torch.zeros(3, 2)
    found = names_of("bad_teacher")["distance"](logits, good, bad, torch.tensor([0, 0, 1]))
    second = 0.6 * math.log(0.6 / 0.2) + 0.4 * math.log(0.4 / 0.8)
    third = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert found.item() == pytest.approx((0 + second + third) / 3, rel=1e-5)


def test_one_teacher_is_the_original_and_one_is_untrained_and_unsure_on_raw_pixels(tiny):
    namespace, seen = names_of("bad_teacher"), []
    original = tiny.make_net()
    real, draw = namespace["distance"], namespace["untrained_copy"]
    namespace["untrained_copy"] = lambda net: seen.append(copy.deepcopy(draw(net))) or seen[-1]
    namespace["distance"] = lambda z, good, bad, forget: seen.append((good, bad, forget)) or real(z, good, bad, forget)
    unlearned(namespace, tiny, copy.deepcopy(original))
    bad_net, (good, bad, forget) = seen
    with torch.no_grad():
        images = torch.cat([tiny.forget.pixels(slice(0, 16)), tiny.retain.pixels(slice(0, 96))])
        known = original.eval()(images)
    assert all(torch.isclose(row, known).all(dim=1).any() for row in good), "answers of the original, in eval mode"
    assert bad_net.training and not torch.equal(bad_net.fc.weight, original.fc.weight)
    assert bad.std() < 5 and int(forget.sum()) == 16 and len(forget) == 16 + int(0.3 * 96)


# SFR-on


def test_sfr_ons_weights_favour_small_losses_and_count_as_constants():
    namespace = names_of("sfr_on")
    losses = torch.tensor([1.0, 4.0], requires_grad=True)
    mean = namespace["weighted_mean"](losses)  # weights 1 and 1/2
    mean.backward()
    assert mean.item() == pytest.approx((1 + 2) / 1.5)
    assert losses.grad.tolist() == pytest.approx([1 / 1.5, 0.5 / 1.5])
    assert namespace["weighted_mean"](torch.zeros(3)).item() == 0, "a loss of zero is no division by it"


def test_sfr_on_climbs_along_the_salient_weights_only_and_not_too_far():
    namespace = names_of("sfr_on")
    masks = namespace["salient_weights"](
        {"1.weight": torch.tensor([[4.0, 1.0], [0.0, 2.0]])}, {"1.weight": torch.tensor([[4.0, 2.0], [0.0, 1.0]])}
    )
    assert masks["1.weight"].tolist() == [[True, False], [True, True]], "none at all counts as equal"
    batch = next(iter(examples(([1.0, 2.0], 0), ([1.0, 1.0], 1))))
    for weight, length in ((25.0, 7.0), (1e-2, None)):
        net = linear([0.5, 0.1], [0.2, 0.4])
        before = net[1].weight.detach().clone()
        losses = F.cross_entropy(net(batch["image"]), batch["age_group"], reduction="none")
        coefficients = losses.detach() ** -0.5
        loss = weight * (coefficients / coefficients.sum() * losses).sum()
        (gradient,) = torch.autograd.grad(loss, [net[1].weight])
        gradient = gradient * masks["1.weight"]
        gradient *= min(1.0, 7.0 / gradient.norm().item())
        namespace["climb"](net, batch, torch.optim.SGD(net.parameters(), lr=0.1), masks, weight)
        assert torch.allclose(net[1].weight, before + 0.1 * gradient, atol=1e-6), "up the loss"
        assert (net[1].weight - before).norm() <= 0.1 * 7.0 + 1e-5
        assert length is None or (net[1].weight - before)[0, 1] == 0


def test_sfr_on_climbs_before_every_fifth_step_with_less_and_less_weight(tiny):
    namespace, weights = names_of("sfr_on[EPOCHS=11.0]"), []
    climb = namespace["climb"]
    namespace["climb"] = lambda *given: weights.append(given[-1]) or climb(*given)
    unlearned(namespace, tiny)
    assert weights == pytest.approx([25 * (1 + math.cos(math.pi * k / 11)) / 2 for k in (0, 5, 10)])
    _, reads = run("sfr_on[EPOCHS=11.0]", tiny, tiny.make_net())
    after = ["retain", "forget"] + ["retain"] * 4
    assert [split for split, _ in reads] == ["forget", "retain"] + after * 2 + after[:2], "importances, then steps"
    assert {size for _, size in reads} == {16, 96}


def test_of_one_forget_image_there_are_steps_too():
    retain, forget = examples(*[([0.0, 1.0], 1)] * 10), examples(([1.0, 0.0], 0))
    for method in ("ssd", "bad_teacher", "sfr_on", "amun", "lotus"):
        net = linear([3.0, 5.0], [3.0, 5.0])
        names_of(method)["unlearning"](net, retain, forget, retain)
        assert net[1].weight.isfinite().all() and not torch.equal(net[1].weight, torch.tensor([[3.0, 5.0]] * 2)), method


# AMUN


def test_amuns_images_are_mistaken_and_hardly_farther_away_than_the_nearest_that_can_be():
    """For a linear net the nearest mistake is known: straight over the line where the two logits are equal."""
    namespace = names_of("amun")
    net = linear([0.01, 0.02], [0.02, -0.01])
    images = torch.tensor([[0.0, 250.0], [100.0, 40.0], [255.0, 100.0], [90.0, 28.0]]).view(4, 1, 1, 2)
    targets = torch.tensor([0, 0, 0, 0])  # the last one is mistaken already
    found = namespace["nearest_mistakes"](net, images, targets)
    assert (net(found).argmax(1) == 1).all()
    assert torch.equal(found[3], images[3])
    normal = torch.tensor([0.01 - 0.02, 0.02 + 0.01])
    nearest = (images.flatten(1) @ normal).abs() / normal.norm()
    ways = (found - images).flatten(1).norm(dim=1)
    for way, near in zip(ways[1:3], nearest[1:3]):  # the first is at the edge of what pixels can be
        radius = 2.55 * 2 ** max(0, math.ceil(math.log2(near / 2.55)))
        assert near <= way <= near + radius / 10 + 1e-3 <= radius * 1.1 + 1e-3
    assert ways[0] >= nearest[0]
    assert found.min() >= 0 and found.max() <= 255


def test_amun_ends_where_no_mistake_can_be_found_and_leaves_such_images_out():
    namespace = names_of("amun")
    blind = linear([0.0, 0.0], [0.0, 0.0])
    assert namespace["mistaken"](blind, examples(([0.0, 9.0], 0), ([9.0, 0.0], 0))) == []
    (wrong,) = namespace["mistaken"](blind, examples(([0.0, 9.0], 0), ([9.0, 0.0], 1)))
    assert (wrong["age_group"], wrong["image"].flatten().tolist()) == (0, [9.0, 0.0])


def test_amun_trains_on_the_mistakes_beside_the_forget_and_the_retain_set(tiny):
    for keep, sizes in ((True, 16), (False, 0)):
        namespace, seen = names_of(f"amun[KEEP_FORGET={keep}]"), []
        namespace["one_epoch"] = lambda net, loader, opt, seen=seen: (opt.step(), seen.append(list(loader)))
        net = tiny.make_net()
        unlearned(namespace, tiny, net)
        assert len(seen) == 4
        ids, classes, images = (
            torch.cat([batch[key] for batch in seen[0]]) for key in ("image_id", "age_group", "image")
        )
        forgotten = torch.isin(ids, tiny.forget.image_id)
        truth = dict(zip(tiny.forget.image_id.tolist(), tiny.forget.labels.tolist()))
        wrong = torch.tensor([truth.get(i, y) != y for i, y in zip(ids.tolist(), classes.tolist())])
        assert int((forgotten & ~wrong).sum()) == sizes and int((~forgotten).sum()) == 96
        assert 0 < int(wrong.sum()) <= 16
        with torch.no_grad():
            assert torch.equal(net.eval()(images[wrong]).argmax(1), classes[wrong]), "classes are the net's mistakes"


# Weight distortion


def test_the_distortion_is_gaussian_noise_of_002_on_all_that_learns_and_only_there(tiny):
    namespace = names_of("weight_distortion")
    namespace["one_epoch"] = lambda net, loader, optimizer, loss: optimizer.step()
    torch.manual_seed(0)
    net = tiny.make_net()
    net.conv1.requires_grad_(False)
    before = copy.deepcopy(net.state_dict())
    after = unlearned(namespace, tiny, net).state_dict()
    noise = {name: after[name] - before[name] for name, _ in net.named_parameters()}
    assert noise.pop("conv1.weight").abs().max() == 0
    assert all(value.abs().min() > 0 for value in noise.values())
    every = torch.cat([value.flatten() for value in noise.values()])
    assert every.std().item() == pytest.approx(0.02, rel=0.03) and abs(every.mean().item()) < 0.002
    assert (every.abs() < 0.02).float().mean().item() == pytest.approx(0.683, abs=0.02), "as a normal law has it"


def test_the_variant_without_noise_rewards_the_distance_to_the_start(tiny):
    now, then = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])], [torch.zeros(2), torch.zeros(1, 1)]
    reward = names_of("weight_distortion[DISTANCE_WEIGHT=2.0]")["reward"]
    assert reward(now, then).item() == pytest.approx(2 * math.sqrt(25 / 3))
    assert names_of("weight_distortion")["reward"](now, then) == 0
    ways = {}
    for weight in (0.0, 100.0):
        torch.manual_seed(0)
        net = tiny.make_net()
        start = nn.utils.parameters_to_vector(net.parameters()).detach().clone()
        unlearned(names_of(f"weight_distortion[SIGMA=0.0,DISTANCE_WEIGHT={weight},LR=1e-3]"), tiny, net)
        ways[weight] = (nn.utils.parameters_to_vector(net.parameters()) - start).norm().item()
    assert ways[100.0] > 1.05 * ways[0.0]


# Certified noise


def test_certified_noise_is_what_the_bound_asks_for_by_a_slow_twin():
    """Two networks start at most 2 C0 apart; every step shrinks that, adds 2 LR C1 at most, and adds noise to both."""
    for constants, steps in (("", 5), ("[C0=0.1,C1=10.0,PULL=50.0]", 10), ("[PULL=0.0]", 10)):
        names = names_of(f"certified_noise{constants}")
        assert names["noisy_steps"]() == steps, constants
        kept, sigma = 1 - names["NOISY_LR"] * names["PULL"], names["sigma"](steps)
        apart, variance = 2 * names["C0"], 0.0
        for _ in range(steps):
            apart = kept * apart + 2 * names["NOISY_LR"] * names["C1"]
            variance = kept**2 * variance + sigma**2
        assert apart**2 / (2 * variance) == pytest.approx(names["EPSILON"]), constants


def test_certified_noise_shortens_weights_and_gradients_to_their_lengths_pulls_and_blurs():
    names = names_of("certified_noise")
    for longest, factor in ((2.5, 0.5), (5.0, 1.0), (9.0, 1.0)):
        tensors = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]  # together 5 long
        names["shorten"](tensors, longest)
        assert torch.allclose(torch.cat([t.flatten() for t in tensors]), factor * torch.tensor([3.0, 0.0, 4.0]))
    batch = next(iter(examples(([300.0, 400.0], 0))))
    net = linear([0.1, 0.2], [0.1, 0.2])
    (parameter,), before = net.parameters(), net[1].weight.detach().clone()
    names["noisy_step"](net, [parameter], batch, 0.0)
    # The gradient is -x/2 and x/2, 354 long, and is shortened to 100; the pull takes half of each weight.
    gradient = torch.tensor([[-150.0, -200.0], [150.0, 200.0]]) * 100 / math.sqrt(2 * 250**2)
    assert torch.allclose(parameter, 0.5 * before - 1e-3 * gradient, atol=1e-5)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(2, 5000, bias=False))
    nn.init.zeros_(wide[1].weight)
    names["noisy_step"](wide, list(wide.parameters()), batch, 3.0)
    assert wide[1].weight.std().item() == pytest.approx(3.0, rel=0.05)


def test_certified_noise_starts_in_its_ball_without_statistics_and_nothing_is_left_of_the_original(tiny):
    names, starts = names_of("certified_noise"), []
    names["noisy_step"] = lambda net, parameters, *_: starts.append(copy.deepcopy(net))
    net = tiny.make_net()
    unlearned(names, tiny, copy.deepcopy(net))
    weights = nn.utils.parameters_to_vector(starts[0].parameters())
    assert weights.norm().item() == pytest.approx(1.0) and len(starts) == 5
    original = nn.utils.parameters_to_vector(net.parameters())
    assert torch.allclose(weights * original.norm(), original, atol=1e-4), "all shrunk alike"
    assert starts[0].bn1.running_mean.abs().max() == 0 and (starts[0].bn1.running_var == 1).all()


# LoTUS


def test_lotus_softens_the_forget_images_answers_and_draws_the_others_from_the_teacher():
    draw = names_of("lotus")["targets_of"]
    torch.manual_seed(0)
    logits = torch.log(torch.tensor([0.7, 0.2, 0.1])).repeat(4000, 1)
    hard = draw(logits, torch.zeros(4000, dtype=torch.int64), 9.0)
    assert set(hard.unique().tolist()) == {0.0, 1.0} and (hard.sum(1) == 1).all()
    assert hard.mean(0).tolist() == pytest.approx([0.7, 0.2, 0.1], abs=0.03)
    largest = []
    for temperature in (0.5, 1.0, 9.0):
        soft = draw(logits, torch.ones(4000, dtype=torch.int64), temperature)
        assert torch.allclose(soft.sum(1), torch.ones(4000))
        largest.append(soft.max(1).values.mean().item())
    assert largest[0] > largest[1] > largest[2] > 1 / 3
    assert largest[2] < 0.5


def test_lotus_takes_its_temperature_from_the_lead_on_forget_over_unseen_data(tiny):
    namespace, temperatures, looks = names_of("lotus[EPOCHS=3]"), [], []
    found = iter([0.5, 0.9, 0.5, 0.4])  # of the original on validation data, then before each epoch on forget data
    namespace["accuracy"] = lambda net, loader: looks.append(len(loader.dataset)) or next(found)
    namespace["one_smoothing_epoch"] = lambda *given: temperatures.append(given[-1])
    unlearned(namespace, tiny)
    assert looks == [24, 16, 16, 16]
    assert temperatures == pytest.approx([math.exp(2 * 0.4), 1.0, math.exp(-2 * 0.1)])


def test_lotuss_accuracy_is_the_share_of_right_answers():
    net, loader = linear([1.0, 0.0], [0.0, 1.0]), examples(([2.0, 1.0], 0), ([1.0, 2.0], 0), ([0.0, 1.0], 1))
    assert names_of("lotus")["accuracy"](net, loader) == pytest.approx(2 / 3)


# CF-k and EU-k


@pytest.mark.parametrize("method", ["cf_k", "eu_k"])
def test_only_the_last_layers_change(method, tiny):
    torch.manual_seed(0)
    net = tiny.make_net()
    before = copy.deepcopy(net.state_dict())
    after = unlearned(names_of(method), tiny, net).state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {name for name in after if name.startswith(("layer4", "fc"))}
    one = unlearned(names_of(f"{method}[LAYERS=1]"), tiny, tiny.make_net().train())
    assert not one.training


def test_eu_k_starts_from_fresh_draws_of_the_last_layers_and_cf_k_from_what_is_there(tiny):
    for method in ("cf_k", "eu_k"):
        torch.manual_seed(0)
        net = tiny.make_net()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(7)
        namespace, starts = names_of(method), []
        namespace["clipped_epoch"] = lambda net, loader, optimizer, *_, starts=starts: (
            optimizer.step(), starts.append(copy.deepcopy(net.state_dict()))
        )  # fmt: skip
        unlearned(namespace, tiny, net)
        start = starts[0]
        assert (start["layer3.1.conv2.weight"] > 2).all() and (start["layer3.1.bn2.weight"] == 8).all()
        if method == "cf_k":
            assert (start["layer4.1.conv2.weight"] > 2).all() and (start["layer4.1.bn2.weight"] == 8).all()
            continue
        for layer in ("layer4.0.conv1", "layer4.0.downsample.0", "layer4.1.conv2", "fc"):
            weight = start[f"{layer}.weight"]
            bound = 1 / math.sqrt(weight[0].numel())
            assert 0.8 * bound < weight.abs().max() <= bound, layer
        assert (start["layer4.1.bn2.weight"] == 1).all() and (start["layer4.1.bn2.bias"] == 0).all()
        assert torch.equal(start["layer4.1.bn2.running_mean"], torch.zeros(16))
