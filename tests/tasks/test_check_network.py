"""A network that cannot be graded is refused when the task loads, in a sentence that blames the task."""

import re
import threading
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18

from local_eval.isolation.device import drawn_so_far
from local_eval.tasks.check import _known, check_network
from local_eval.tasks.names import TaskError

PATH = Path("my_task.py")


class Flat(nn.Module):
    """One linear layer; 16x16 pixels."""

    def __init__(self, classes=3):
        super().__init__()
        self.head = nn.Linear(768, classes)

    def forward(self, x):
        return self.head(x.flatten(1))


def variant(setup=lambda self: None, **methods):
    """make_net of networks like Flat with other methods, and something done at the end of their construction."""

    def start(self):
        Flat.__init__(self)
        setup(self)

    return type("Net", (Flat,), {"__init__": start, **methods})


class Output:
    """What transformers answers with, in short."""

    def __init__(self, logits):
        self.logits, self.loss = logits, None


def logits(self, x):
    return Flat.forward(self, x)


def fails_in_train_mode(self, x):
    return logits(self, x if not self.training else x[:, :, 1:])


def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))


def with_state(self):
    type(self).get_extra_state = lambda self: {"steps": 0}


def strict_version(self):
    """As torchvision's MNASNet: it asks for what a file of arrays does not keep."""

    def load(self, state, prefix, metadata, *rest):
        if metadata.get("version") is None:
            raise ValueError("version should be set to 1 or 2 instead of None")

    type(self)._load_from_state_dict = load


def frozen(self):
    self.requires_grad_(False)


def random_projection(self):
    self.register_buffer("projection", torch.randn(768), persistent=False)
    nn.init.zeros_(self.head.weight)


def random_attribute(self):
    self.shift = torch.randn(768)


def random_permutation(self):
    self.places = torch.randperm(768).tolist()
    nn.init.zeros_(self.head.weight)


def random_number(self):
    self.gain = np.random.rand()


def lock(self):
    self.lock = threading.Lock()


def own_source(self):
    self.head.weight.data = torch.from_numpy(np.random.default_rng().normal(size=(3, 768))).float()


ONE, SHARED, NORM = Flat(), nn.Linear(768, 3), nn.BatchNorm2d(64)
POOL = [Flat(), Flat()]


def from_a_pool():
    POOL.append(POOL.pop(0))
    return POOL[0]


def of_any_width():
    width = int(torch.randint(2, 1000, ()))
    return nn.Sequential(nn.Flatten(), nn.Linear(768, width), nn.Linear(width, 3))


