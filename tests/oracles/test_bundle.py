"""Networks trained together take the steps that each takes alone."""

import contextlib
from dataclasses import replace

import pytest
import torch

from local_eval.isolation.device import exact_convolutions
from local_eval.metric.metric import forgetting_quality
from local_eval.metric.score import confidences, pool_ceiling
from local_eval.oracles.proof import CannotStack
from local_eval.oracles.train import learning_rates, train, training_steps
from local_eval.oracles.train_many import (
    GPU_LAYOUTS,
    Bundle,
    GraphBundle,
    Layout,
    Trained,
    Trainer,
    best_layout,
    model_steps_per_second,
    whole_batches,
)
from local_eval.store.errors import WorkError
from local_eval.tasks.evaluate import evaluate, initial_net
from local_eval.tasks.loading import load_task
from tests.oracles.kinds_of_networks import REFUSED, STACKED


def with_epochs(task, epochs):
    return replace(task, recipe=replace(task.recipe, epochs=epochs, weight_decay=1e-2))


def weights(net):
    """What a network computes with: dead taps and the count of batches do not."""
    return {k: v.clone() for k, v in net.state_dict().items() if "num_batches" not in k}


def same(one, other, tolerance):
    """Do two networks' weights agree, but for taps that never meet a pixel?"""
    for name, value in weights(one).items():
        theirs = weights(other)[name]
        if value.ndim == 4 and value.shape[2:] == (3, 3) and name.startswith(("layer3", "layer4")):
            continue  # at 16x16 pixels these see single pixels; the outputs, compared below, depend on their live taps
        assert torch.allclose(value, theirs, rtol=tolerance, atol=tolerance), name


@pytest.mark.parametrize("class_weighted, normalised, channels_last", [(True, False, True), (False, True, False)])
def test_a_bundle_takes_the_plain_loops_steps_in_float64(tiny, class_weighted, normalised, channels_last):
    """Step for step: after each of the six, last batches of another size and three learning rates included."""
    task = with_epochs(tiny, 3)
    task = replace(task, recipe=replace(task.recipe, class_weighted=class_weighted))
    examples = replace(task.retain, mean=(120.0, 110.0, 100.0), std=(50.0, 60.0, 70.0)) if normalised else task.retain
    bundle = Bundle(task, examples, [3, 4], torch.float64, channels_last)
    assert bundle.images(torch.zeros(2, 3, dtype=torch.int64)).is_contiguous(memory_format=bundle.format)
    plain = zip(*(training_steps(task, examples, seed, torch.float64) for seed in (3, 4)))
    images = examples.pixels(slice(0, 8)).double()
    taken = 0
    for _, alone in zip(bundle.steps(), plain):
        taken += 1
        for net, one in zip(bundle.finish(), alone):
            same(net, one, 1e-9)
            one.eval()
            assert torch.allclose(net(images), one(images), rtol=1e-8)
            one.train()
    assert taken == 6
    assert not torch.allclose(net(images), bundle.nets[0](images)), "each has its own seed"


def test_every_kind_of_network_that_is_stacked_takes_the_plain_loops_steps(tiny):
    """Frozen layers, a batch norm that stays in eval mode, gates: what is learned and what is not."""
    images = tiny.test.pixels(slice(0, 8)).double()
    for name, make in STACKED.items():
        task = replace(with_epochs(tiny, 2), make_net=make)
        bundle = Bundle(task, task.retain, [3, 4], torch.float64)
        plain = [training_steps(task, task.retain, seed, torch.float64) for seed in (3, 4)]
        for _, alone in zip(bundle.steps(), zip(*plain)):  # noqa: B007
            pass
        for net, one, seed in zip(bundle.finish(), alone, (3, 4)):
            for key, value in weights(one).items():
                assert torch.allclose(net.state_dict()[key], value, rtol=1e-8, atol=1e-10), (name, key)
            assert torch.allclose(net(images), one.eval()(images), rtol=1e-7), name
            first = initial_net(task, seed).double().state_dict()
            still = {key for key, value in weights(one).items() if torch.equal(value, first[key])}
            if name == "frozen":
                assert still == {"conv.weight", "conv.bias", "bn.weight", "bn.bias"}
            if name == "batch norm in eval mode":
                assert still == {"bn.running_mean", "bn.running_var"}


