"""The pretended card keeps CUDA's rules: what would fail on a card fails on it, in the same words, and is counted."""

import os
import re
import signal

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.pretended_card.card import CARD
from tests.pretended_card.install import as_if_spawned

DEVICES = "Expected all tensors to be on the same device"


def words(work) -> str:
    """The error that a piece of work raises, in one line; nothing if there is none."""
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def counted(work, what: str) -> int:
    """How many more waits or kernels there are after a piece of work."""
    counter = getattr(CARD, what)
    before = sum(counter.values())
    work()
    return sum(counter.values()) - before


def test_tensors_of_two_devices_do_not_meet_but_where_cuda_lets_them(card):
    def work():
        here, there, other = torch.rand(4, 4), torch.rand(4, 4).to("cuda"), torch.rand(4, 4).to("cuda:1")
        index, net = torch.tensor([1, 2]), nn.Linear(4, 4).to("cuda")
        wrong = [
            lambda: here + there, lambda: there @ here, lambda: torch.cat([there, here]), lambda: there + other,
            lambda: there.add_(here), lambda: net(here), lambda: net(other), lambda: here[index.to("cuda")],
            lambda: F.cross_entropy(there, index.repeat(2)), lambda: there.index_put_((index,), here[:2]),
            lambda: torch.stack([torch.tensor(1.0), there.sum()]), lambda: torch.where(there > 0, there, here),
            lambda: here.add_(there), lambda: torch._foreach_add([there], [here]),
        ]  # fmt: skip
        right = [
            lambda: there + torch.tensor(2.0), lambda: there[index], lambda: here.copy_(there), lambda: there * 2,
            lambda: there.to("cuda:1") + other, lambda: net(there), lambda: there.cpu() + here,
            lambda: there + here.to(there), lambda: there.index_put_((index,), torch.tensor(0.0)),
        ]  # fmt: skip
        return [words(w) for w in wrong], [words(r) for r in right]

    wrong, right = card(cards=2).alone(work)
    assert all(re.search(DEVICES + "|indices should be", said) for said in wrong), wrong
    assert not any(right), right


def test_values_and_gradients_are_the_cpus_to_the_bit(card):
    def work():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
        images, labels, found = torch.rand(5, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1]), []
        for device in ("cpu", "cuda"):
            import copy

            mine = copy.deepcopy(net).to(device)
            optimizer = torch.optim.Adam(mine.parameters(), 0.1)
            for _ in range(2):
                optimizer.zero_grad()
                F.cross_entropy(mine(images.to(device)), labels.to(device)).backward()
                optimizer.step()
            found.append([value.cpu() for value in mine.state_dict().values()])
        return all(map(torch.equal, *found))

    assert card().alone(work)


def test_gradients_come_back_through_a_copy_and_weights_may_be_replaced_in_place(card):
    def work():
        x = torch.ones(3, requires_grad=True)
        (2 * x.to("cuda")).sum().backward()
        weight = nn.Parameter(torch.zeros(3).to("cuda"))
        weight.data = torch.ones(3).to("cuda")
        weight.data.mul_(3)
        return [x.grad.tolist(), x.grad.device.type, weight.detach().cpu().tolist()]

    assert card().alone(work) == [[2.0] * 3, "cpu", [3.0] * 3]


def test_every_call_for_which_the_cpu_waits_is_counted_and_others_are_not(card):
    def work():
        x, host, index = torch.rand(4).to("cuda"), torch.rand(4), torch.tensor([1, 2]).to("cuda")
        pinned = host.pin_memory()
        waits = [
            x.sum().item, x.cpu, x.tolist, lambda: bool(x[0] > 0), lambda: x[x > 0.5], x.nonzero,
            lambda: host.to("cuda"), lambda: x.to("cpu", non_blocking=True), torch.cuda.synchronize,
            lambda: x[torch.tensor([1])],
            lambda: torch.tensor([1], device="cuda"), lambda: host.to("cuda", non_blocking=True), lambda: x.unique(),
        ]  # fmt: skip
        goes_on = [
            lambda: x * 2, lambda: x[index], lambda: x.view(2, 2), lambda: pinned.to("cuda", non_blocking=True),
            lambda: torch.zeros(3, device="cuda"), lambda: x.argmax(), lambda: x.clone().copy_(x), lambda: x[1:3],
        ]  # fmt: skip
        kernels = [counted(x.t, "kernels"), counted(lambda: x * 2, "kernels"), counted(lambda: x[1:] + 1, "kernels")]
        return [counted(w, "waits") for w in waits], [counted(g, "waits") for g in goes_on], kernels

    waits, goes_on, kernels = card().alone(work)
    assert waits == [1] * len(waits)
    assert goes_on == [0] * len(goes_on)
    assert kernels == [0, 1, 1]


