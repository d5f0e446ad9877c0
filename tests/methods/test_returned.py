"""What is returned and not in `net` is refused, and the line that is printed saves it."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from local_eval.methods.contract import check_result
from local_eval.methods.source import SubmissionError


class Shadow(nn.Module):
    """An average of weights as others write it."""

    def __init__(self, net):
        super().__init__()
        self.ema_model, self.decay = copy.deepcopy(net), nn.Parameter(torch.ones(1))


class Keeper:
    """The same without being a module."""

    def __init__(self, net):
        self.decay, self.average = 0.9, copy.deepcopy(net)


class Names:
    """As it keeps a state dict."""

    def __init__(self, net):
        self.shadow = {name: value.clone() for name, value in net.named_parameters()}


def averaged(net):
    average = AveragedModel(net)
    average.update_parameters(net)
    return average


RETURNED = {
    "AveragedModel": averaged,
    "its state": lambda net: averaged(net).state_dict(),
    "in a tuple": lambda net: (averaged(net), [0.5]),
    "an average in a compiled net": lambda net: averaged(torch.compile(net)),
    "DataParallel": lambda net: nn.DataParallel(copy.deepcopy(net)),
    "DataParallel of an average": lambda net: nn.DataParallel(averaged(net)),
    "compiled": lambda net: torch.compile(copy.deepcopy(net)),
    "its state, compiled": lambda net: torch.compile(copy.deepcopy(net)).state_dict(),
    "a copy": copy.deepcopy,
    "a module of one's own": Shadow,
    "its own state": lambda net: {k: v for k, v in Shadow(net).state_dict().items() if k != "decay"},
    "one in a list": lambda net: nn.Sequential(nn.Flatten(), copy.deepcopy(net)),
    "parameters alone": lambda net: {name: value.clone() for name, value in net.named_parameters()},
    "float64": lambda net: copy.deepcopy(net).double(),
    "an object": Keeper,
    "an object with a state": Names,
}


def net_and_state(tiny):
    net = tiny.make_net()
    return net, {name: value.clone() for name, value in net.state_dict().items()}


def test_the_line_that_is_printed_saves_what_was_returned(tiny):
    for kind, make in RETURNED.items():
        net, original = net_and_state(tiny)
        better = copy.deepcopy(net)
        with torch.no_grad():
            for value in better.parameters():
                value.add_(1.0)
        returned = make(better)
        with pytest.raises(SubmissionError, match="would be lost: end with") as reported:
            check_result(net, returned, original)
        line = re.search(r"end with (.*)\. Only the net passed in", str(reported.value)).group(1)
        new = returned[0] if isinstance(returned, tuple) else returned
        exec(line, {"net": net, "new": new, "state": getattr(new, "shadow", new)})
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), better.parameters())), kind
        check_result(net, returned, original)  # and it may still be returned


def test_what_net_holds_too_may_be_returned(tiny):
    for make in RETURNED.values():
        net, original = net_and_state(tiny)
        check_result(net, make(net), original)


def test_a_teacher_that_an_object_keeps_is_no_result_where_net_was_changed(tiny):
    net, original = net_and_state(tiny)
    returned = Keeper(net)
    with torch.no_grad():
        net.fc.bias.add_(1.0)
    check_result(net, returned, original)