def test_in_float32_both_ways_reach_the_same_networks(tiny):
    for net, seed in zip(Trainer(tiny, tiny.retain, Layout(2)).train([1, 2, 3]), (1, 2, 3), strict=True):
        expected = evaluate(train(tiny, tiny.retain, seed), tiny).forget_logits
        assert torch.allclose(
            torch.from_numpy(evaluate(net, tiny).forget_logits), torch.from_numpy(expected), atol=2e-2
        )


def test_networks_that_cannot_be_stacked_are_trained_one_by_one(tiny):
    def make():
        net = tiny.make_net()
        net.layer1[0].bn1 = torch.nn.GroupNorm(1, 2)
        return net

    task = replace(tiny, make_net=make)
    for net, seed in zip(Trainer(task, task.retain, Layout(2)).train([1, 2, 3]), (1, 2, 3), strict=True):
        assert torch.equal(net.fc.weight, train(task, task.retain, seed).fc.weight)
    assert model_steps_per_second(task, task.retain, Layout(2)) == 0
    for kind in (Bundle, GraphBundle):
        with pytest.raises(CannotStack):
            kind(task, task.retain, [1, 2])


def test_steps_of_networks_that_are_trained_one_by_one_are_told_too(tiny):
    taken = []
    task = replace(tiny, make_net=REFUSED["F.dropout"][0])
    list(Trainer(task, task.retain, Layout(1)).train([1], lambda: taken.append(1)))
    assert len(taken) == 2


def test_learning_rates_fall_along_a_cosine(tiny):
    rates = learning_rates(with_epochs(tiny, 4).recipe)
    assert rates == pytest.approx([tiny.recipe.lr * x for x in (1.0, 0.8535533906, 0.5, 0.1464466094)])


class FullMemory(Trainer):
    """A trainer on a card with room for some networks; a network is the seed that it was trained from."""

    room, full = 2, torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def _train_at_once(self, seeds, following, stepped):
        self.tried = [*getattr(self, "tried", []), self.layout]
        if self.layout.networks > self.room:
            raise self.full
        return [Trained(seeds, 1.0, lambda: seeds, lambda: seeds)]


def test_memory_running_out_makes_the_layout_smaller_for_good_and_until_one_network_is_left(tiny):
    trainer = FullMemory(tiny, tiny.retain, Layout(4, 4))
    assert list(trainer.train([0, 1, 2, 3, 4])) == [0, 1, 2, 3, 4]
    assert list(trainer.train([5, 6])) == [5, 6]
    assert trainer.tried == [Layout(4, 4), Layout(4, 2), Layout(4, 1), *[Layout(2)] * 4]
    trainer.room = 0
    with pytest.raises(WorkError, match="too small to train a single network of this task .CUDA out of memory"):
        list(trainer.train([0]))


def test_full_memory_is_known_by_all_its_names_and_other_errors_are_not_taken_for_it(tiny):
    for said in ("FIND was unable to find an engine to execute this computation", "CUDA error: out of memory"):
        trainer = FullMemory(tiny, tiny.retain, Layout(4))
        trainer.full = RuntimeError(said)
        assert list(trainer.train([0, 1, 2])) == [0, 1, 2]
    trainer = FullMemory(tiny, tiny.retain, Layout(4))
    trainer.full = RuntimeError("CUDA error: device-side assert triggered")
    with pytest.raises(RuntimeError, match="assert"):
        list(trainer.train([0, 1, 2]))


def test_networks_finished_before_memory_ran_out_are_not_trained_again(tiny):
    trainer = FullMemory(tiny, tiny.retain, Layout(2))
    nets = trainer.train([0, 1, 2, 3])
    found = [next(nets), next(nets)]
    trainer.room = 1
    assert found + list(nets) == [0, 1, 2, 3]
    assert trainer.tried == [Layout(2), Layout(2), Layout(1), Layout(1)]