REFUSED = {
    "one network again and again": (lambda: ONE, "one and the same network again; .*copy.deepcopy"),
    "two in turn": (from_a_pool, "one and the same network again"),
    "a shared layer": (variant(lambda self: setattr(self, "head", SHARED)), "share head.weight"),
    "a copy that shares": (lambda: nn.Sequential(ONE), "share 0.head.weight"),
    "a cached function of torchvision's": (lru_cache(partial(resnet18, num_classes=3)), "one and the same"),
    "torchvision's with a shared layer": (partial(resnet18, num_classes=3, norm_layer=lambda _: NORM), "share bn1"),
    "a network for a function": (Flat(), "make_net is a network; make_net must make a fresh"),
    "a class's name": ("Flat", "make_net is a str"),
    "nothing": (lambda: None, r"make_net\(\) gives a NoneType"),
    "an error": (lambda: Flat(clases=3), r"make_net\(\) fails: TypeError: .*clases"),
    "a module that is missing": (lambda: __import__("no_such_package"), "fails: ModuleNotFoundError"),
    "a lazy layer": (lazy, r"size of 1.weight is not known .* net\(torch.zeros\(1, 3, 16, 16\)\)"),
    "a tuple": (variant(forward=lambda self, x: (logits(self, x), x)), r"eval mode .* type tuple, .*else out\[0\]"),
    "a tuple, features first": (variant(forward=lambda self, x: (x, logits(self, x))), r"else out\[1\]"),
    "an object": (variant(forward=lambda self, x: Output(logits(self, x))), r"type Output, .*else out\.logits"),
    "a dict": (variant(forward=lambda self, x: {"logits": logits(self, x)}), r"type dict, .*else out\['logits'\]"),
    "a dict of maps": (variant(forward=lambda self, x: {"out": x}), r"type dict, .*change its forward\(\)"),
    "auxiliary outputs in train mode": (
        variant(forward=lambda self, x: (logits(self, x),) * 2 if self.training else logits(self, x)),
        r"train mode the network answers with .* type tuple, .*else out\[0\]",
    ),
    "an error in eval mode": (variant(forward=lambda self, x: self.body(x)), "eval mode .* 1 of the task's images, 3"),
    "another size of images": (lambda: nn.Sequential(nn.Conv2d(3, 3, 17), nn.Flatten()), "16x16 pixels: RuntimeError"),
    "one image squeezed": (variant(forward=lambda self, x: logits(self, x).squeeze()), r"an image with \(3,\)"),
    "a batch averaged": (variant(forward=lambda self, x: logits(self, x).mean(0, True)), r"2 images with \(1, 3\)"),
    "an error in train mode": (variant(forward=fails_in_train_mode), "in train mode the network cannot take 2"),
    "logits for one class more": (lambda: Flat(4), r"an image with \(1, 4\), but num_classes is 3"),
    "whole numbers": (variant(forward=lambda self, x: logits(self, x).long()), "answers with torch.int64"),
    "NaN": (variant(forward=lambda self, x: logits(self, x).abs().neg().sqrt()), "NaN or infinite values in eval"),
    "nothing to learn": (variant(frozen), "no parameter has requires_grad"),
    "detached": (variant(forward=lambda self, x: logits(self, x).detach()), "cannot be trained"),
    "half precision that cannot be kept": (lambda: Flat().bfloat16(), "bfloat16 on cpu, cannot be kept"),
    "state that is no tensor": (variant(with_state), "_extra_state in the network's state dict is a dict"),
    "a state dict that it does not take": (variant(strict_version), "does not take its own state dict: ValueError"),
    "a lock": (variant(lock), "cannot be copied"),
    "weights from a source that no seed governs": (variant(own_source), "head.weight differently each time"),
    "another structure each time": (of_any_width, "different structures"),
    "a random buffer outside the state": (
        variant(random_projection, forward=lambda self, x: self.head(x.flatten(1) * self.projection)),
        "projection differs .* register it",
    ),
    "a random tensor outside the state": (
        variant(random_attribute, forward=lambda self, x: self.head(x.flatten(1) + self.shift)), "shift differs",
    ),
    "a random number outside the state": (
        variant(random_number, forward=lambda self, x: logits(self, x) * self.gain), "gain differs",
    ),
    "a random permutation behind a head of zeros": (
        variant(random_permutation, forward=lambda self, x: self.head(x.flatten(1)[:, self.places])),
        "one state dict answer differently",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_graded_is_refused_in_a_sentence_with_the_tasks_file(tiny):
    for name, (make, message) in REFUSED.items():
        with pytest.raises(TaskError) as refused:
            check_network(replace(tiny, make_net=make), PATH)
        said = str(refused.value)
        assert said.startswith("my_task.py: "), (name, said)
        assert re.search(message, said, re.DOTALL), (name, said)
        assert "Traceback" not in said, name


def the_wrapper(said: str) -> type:
    """The class that a message says to write."""
    lines, found = said.split("\n\n", 2)[1:], {"torch": torch}
    code = "\n\n".join(lines).partition("\n\nand give")[0]
    exec("if True:\n" + code, found)
    return found["LogitsAlone"]


def test_the_wrapper_that_a_message_says_to_write_makes_the_network_fit(tiny):
    for name in ["a tuple", "an object", "a dict", "auxiliary outputs in train mode"]:
        make, _ = REFUSED[name]
        with pytest.raises(TaskError) as refused:
            check_network(replace(tiny, make_net=make), PATH)
        wrapper = the_wrapper(str(refused.value))
        check_network(replace(tiny, make_net=lambda: wrapper(make())), PATH)


def dropped(self, x):
    return F.dropout(logits(self, x), 0.5, self.training)


def noisy(self, x):
    return logits(self, x) + torch.randn(3)


TAKEN = {
    "drawn by numpy": variant(lambda self: self.head.weight.data.copy_(torch.from_numpy(np.random.rand(3, 768)))),
    "the same weights each time": variant(lambda self: torch.nn.init.ones_(self.head.weight)),
    "materialised": lambda: [net := lazy(), net(torch.zeros(1, 3, 16, 16))][0],
    "dropout": variant(forward=dropped),
    "noise in eval mode": variant(forward=noisy),
    "a count of one's own": variant(lambda self: setattr(self, "number", id(self))),
    "a frozen part": lambda: nn.Sequential(nn.Conv2d(3, 3, 1).requires_grad_(False), nn.Flatten(), nn.Linear(768, 3)),
    "an index": variant(lambda self: self.register_buffer("index", torch.arange(3), persistent=False)),
    "batch norms, two images": lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(768), nn.Linear(768, 3)),
}


def test_the_kits_own_networks_and_torchvisions_are_made_once_others_three_times(tiny, digits, small):
    known = [task.make_net for task in (digits, small)] + [resnet18, partial(resnet18, num_classes=3)]
    assert [_known(make) for make in known] == [True] * 4
    others = [tiny.make_net, Flat, lru_cache(resnet18), partial(resnet18, norm_layer=nn.BatchNorm2d), lambda: Flat()]
    assert [_known(make) for make in others] == [False] * 5


def test_what_can_be_graded_is_taken_and_nothing_is_drawn_from_others_generators(tiny):
    before = drawn_so_far()
    for make in TAKEN.values():
        check_network(replace(tiny, make_net=make), PATH)
    assert drawn_so_far() == before
