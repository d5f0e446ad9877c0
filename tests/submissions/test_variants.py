"""Constants that make published variants: each does what it says, and as committed the methods are the teams' own."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader

from local_eval.methods.contract import load_submission
from local_eval.methods.loaders import Examples
from local_eval.methods.submission import Submission
from local_eval.runs.one_run import seed_everything
from tests.submissions.test_submissions import cosine, per_epoch, run

LOGITS = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


def names_of(variant):
    """The names that a variant's file defines, with its constants."""
    return load_submission(Submission.find(variant)).__globals__


def loaders(tiny):
    return [DataLoader(Examples(s), batch_size=64, shuffle=True) for s in (tiny.retain, tiny.forget, tiny.validation)]


def final(tiny, unlearn):
    """The weights that a function of (net, retain, forget, validation) ends with, from fixed weights and seed."""
    torch.manual_seed(0)
    net = tiny.make_net()
    seed_everything(0, 1)
    unlearn(net, *loaders(tiny))
    return net.state_dict()


def starter(net, retain_loader, *_):
    """The starting notebook's code, written out."""
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    schedule = CosineAnnealingLR(optimizer, T_max=1)
    net.train()
    for batch in retain_loader:
        optimizer.zero_grad()
        F.cross_entropy(net(batch["image"]), batch["age_group"]).backward()
        optimizer.step()
    schedule.step()
    net.eval()


def test_as_committed_the_finetune_is_the_starters_to_the_bit(tiny):
    theirs, ours = final(tiny, starter), final(tiny, load_submission(Submission.find("baseline_finetune")))
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


def test_as_committed_fanchuan_and_forget_have_the_teams_losses_to_the_bit():
    fanchuan, forget = names_of("fanchuan"), names_of("forget")
    uniform = F.kl_div(LOGITS.log_softmax(1), torch.full_like(LOGITS, 1 / 4), reduction="batchmean")
    assert torch.equal(fanchuan["divergence_from_uniform"](LOGITS), uniform)
    assert (fanchuan["FORGET_ROUNDS"], fanchuan["UNIFORM_PASS"]) == (1, True)
    assert torch.equal(forget["distance"](LOGITS, 2 * LOGITS, None), F.mse_loss(LOGITS, 2 * LOGITS))
    assert forget["augmented"](LOGITS) is LOGITS


def test_fanchuans_symmetric_weight_adds_the_reversed_divergence():
    p, u = LOGITS.softmax(1), 1 / 4
    forward, backward = (u * (u / p).log()).sum(1).mean(), (p * (p / u).log()).sum(1).mean()
    for weight in (0.5, 1.0):
        found = names_of(f"fanchuan[SYMMETRIC_WEIGHT={weight}]")["divergence_from_uniform"](LOGITS)
        assert found.item() == pytest.approx((forward + weight * backward).item(), rel=1e-5)
    assert backward > 0.01


def test_fanchuan_without_its_first_phase_begins_with_a_forget_round(tiny):
    whole, without = (run(f"fanchuan[UNIFORM_PASS={on}]", tiny, tiny.make_net()) for on in (True, False))
    assert whole[0][0]["lr"] == 5e-3
    assert without[0] == whole[0][1:]
    assert without[1] == whole[1][1:] == [("forget", 16), ("retain", 96), ("retain", 96)] * 8


def test_fanchuans_second_forget_round_is_before_the_same_retain_epoch_and_does_not_stretch_the_cosine(tiny):
    steps, reads = run("fanchuan[FORGET_ROUNDS=2]", tiny, tiny.make_net())
    assert reads[1:] == ([("forget", 16), ("retain", 96)] * 2 + [("retain", 96)]) * 8
    rates = [s["lr"] for s in steps[1:] if s["weight_decay"] == 0]
    assert rates == pytest.approx([1e-6 + (3e-4 - 1e-6) * (1 + math.cos(math.pi * k / 8)) / 2 for k in range(16)])


def test_fanchuans_learning_rate_follows_its_retain_batch(tiny):
    steps, _ = run("fanchuan[RETAIN_BATCH=512,EPOCHS=1]", tiny, tiny.make_net())
    assert steps[-1]["lr"] == 8e-3


def test_the_finetunes_batch_adam_and_epochs_are_as_set(tiny):
    steps, reads = run("baseline_finetune[BATCH=32,EPOCHS=2]", tiny, tiny.make_net())
    assert reads == [("retain", 32)] * 6
    assert [s["lr"] for s in steps] == pytest.approx(per_epoch(cosine(1e-3, 2), 3))
    steps, _ = run("baseline_finetune[ADAM=True,LR=1e-4,WEIGHT_DECAY=5e-3]", tiny, tiny.make_net())
    assert "momentum" not in steps[0]
    assert (steps[0]["lr"], steps[0]["weight_decay"]) == (1e-4, 5e-3)