def test_a_layout_that_does_not_fit_into_memory_is_not_chosen(tiny, monkeypatch):
    def full(*_):
        raise FullMemory.full

    monkeypatch.setattr("local_eval.oracles.train_many.make_bundles", full)
    assert model_steps_per_second(tiny, tiny.retain, Layout(4)) == 0
    monkeypatch.setattr(FullMemory, "full", RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal"):
        model_steps_per_second(tiny, tiny.retain, Layout(4))


def test_only_whole_batches_are_timed_unless_there_are_none(tiny):
    assert [len(whole_batches(tiny.retain, size)) for size in (64, 96, 200)] == [64, 96, 96]
    assert model_steps_per_second(tiny, tiny.retain, Layout(1)) == 0  # one step, all of it warm-up
    assert model_steps_per_second(with_epochs(tiny, 20), tiny.retain, Layout(2)) > 0


def test_a_cpu_stacks_small_networks_only_and_always_the_same_number():
    digits = load_task("digits")
    assert best_layout(digits, digits.retain) == Layout(4)
    from torchvision.models import resnet18

    large = replace(digits, make_net=resnet18)
    assert best_layout(large, large.retain) == Layout(1)


@pytest.mark.gpu
@pytest.mark.parametrize("layout", [Layout(1), Layout(1, 4, channels_last=False), Layout(4, 2)])
def test_replayed_graphs_take_the_steps_that_are_taken_one_by_one(tiny, layout):
    task = with_epochs(tiny.to("cuda"), 6)
    graph, eager = (kind(task, task.retain, [1, 2]) for kind in (GraphBundle, Bundle))
    with exact_convolutions(same_shapes=True):
        for _ in zip(graph.steps(), eager.steps()):
            pass
    for one, other in zip(graph.finish(), eager.finish()):
        found, expected = (torch.from_numpy(evaluate(net, task).forget_logits) for net in (one, other))
        assert torch.allclose(found, expected, atol=2e-2)
    assert len(list(Trainer(task, task.retain, layout).train(list(range(9))))) == 9


@pytest.mark.gpu
def test_on_a_gpu_the_fast_pool_and_the_plain_pool_are_one_pool():
    """Fast oracles against plain ones score like halves of one pool, within the noise of 32 models."""
    task = load_task("digits").to("cuda")
    trainer = Trainer(task, task.retain)
    assert trainer.layout in GPU_LAYOUTS
    fast = [evaluate(net, task) for net in trainer.train(list(range(32)))]
    plain = [evaluate(train(task, task.retain, seed), task) for seed in range(100, 132)]
    labels = task.forget.labels.cpu().numpy()
    from local_eval.store.records import Record

    fast, plain = (confidences([Record(e, {}, {}) for e in pool], labels) for pool in (fast, plain))
    ceiling = (pool_ceiling(fast) + pool_ceiling(plain)) / 2
    assert abs(forgetting_quality(fast, plain) - ceiling) < 0.05


class RecordedOnACpu(GraphBundle):
    """A graph bundle whose recording is played by Python: what is inside `torch.cuda.graph` runs on replay only."""

    recording = False

    def make_optimizer(self):
        self.rate = torch.tensor(self.recipe.lr, dtype=torch.float64)
        return torch.optim.Adam(self.stacked.parameters(), self.rate, weight_decay=self.recipe.weight_decay)

    def step(self, batch):
        if RecordedOnACpu.recording:
            Replay.latest.work = lambda: GraphBundle.step(self, batch)
        else:
            super().step(batch)


class Replay:
    """Stands in for torch.cuda.CUDAGraph."""

    def __init__(self):
        Replay.latest, self.replayed = self, 0

    def replay(self):
        self.replayed += 1
        self.work()


@contextlib.contextmanager
def recording(graph, stream):
    RecordedOnACpu.recording = True
    yield
    RecordedOnACpu.recording = False


def test_warm_up_recording_and_replay_take_every_step_once(tiny, monkeypatch):
    """The bookkeeping around CUDA graphs, without a GPU: batches of two sizes, and rates that change between epochs."""
    for name, stand_in in (("CUDAGraph", Replay), ("graph", recording), ("Stream", lambda device: None)):
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    task = with_epochs(tiny, 7)
    graphs = RecordedOnACpu(task, task.retain, [3, 4])
    plain = Bundle(task, task.retain, [3, 4])
    for _ in zip(graphs.steps(), plain.steps()):
        pass
    assert {size: graph.replayed for size, (graph, _) in graphs.recorded.items()} == {64: 4, 32: 4}
    for one, other in zip(graphs.finish(), plain.finish()):
        assert torch.allclose(one.fc.weight, other.fc.weight, atol=1e-4)