def test_a_tensor_on_the_card_is_no_array_but_can_be_copied_and_saved(card):
    def work():
        import copy
        import io

        x, file = torch.rand(3).to("cuda"), io.BytesIO()
        torch.save(x, file)
        file.seek(0)
        again = [copy.deepcopy(x), torch.load(file, weights_only=False), x.clone(), x.detach(), x.data]
        return words(x.numpy), [str(a.device) for a in again], all(torch.equal(a, x) for a in again)

    array, devices, equal = card().alone(work)
    assert "can't convert cuda:0 device type tensor to numpy" in array
    assert devices == ["cuda:0"] * 5 and equal


def test_a_recording_computes_nothing_and_its_replay_does_it_again_on_the_same_memory(card):
    def work():
        graph, total, step = torch.cuda.CUDAGraph(), torch.zeros(2).to("cuda"), torch.ones(2).to("cuda")
        with torch.cuda.graph(graph):
            total.add_(step)
            twice = (total * 2)[1:]
        found = [total.tolist()]
        for value in (1.0, 10.0):
            step.fill_(value)
            graph.replay()
            found += [total.tolist(), twice.tolist()]
        return found

    assert card().alone(work) == [[0.0, 0.0], [1.0, 1.0], [2.0], [11.0, 11.0], [22.0]]


def test_nothing_may_wait_while_a_graph_is_recorded(card):
    def work():
        x = torch.rand(3).to("cuda")
        waits = [x.sum().item, torch.cuda.synchronize, x.cpu, lambda: torch.ones(3).to("cuda"), lambda: x[x > 0]]

        def recorded(wait):
            with torch.cuda.graph(torch.cuda.CUDAGraph()):
                try:
                    wait()
                except RuntimeError as error:
                    assert "not permitted when stream is capturing" in str(error)

        return [words(lambda wait=wait: recorded(wait)) for wait in waits] + [words(lambda: x + 1)]

    *spoilt, later = card().alone(work)
    assert all("failed due to a previous error during capture" in said for said in spoilt) and not later


def test_a_fork_of_a_process_that_has_used_the_card_cannot_use_it(card):
    def in_fork(before):
        def work():
            before()
            reader, writer = os.pipe()
            if os.fork() == 0:
                os.write(writer, words(lambda: torch.zeros(1, device="cuda")).encode() or b"fine")
                os._exit(0)
            return os.read(reader, 9999).decode()

        return card().alone(work)

    assert "Cannot re-initialize CUDA in forked subprocess" in in_fork(lambda: torch.zeros(1, device="cuda"))
    assert "Cannot re-initialize CUDA in forked subprocess" in in_fork(lambda: torch.cuda.is_available())
    assert in_fork(lambda: os.environ.update(PYTORCH_NVML_BASED_CUDA_CHECK="1") or torch.cuda.is_available()) == "fine"
    assert in_fork(lambda: None) == "fine"


def test_the_ledger_knows_every_context_of_every_process_and_card(card):
    def work():
        torch.zeros(1, device="cuda:1")
        torch.zeros(1).cuda(0)
        return os.getpid()

    mine, none = card(cards=2), card()
    process = mine.alone(work)
    assert mine.contexts() == 2 and mine.contexts_of(0) == mine.contexts_of(1) == {process}
    none.alone(lambda: torch.zeros(3).tolist())
    assert none.contexts() == 0
    assert "invalid device ordinal" in none.alone(lambda: words(lambda: torch.zeros(1, device="cuda:1")))


@pytest.mark.parametrize("exclusive", [True, False])
def test_an_exclusive_card_takes_one_process_until_that_ends(card, exclusive):
    mine = card(exclusive=exclusive)

    def work():
        reader, writer = os.pipe()
        other = os.fork()
        if other == 0:
            as_if_spawned()
            torch.zeros(1, device="cuda")
            os.write(writer, b"has it")
            signal.pause()
        os.read(reader, 9)
        while_it_lives = words(lambda: torch.zeros(1, device="cuda"))
        os.kill(other, 9)
        os.waitpid(other, 0)
        return while_it_lives, words(lambda: torch.zeros(1, device="cuda"))

    while_it_lives, afterwards = mine.alone(work)
    assert ("busy or unavailable" in while_it_lives) is exclusive and afterwards == ""


def test_memory_has_a_limit_and_is_free_again(card):
    def work():
        def fill():
            held = [torch.zeros(1000, device="cuda") for _ in range(20)]
            return len(held)

        first = words(fill)
        view = [torch.zeros(4000, device="cuda")]
        view = view[0][:10]
        return first, torch.cuda.mem_get_info(), words(lambda: torch.zeros(9000, device="cuda"))

    full, (free, total), again = card(memory=40_000).alone(work)
    assert "OutOfMemoryError: CUDA out of memory" in full and "OutOfMemoryError" in again
    assert (free, total) == (40_000 - 16_000, 40_000)


def test_full_memory_in_a_recording_is_masked_by_its_end(card):
    def work():
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            torch.zeros(9, device="cuda") + 1

    mine = card(full_recordings=1)
    assert "failed due to a previous error during capture" in mine.alone(lambda: words(work))
    assert mine.alone(lambda: (words(work), words(work))[1]) == ""