def test_the_finetunes_class_weights_are_one_over_the_retain_sets_counts(tiny):
    method = names_of("baseline_finetune[CLASS_WEIGHTED=True]")
    weights = method["class_weights"](tiny.make_net(), loaders(tiny)[0])
    assert (weights * torch.bincount(tiny.retain.labels)).tolist() == pytest.approx([1, 1, 1])
    losses = []
    method["one_epoch"] = lambda net, loader, optimizer, loss: (optimizer.step(), losses.append(loss))
    method["unlearning"](tiny.make_net(), *loaders(tiny))
    targets, logits = torch.tensor([0, 1, 2, 2, 2]), LOGITS[:, :3]
    each = F.cross_entropy(logits, targets, reduction="none") * weights[targets]
    assert losses[0](logits, targets).item() == pytest.approx((each.sum() / weights[targets].sum()).item())


def test_amnesiacs_warm_up_on_no_class_in_particular_is_on_all(tiny):
    def read(variant):
        return [size for split, size in run(variant, tiny, tiny.make_net())[1] if split == "validation"]

    two = int((tiny.validation.labels < 2).sum())
    assert read("amnesiacs[WARM_UP_CLASSES=()]") == [24] * 3
    assert read("amnesiacs") == [24] + [two] * 3, "one look at the classes, then those of 0 and 1"
    assert two < 24


def test_toshi_with_a_share_of_one_or_zero_takes_one_method_only(tiny):
    for share, method in ((1.0, "transposed"), (0.0, "pseudo")):
        names, taken = names_of(f"toshi_k_marvelworld[TRANSPOSED_SHARE={share}]"), []
        names["transpose_kernels"] = lambda net, taken=taken: taken.append("transposed")
        names["untrained_copy"] = lambda net, taken=taken: taken.append("pseudo")
        names["fit"], names["pseudo_labelled"] = lambda *_: None, lambda *_: []
        net = tiny.make_net()
        for _ in range(20):
            names["unlearning"](net, *loaders(tiny))
        assert taken == [method] * 20


def test_forgets_second_algorithm_has_its_own_learning_rates(tiny):
    rates = (5e-4, 1e-3, 1e-3, 1e-3, 2e-3)
    steps, _ = run(f"forget[CYCLES=(2,1,1,1),LRS={rates}]", tiny, tiny.make_net())
    assert [s["lr"] for s in steps] == pytest.approx(per_epoch(rates))


def test_forgets_losses_are_what_their_names_say():
    targets, other = torch.tensor([0, 1, 2, 3, 0]), 2 * LOGITS
    found = {loss: names_of(f"forget[LOSS='{loss}']")["distance"](LOGITS, other, targets) for loss in ("l1", "ce")}
    assert found["l1"].item() == pytest.approx(LOGITS.abs().mean().item())
    assert torch.equal(found["ce"], F.cross_entropy(LOGITS, targets))


def test_forgets_augmentations_change_each_image_on_its_own():
    images = torch.arange(1.0, 3 * 16 * 16 + 1).view(1, 3, 16, 16).repeat(40, 1, 1, 1)
    torch.manual_seed(0)
    changed = {kind: names_of(f"forget[AUGMENTATION='{kind}']")["augmented"](images) for kind in KINDS}
    turned = [torch.equal(image, images[0].flip(1)) for image in changed["vflip"]]
    assert 8 < sum(turned) < 32, "about half are upside down"
    assert all(torch.equal(image, images[0]) for image, is_turned in zip(changed["vflip"], turned) if not is_turned)
    holes = (changed["cutout"] == 0).flatten(1).sum(1)
    assert (holes > 0).all() and len(holes.unique()) > 3, "every image has a hole of its own"
    kept = changed["cutout"] > 0
    assert torch.equal(changed["cutout"][kept], images[kept])
    borders = (changed["crop"] == 0).any(dim=1).flatten(1).sum(1)
    assert len(borders.unique()) > 3, "shifted by up to an eighth, black where nothing is"
    assert all(new.shape == images.shape for new in changed.values())


KINDS = ("vflip", "crop", "cutout")


def test_forgets_augmentation_reaches_student_and_teacher_alike(tiny):
    names, seen = names_of("forget[CYCLES=(1,),AUGMENTATION='crop']"), []
    names["augmented"], names["IMAGE_NOISE"] = lambda images: torch.zeros_like(images), 0.0
    names["distance"] = lambda logits, teacher, targets: (seen.extend((logits, teacher)), logits.sum())[1]
    names["unlearning"](tiny.make_net(), *loaders(tiny))
    assert len(seen) == 4
    assert all(torch.allclose(found, found[:1].expand_as(found)) for found in seen), "all answers are to one image"
