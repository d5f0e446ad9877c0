"""Networks trained together take the steps that each takes alone."""

import contextlib
from dataclasses import replace

import pytest
import torch

from local_eval.bundle import Bundle, GraphBundle, learning_rates
from local_eval.metric import forgetting_quality
from local_eval.score import confidences, pool_ceiling
from local_eval.task import load_task
from local_eval.train import evaluate, train, training_steps
from local_eval.train_many import GPU_LAYOUTS, Layout, best_layout, train_many

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="replays CUDA graphs, so it needs a GPU")


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


@pytest.mark.parametrize("class_weighted", [True, False])
@pytest.mark.parametrize("normalised", [True, False])
def test_a_bundle_takes_the_plain_loops_steps_in_float64(tiny, class_weighted, normalised):
    """Step for step: after each of the ten, last batches of another size and three learning rates included."""
    task = with_epochs(tiny, 5)
    task = replace(task, recipe=replace(task.recipe, class_weighted=class_weighted))
    examples = replace(task.retain, mean=(120.0, 110.0, 100.0), std=(50.0, 60.0, 70.0)) if normalised else task.retain
    bundle = Bundle(task, examples, [3, 4, 5], torch.float64)
    plain = zip(*(training_steps(task, examples, seed, torch.float64) for seed in (3, 4, 5)))
    images = examples.pixels(slice(0, 8)).double()
    taken = 0
    for _, alone in zip(bundle.steps(), plain):
        taken += 1
        for net, one in zip(bundle.finish(), alone):
            same(net, one, 1e-9)
            one.eval()
            assert torch.allclose(net(images), one(images), rtol=1e-8)
            one.train()
    assert taken == 10
    assert not torch.allclose(net(images), bundle.nets[0](images)), "each has its own seed"


def test_in_float32_both_ways_reach_the_same_networks(tiny):
    for net, seed in zip(train_many(tiny, tiny.retain, [1, 2, 3], Layout(2)), (1, 2, 3)):
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
    (net,) = train_many(task, task.retain, [1], Layout(4))
    expected = train(task, task.retain, 1)
    assert torch.equal(net.fc.weight, expected.fc.weight)


def test_learning_rates_fall_along_a_cosine(tiny):
    rates = learning_rates(with_epochs(tiny, 4).recipe)
    assert rates == pytest.approx([tiny.recipe.lr * x for x in (1.0, 0.8535533906, 0.5, 0.1464466094)])


def test_memory_running_out_makes_the_layout_smaller_until_one_network_is_left(tiny, monkeypatch):
    tried = []

    def full(task, examples, seeds, layout):
        tried.append(layout)
        if layout.networks > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return [None] * len(seeds)

    monkeypatch.setattr("local_eval.train_many._train_at_once", full)
    assert len(train_many(tiny, tiny.retain, [0, 1, 2, 3, 4], Layout(4, 4))) == 5
    assert tried == [Layout(4, 4), Layout(4, 2), Layout(4, 1), Layout(2), Layout(2), Layout(2)]
    monkeypatch.setattr("local_eval.train_many._train_at_once", lambda *_: full(tiny, None, range(9), Layout(9)))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        train_many(tiny, tiny.retain, [0], Layout(1))


def test_a_cpu_stacks_small_networks_only_and_always_the_same_number():
    digits = load_task("digits")
    assert best_layout(digits, digits.retain) == Layout(4)
    from torchvision.models import resnet18

    large = replace(digits, make_net=resnet18)
    assert best_layout(large, large.retain) == Layout(1)


@needs_gpu
@pytest.mark.parametrize("layout", [Layout(1), Layout(4, 2)])
def test_replayed_graphs_take_the_steps_that_are_taken_one_by_one(tiny, layout):
    task = with_epochs(tiny.to("cuda"), 6)
    graph, eager = (kind(task, task.retain, [1, 2]) for kind in (GraphBundle, Bundle))
    for _ in zip(graph.steps(), eager.steps()):
        pass
    for one, other in zip(graph.finish(), eager.finish()):
        found, expected = (torch.from_numpy(evaluate(net, task).forget_logits) for net in (one, other))
        assert torch.allclose(found, expected, atol=2e-2)
    assert len(train_many(task, task.retain, list(range(9)), layout)) == 9


@needs_gpu
def test_on_a_gpu_the_fast_pool_and_the_plain_pool_are_one_pool():
    """Fast oracles against plain ones score like halves of one pool, within the noise of 32 models."""
    task = load_task("digits").to("cuda")
    layout = best_layout(task, task.retain)
    assert layout in GPU_LAYOUTS
    fast = [evaluate(net, task) for net in train_many(task, task.retain, list(range(32)), layout)]
    plain = [evaluate(train(task, task.retain, seed), task) for seed in range(100, 132)]
    labels = task.forget.labels.cpu().numpy()
    from local_eval.records import Record

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
