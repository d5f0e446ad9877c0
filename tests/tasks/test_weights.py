"""Weights of one's own are taken in every usual form, and what does not fit is refused before anything is trained."""

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from local_eval.store.errors import InputError
from local_eval.store.sealed import seal_state
from local_eval.tasks.evaluate import initial_net
from local_eval.tasks.loading import load_task, ready
from local_eval.tasks.names import with_changes
from local_eval.tasks.task import structure
from local_eval.tasks.weights import digest_of, heads_of
from tests.conftest import TINY


class Net(nn.Module):
    """A body and a head, for images of 16x16."""

    def __init__(self, classes=3, width=4, head=None):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, width, 3, stride=4), nn.BatchNorm2d(width), head
        self.fc = head or nn.Linear(width, classes)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).mean(dim=(2, 3)))


def state(seed=1, **named):
    torch.manual_seed(seed)
    return Net(**named).state_dict()


def cast(kind):
    return {name: v.to(kind) if v.is_floating_point() else v for name, v in state().items()}


def prefixed(prefix):
    return OrderedDict((prefix + name, value) for name, value in state().items())


def counted_out():
    return {name: value for name, value in state().items() if not name.endswith("num_batches_tracked")}


def net_with(weights):
    net = Net()
    net.load_state_dict(weights)
    return net


TAKEN = {
    "state dict": state,
    "network": lambda: net_with(state()),
    "data parallel": lambda: nn.DataParallel(net_with(state())),
    "wrapped": lambda: {"state_dict": state(), "epoch": 3},
    "wrapped as model": lambda: {"model": state(), "best_acc": 0.9},
    "of DataParallel": lambda: prefixed("module."),
    "compiled": lambda: {"state_dict": prefixed("module._orig_mod.")},
    "of a lightning module": lambda: {"state_dict": prefixed("model.")},
    "without counters": counted_out,
    "in another order": lambda: dict(reversed(state().items())),
    "with gradients": lambda: dict(net_with(state()).named_parameters()) | dict(net_with(state()).named_buffers()),
    "double": lambda: cast(torch.float64),
}
ROUNDED = {"half": torch.float16, "bfloat16": torch.bfloat16}


@pytest.fixture
def base(tiny):
    return replace(tiny, make_net=Net)


def loaded(task, folder):
    return ready(task, folder / "cells.py", folder / "cells.py")


def test_an_original_is_taken_in_every_usual_form_from_memory_and_from_a_file(base, tmp_path):
    for form in TAKEN:
        for file in ["", "original.pth", "model.pt", "checkpoint.pth.tar"]:
            given = TAKEN[form]()
            if file:
                content = given.state_dict() if isinstance(given, nn.Module) else given
                torch.save(content, tmp_path / file)
                given = file  # beside the task's file
            found = loaded(replace(base, original=given), tmp_path).original
            assert list(found) == list(state())
            assert all(torch.equal(found[name], v) for name, v in state().items() if "num_batches" not in name)
            assert all(
                found[name].dtype == value.dtype and not found[name].requires_grad for name, value in state().items()
            )


def test_other_precisions_are_read_as_float32_and_that_is_said(base, tmp_path):
    for form in ROUNDED:
        task = loaded(replace(base, original=cast(ROUNDED[form])), tmp_path)
        expected = {name: v.float() if v.is_floating_point() else v for name, v in cast(ROUNDED[form]).items()}
        assert all(torch.equal(task.original[name], value) for name, value in expected.items())
        assert any("read as float32" in note and "cells.py: Task.original" in note for note in task.notes)


def test_one_model_has_one_hash_in_whatever_file_it_is_kept(base, tmp_path):
    torch.save({"state_dict": prefixed("module.")}, tmp_path / "a.pth")
    save_file(dict(state()), tmp_path / "b.safetensors")  # which sorts by name
    (tmp_path / "c.npz").write_bytes(seal_state(state(), {"fingerprint": "any"}))
    found = [loaded(replace(base, original=file), tmp_path).original for file in ("a.pth", "b.safetensors", "c.npz")]
    assert len({digest_of(one) for one in found}) == 1


class Calls:
    def __reduce__(self):
        return print, ("gotcha",)


REFUSED = {
    "another head": (lambda: state(classes=10), r"fc\.weight has shape \(10, 4\).*\(3, 4\).*10 outputs instead of 3"),
    "another width": (lambda: state(width=6), r"conv\.weight has shape \(6, 3, 3, 3\).*\(4, 3, 3, 3\)"),
    "another network": (lambda: nn.Linear(2, 2).state_dict(), r"it lacks conv\.weight.* and 5 more and it has weight"),
    "part of it": (lambda: {k: v for k, v in state().items() if "fc" not in k}, r"it lacks fc\.weight, fc\.bias"),
    "more than it": (lambda: state() | {"ema": torch.ones(3)}, "it has ema, which that network has not"),
    "not a number": (lambda: state() | {"fc.bias": torch.tensor([1.0, torch.nan, 0])}, "fc.bias holds NaN or infinite"),
    "infinite": (lambda: state() | {"norm.running_var": torch.full((4,), torch.inf)}, "running_var holds NaN or inf"),
    "integers": (lambda: state() | {"fc.bias": torch.tensor([1, 2, 3])}, "fc.bias is torch.int64"),
    "two state dicts": (lambda: {"model": state(), "ema": state()}, "several state dicts: model, ema"),
    "empty": (dict, "it lacks conv.weight"),
    "a list": (lambda: [1, 2], "is a list; give the path"),
    "a number": (lambda: 3, "is a int; give the path"),
    "arrays": (lambda: {k: v.numpy() for k, v in state().items()}, "holds no state dict"),
}


