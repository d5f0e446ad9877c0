"""What a trainer does on a card alone, tried on a CPU: it draws ahead, measures stacks as one, tries layouts."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from local_eval.isolation.device import drawn_so_far
from local_eval.oracles import stacked, train_many
from local_eval.oracles.stacked import stack
from local_eval.oracles.train_many import GPU_LAYOUTS, SHAPES, Layout, Start, Trainer, chosen, measured_layouts, taking
from local_eval.store.errors import WorkError
from local_eval.tasks.evaluate import evaluate, evaluate_stack, initial_net
from tests.oracles.kinds_of_networks import TinyViT

FULL = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


def trainer_on_a_card(task, layout, kind=Trainer):
    """A trainer that takes this machine's memory for a card's."""
    trainer = kind(task, task.retain, layout)
    trainer.on_card = True
    return trainer


def equal(one, other, tolerance=0.0):
    """Are two evaluations the same, to the bit or nearly?"""
    pairs = [(one.forget_logits, other.forget_logits)]
    pairs += [(getattr(one.controls, n), getattr(other.controls, n)) for n in ("retain_logits", "test_logits")]
    near = all(a.dtype == b.dtype and np.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in pairs)
    counts = np.array_equal(one.controls.right, other.controls.right)
    return near and counts and (one.retain_accuracy, one.test_accuracy) == (other.retain_accuracy, other.test_accuracy)


def test_a_stack_is_measured_as_its_networks_are_one_by_one(tiny):
    """Whatever the batch; what is counted is equal."""
    nets = [initial_net(tiny, seed) for seed in range(3)]
    together = stack(nets, (16, 16))
    expected = [evaluate(net, tiny) for net in nets]
    assert len({one.retain_accuracy for one in expected}) > 1, "else a mix-up would not show"
    for batch in (None, 1, 7, 1000):
        found = evaluate_stack(together.train(), 3, tiny, batch)
        assert all(map(lambda a, b: equal(a, b, 1e-4), found, expected)), batch
        assert not together.training


class Noting(Trainer):
    """Notes what its networks start from, and can be told to run out of memory."""

    full_at = ()  # numbers of attempts
    trial = 0

    def _train_at_once(self, seeds, following, stepped):
        self.trial += 1
        self.asked = [*getattr(self, "asked", []), (tuple(seeds), tuple(following))]
        if self.trial in self.full_at:
            raise FULL
        return super()._train_at_once(seeds, following, stepped)


@pytest.fixture
def started(monkeypatch):
    """Copies of what every bundle starts from, by seed, as the trainer makes them; and how often it had to draw now."""
    found, drawn_now = {}, []
    make = train_many.make_bundles

    def noting(task, examples, seeds, layout, starts=None):
        drawn_now.append(starts is None)
        bundles = make(task, examples, seeds, layout, starts)
        for bundle in bundles:
            for seed, net, order in zip(bundle.seeds, bundle.nets, bundle.orders.unbind(-1)):
                found[seed] = ({k: v.clone() for k, v in net.state_dict().items()}, order.clone())
        return bundles

    monkeypatch.setattr(train_many, "make_bundles", noting)
    return found, drawn_now


@pytest.mark.parametrize("full_at", [(), (1,), (2,), (2, 3)])
def test_networks_that_are_drawn_ahead_start_from_their_seeds_to_the_bit(tiny, started, full_at):
    """Also when memory runs out and what was drawn is of no use; all generators are left as they were."""
    found, drawn_now = started
    trainer = trainer_on_a_card(tiny, Layout(2, 2), Noting)
    trainer.full_at = full_at
    before, seeds = drawn_so_far(), list(range(10, 21))
    groups = list(trainer.groups(taking(seeds)))
    assert drawn_so_far() == before
    assert [seed for group in groups for seed in group.seeds] == seeds == sorted(found)
    for seed, (state, order) in found.items():
        assert all(torch.equal(value, state[name]) for name, value in initial_net(tiny, seed).state_dict().items())
        assert torch.equal(order, Start.drawn(tiny, tiny.retain, [seed]).orders[..., 0])
    if not full_at:
        assert trainer.asked == [((10, 11, 12, 13), (14, 15, 16, 17)), ((14, 15, 16, 17), (18, 19, 20)),
                                 ((18, 19, 20), ())]  # fmt: skip
        assert drawn_now == [True, False, True], "the first ones are waited for, and a stack of another size"


def test_a_thread_shows_no_stack_to_be_right_and_takes_no_network_of_another_kind(tiny, started, monkeypatch):
    """To show it, torch.fx replaces what calls all layers, also those of networks in training."""
    made = []

    def make():
        net = tiny.make_net()
        if len(made) == 6:  # of the second group
            net.other = 3.0
        made.append(net)
        return net

    task, shown = replace(tiny, make_net=make), []
    prove = stacked.prove
    monkeypatch.setattr(stacked, "prove", lambda *given: shown.append(threading.current_thread()) or prove(*given))
    stacked._fault_of.cache_clear()
    list(trainer_on_a_card(task, Layout(2, 2)).evaluations(list(range(8))))
    assert set(shown) == {threading.current_thread()}
    assert started[1] == [True, True], "what was drawn ahead was of no use"


def test_networks_and_measurements_are_those_of_the_plain_way(tiny):
    """Trained ahead in stacks and measured together; trained one after the other and measured alone."""
    found = list(trainer_on_a_card(tiny, Layout(2, 2)).evaluations(list(range(7))))
    plain = Trainer(tiny, tiny.retain, Layout(2))
    assert not plain.on_card
    expected = [evaluate(net, tiny) for net in plain.train(list(range(7)))]
    assert all(map(lambda a, b: np.allclose(a.forget_logits, b.forget_logits, atol=2e-2), found, expected))
    assert all(equal(*pair) for pair in zip(plain.evaluations([0, 1]), expected)), "on a CPU to the bit"


def test_networks_that_cannot_be_stacked_are_not_drawn_ahead(tiny, started):
    """They draw while they are trained, from the generators that a thread would draw from."""
    task = replace(tiny, make_net=TinyViT)
    found = list(trainer_on_a_card(task, Layout(2)).evaluations([1, 2, 3, 4]))
    expected = list(Trainer(task, task.retain, Layout(2)).evaluations([1, 2, 3, 4]))
    assert all(equal(*pair) for pair in zip(found, expected, strict=True))
    assert all(started[1]), "nothing was drawn before it was needed"


def test_a_measurement_that_finds_memory_full_is_made_in_smaller_batches(tiny, monkeypatch):
    tried = []

    def full_above(room):
        def measure(stacked, count, task, batch):
            tried.append(batch)
            if batch > room:
                raise FULL
            return evaluate_stack(stacked, count, task, batch)

        return measure

    monkeypatch.setattr(train_many, "evaluate_stack", full_above(600))
    assert len(list(trainer_on_a_card(tiny, Layout(2)).evaluations([1, 2]))) == 2
    assert tried == [1024, 512]
    monkeypatch.setattr(train_many, "evaluate_stack", full_above(0))
    with pytest.raises(RuntimeError, match="out of memory"):
        list(trainer_on_a_card(tiny, Layout(2)).evaluations([1, 2]))


def test_both_orders_of_memory_and_stacks_of_up_to_32_are_tried():
    assert {(layout.stack, layout.streams) for layout in GPU_LAYOUTS} == set(SHAPES)
    assert {layout.stack for layout in GPU_LAYOUTS} >= {1, 4, 8, 16, 32}
    for shape in SHAPES:
        assert {layout.channels_last for layout in GPU_LAYOUTS if layout == Layout(*shape, layout.channels_last)} == {
            True,
            False,
        }


def test_layouts_are_tried_for_a_minute_and_none_that_needs_more_than_one_that_was_too_large(tiny, monkeypatch):
    now, tried = [0.0], []

    def rate(task, examples, layout, tf32):
        tried.append(layout)
        now[0] += card["seconds"]
        return 0.0 if layout.networks >= card["room"] else 1.0

    monkeypatch.setattr(train_many, "model_steps_per_second", rate)
    for seconds, room, most in ((1.0, 99, len(GPU_LAYOUTS)), (10.0, 99, 7), (1000.0, 99, 1), (0.0, 8, 4)):
        card = {"seconds": seconds, "room": room}
        now[0], tried = 0.0, []
        rates = measured_layouts(tiny, tiny.retain, clock=lambda: now[0])
        assert list(rates) == tried
        assert len(tried) == most, (seconds, tried)
    assert [one for one, found in rates.items() if found] == [Layout(1), Layout(1, channels_last=False)]
    assert tried[2:] == [Layout(8), Layout(1, 8)]


def test_the_fewest_networks_are_chosen_that_are_about_as_fast_and_are_not_long_in_training_together():
    eight, many, deep = Layout(8), Layout(4, 4), Layout(32)
    for rates, steps, expected in (
        ({eight: 100.0, many: 90.0}, 100, eight),
        ({eight: 98.0, many: 100.0, deep: 99.0}, 100, eight),  # 3 % are not worth more at once
        ({eight: 90.0, many: 100.0, deep: 103.0}, 100, many),
        ({eight: 90.0, deep: 0.0}, 100, eight),  # too large
        ({eight: 10.0, deep: 20.0}, 200, eight),  # 32 networks would take 320 s
        ({Layout(1): 1.0, eight: 2.0}, 2000, Layout(1)),  # all take longer than that
        ({eight: 50.0, replace(eight, channels_last=False): 51.0}, 100, replace(eight, channels_last=False)),
        ({eight: 0.0}, 100, Layout(1)),
    ):
        assert chosen(rates, steps) == expected, rates


def test_tf32_is_refused_where_networks_are_trained_one_by_one(tiny):
    for task in (replace(tiny, make_net=TinyViT), replace(tiny, train=lambda net, loader, seed: None)):
        with pytest.raises(WorkError, match="trained in stacks"):
            Trainer(task, task.retain, Layout(1), tf32=True)


def test_tf32_is_on_while_networks_are_trained_in_it_and_not_a_moment_longer(tiny, monkeypatch):
    def settings():
        return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()

    before, seen = settings(), {}
    for tf32 in (False, True):
        trainer = Trainer(tiny, tiny.retain, Layout(2), tf32=tf32)
        list(trainer.train([1, 2], lambda tf32=tf32: seen.setdefault(tf32, settings())))
        assert settings() == before
    assert seen == {False: (False, "highest"), True: (True, "high")}