def test_what_does_not_fit_is_refused_when_the_task_loads_and_named(base, tmp_path):
    for kind in REFUSED:
        make, message = REFUSED[kind]
        with pytest.raises(InputError, match=f"cells.py: Task.original.*{message}"):
            loaded(replace(base, original=make()), tmp_path)


def test_files_that_cannot_be_used_are_refused_by_name(base, tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "short.safetensors").write_bytes(b"12")
    (tmp_path / "folder.pth").mkdir()
    torch.save(Calls(), tmp_path / "code.pth")
    torch.save(net_with(state()), tmp_path / "whole.pth")
    torch.save(state(), tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:-300])
    (tmp_path / "other.npz").write_bytes(b"PK rubbish")
    messages = {"none.pth": "does not exist", "folder.pth": "cannot be read", "text.pth": "torch.save writes today"}
    messages |= {"code.pth": "would call", "whole.pth": r"would call.*torch.save\(net.state_dict\(\), path\)"}
    messages |= {"cut.pth": "cut off", "short.safetensors": "no safetensors", "other.npz": "damaged"}
    for name, message in messages.items():
        for given in (name, tmp_path / name):
            with pytest.raises(InputError, match=rf"{name}.*{message}"):
                loaded(replace(base, original=given), tmp_path)


def test_a_start_gives_all_but_the_head_which_is_drawn_anew_for_every_seed(base, tmp_path):
    body = {k: v for k, v in state().items() if "fc" not in k}
    sequence = replace(base, make_net=lambda: Net(head=nn.Sequential(nn.Dropout(), nn.Linear(4, 3))))
    cases = [(base, body), (base, state(classes=10)), (sequence, state()), (base, {"state_dict": prefixed("module.")})]
    for number, (task, start) in enumerate(cases):
        task = loaded(replace(task, start=start), tmp_path)
        one, other = (initial_net(task, seed).state_dict() for seed in (1, 2))
        assert torch.equal(one["conv.weight"], state()["conv.weight"])
        assert torch.equal(one["conv.bias"], other["conv.bias"])
        head = [name for name in one if name.startswith("fc")]
        same = all(torch.equal(one[name], other[name]) for name in head)
        assert same == (number == 3), "a head that fits is taken too"
        assert any("fc" in note and "drawn anew" in note for note in task.notes) == (number != 3)
        if number < 2:
            plain = initial_net(base, 1).state_dict()
            assert torch.equal(one["fc.weight"], plain["fc.weight"]), "as it is drawn without a start"


def test_a_start_that_lacks_more_than_the_head_is_refused(base, tmp_path):
    for start, message in (
        ({k: v for k, v in state().items() if "norm" not in k}, r"it lacks norm\.weight"),
        (state(width=6, classes=10), r"conv\.weight has shape \(6, 3, 3, 3\)"),
        (state() | {"projection.weight": torch.ones(2, 2)}, r"it has projection\.weight"),
        ({}, r"it lacks conv\.weight"),
        (state() | {"conv.bias": torch.full((4,), torch.nan)}, "conv.bias holds NaN"),
    ):
        with pytest.raises(InputError, match=f"Task.start.*{message}"):
            loaded(replace(base, start=start), tmp_path)


def test_a_layer_in_the_middle_with_as_many_outputs_as_classes_is_no_head():
    net = nn.Sequential(OrderedDict(a=nn.Linear(4, 3), b=nn.ReLU(), c=nn.Linear(3, 5), d=nn.Linear(5, 3)))
    assert heads_of(net, 3) == ["d"]
    assert heads_of(net, 7) == []


def test_the_fingerprint_follows_the_start_and_not_the_original(base, tmp_path):
    plain = base.fingerprint()
    assert loaded(replace(base, original=state()), tmp_path).fingerprint() == plain
    starts = [loaded(replace(base, start=state(seed)), tmp_path).fingerprint() for seed in (1, 2, 1)]
    assert starts[0] == starts[2] != starts[1] and plain not in starts


def test_an_original_of_the_command_line_goes_into_the_task(tmp_path):
    own = load_task(TINY).make_net()
    torch.save({"net": own.half().state_dict()}, tmp_path / "mine.pth")
    task = load_task(with_changes(TINY, {"original": str(tmp_path / "mine.pth")}))
    assert torch.equal(task.original["fc.weight"], own.float().state_dict()["fc.weight"])
    assert structure(repr(task.make_net())) == structure(repr(own))
    assert any("mine.pth" in note and "taken from 'net', float16 read as float32" in note for note in task.notes)
