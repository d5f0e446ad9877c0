"""A task of a session is saved as a text and its data, is the same task in a fresh process, or is refused by name."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import local_eval
from local_eval.methods.task_files import keep_task, save_task
from local_eval.tasks.loading import load_task
from local_eval.tasks.names import TaskError
from tests.conftest import TINY
from tests.methods.test_written_out import session
from tests.tasks.test_from_python import PLAIN

KIT = Path(local_eval.__file__).parents[1]
HEAD = "import torch\nfrom torch import nn\nimport torch.nn.functional as F\nCLASSES = 3\n"
NET = """
class Net(nn.Module):
    def __init__(self, classes=CLASSES):
        super().__init__()
        self.one, self.two = nn.Linear(90, 8), nn.Linear(8, classes)
    def forward(self, x):
        return self.two(F.relu(self.one(x.flatten(1) / 255)))
"""
BUILD = "def build(width):\n    return nn.Sequential(nn.Flatten(), nn.Linear(90, width), nn.Linear(width, CLASSES))\n"
WORKS = {
    "class": (HEAD, NET, "made = Net"),
    "subclass": (HEAD, NET, "class Wide(Net):\n    pass\nmade = Wide"),
    "function": (HEAD, BUILD, "def made():\n    return build(4)"),
    "lambda": (HEAD, NET, "made = lambda: Net(CLASSES)"),
    "one of two lambdas": (HEAD, BUILD, "other, made = (lambda: build(3)), (lambda: build(2 + 3))"),
    "lambda around a lambda": (HEAD, BUILD, "made = (lambda: (lambda: build(5)))()"),
    "partial": (HEAD, BUILD, "import functools\nmade = functools.partial(build, width=7)"),
    "partial of a package": (HEAD, "import functools\nfrom torchvision.models import shufflenet_v2_x0_5",
                             "made = functools.partial(shufflenet_v2_x0_5, num_classes=3)"),
    "closure": (HEAD, BUILD, "def outer(w, f):\n    def inner():\n        return f(w)\n    return inner",
                "made = outer(6, build)"),
    "decorated": (HEAD, BUILD, "import functools\ndef twice(f):\n    @functools.wraps(f)\n    def g():\n        f()\n"
                  "        return f()\n    return g", "@twice\ndef made():\n    return build(4)"),
    "module": (HEAD, "import torchvision", "made = lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=3)"),
    "another name": (HEAD, BUILD, "ACT = nn.ReLU", "made = lambda: nn.Sequential(build(4), ACT())"),
    "defined anew": (HEAD, BUILD, BUILD.replace("width)", "width, bias=False)", 1), "made = lambda: build(4)"),
}  # fmt: skip


@pytest.mark.parametrize("cells", WORKS.values(), ids=list(WORKS))
def test_what_makes_the_network_is_written_so_that_it_makes_the_same(cells, tmp_path):
    task = replace(PLAIN, make_net=session(*cells)["made"])
    again = load_task(save_task(task, tmp_path / "saved.py"))
    torch.manual_seed(3)
    one = task.make_net().state_dict()
    torch.manual_seed(3)
    other = again.make_net().state_dict()
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert replace(again, network="").fingerprint() == task.fingerprint()


@pytest.mark.parametrize(
    "cells, reported",
    [
        (
            ("net = nn.Sequential(nn.Flatten(), nn.Linear(90, 3))", "import copy\nmade = lambda: copy.deepcopy(net)"),
            "net is a network of this session",
        ),
        (
            ("X = torch.ones(3)", "def made():\n    return nn.Sequential(nn.Flatten(), nn.Linear(90, len(X)))"),
            "X is a Tensor of this session",
        ),
        ((BUILD, "def made():\n    torch.seed()\n    return build(4)"), "draws .* differently each time"),
        ((BUILD, "W = 4", "def made(w=W):\n    return build(w)", "W = 5"), "is another one.*changed since"),
        (("made = eval('lambda: nn.Sequential(nn.Flatten(), nn.Linear(90, 3))')",), "source of a lambda cannot be had"),
        ((BUILD, "class C:\n    def __call__(self):\n        return build(4)", "made = C()"), "a C of this session"),
    ],
)
def test_what_text_alone_does_not_make_is_refused_and_nothing_is_left(cells, reported, tmp_path):
    with pytest.raises(TaskError, match=reported):
        save_task(replace(PLAIN, make_net=session(HEAD, *cells)["made"]), tmp_path / "saved.py")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def own_file(tmp_path, monkeypatch):
    """A package of the user's own, imported."""
    package = tmp_path / "mine" / "own_nets_of_a_test"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "blocks.py").write_text(HEAD + BUILD)
    (package / "nets.py").write_text("from .blocks import build\ndef make(width=4):\n    return build(width)\n")
    monkeypatch.syspath_prepend(package.parent)
    yield package
    for name in [name for name in sys.modules if name.startswith("own_nets_of_a_test")]:
        del sys.modules[name]


def test_a_fresh_process_makes_the_same_task_and_a_changed_file_is_noticed(own_file, tmp_path):
    import own_nets_of_a_test.nets as nets

    path = save_task(replace(PLAIN, make_net=nets.make), tmp_path / "saved.py")
    code = f"import local_eval\ntask = local_eval.load_task({str(path)!r})\nprint(task.fingerprint())"
    run = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(KIT)}, cwd=tmp_path,
                         capture_output=True, text=True, check=True)  # fmt: skip
    assert run.stdout.strip() == load_task(path).fingerprint()
    with (own_file / "blocks.py").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(TaskError, match="nets.py has changed since the task was saved"):
        load_task(path)
    (own_file / "nets.py").unlink()
    with pytest.raises(TaskError, match="nets.py is missing"):
        load_task(path)


def test_all_of_a_task_comes_back(tmp_path):
    tiny = load_task(TINY)
    seen = {name: replace(split, mean=(127.0,) * 3, std=(60.0,) * 3) for name, split in tiny.splits.items()}
    more = {"class_counts": (3, 4, 5), "class_names": ("a", "b", "c"), "notes": ("read so",), "oracles": Path("x.npz")}
    recipe = local_eval.Recipe(4, 0.1, 0.0, optimizer="sgd", momentum=0.9, schedule="steps", milestones=(2, 3))
    more |= {"recipe": recipe}
    state = [tiny.make_net().state_dict() for _ in range(2)]
    task = replace(tiny, original=state[0], start=state[1], **seen, **more)
    again = load_task(save_task(task, tmp_path / "saved.py"))
    for key in (*more, "name", "num_classes"):
        assert getattr(again, key) == (Path("x.npz").resolve() if key == "oracles" else getattr(task, key)), key
    assert all(again.splits[name].digest() == split.digest() for name, split in task.splits.items())
    for key, value in state[0].items():
        assert torch.equal(again.original[key], value) and torch.equal(again.start[key], state[1][key])
    assert replace(again, network="").fingerprint() == task.fingerprint()


def test_a_train_of_ones_own_is_written_and_a_changed_one_is_another_task(tmp_path):
    train = "def train(net, loader, seed):\n    for batch in loader:\n        STEP(net, batch['image'])\n"
    cells = (HEAD, NET, "STEP = print", train), (HEAD, NET, "STEP = repr", train)
    found = []
    for names in (session(*each) for each in cells):
        task = replace(PLAIN, make_net=names["Net"], train=names["train"])
        again = load_task(keep_task(task, tmp_path))
        assert again.train.function.__code__.co_code == names["train"].__code__.co_code
        found.append(again.fingerprint())
    assert len(set(found)) == 2


def test_a_changed_forward_is_another_task_though_its_layers_are_the_same(tmp_path):
    found = {
        load_task(keep_task(replace(PLAIN, make_net=session(HEAD, net)["Net"]), tmp_path)).fingerprint()
        for net in (NET, NET, NET.replace("F.relu", "F.gelu"))
    }
    assert len(found) == 2 and len(list(tmp_path.iterdir())) == 2


def test_nothing_of_the_users_is_overwritten_and_damaged_data_is_told(tmp_path):
    task = replace(PLAIN, make_net=session(HEAD, NET)["Net"])
    for name, file in (("mine.py", "mine.py"), ("other.py", "other.npz")):
        (tmp_path / file).write_text("mine")
        with pytest.raises(TaskError, match=f"{file} is there and was not written by save_task"):
            save_task(task, tmp_path / name)
    with pytest.raises(TaskError, match="ends in .py"):
        save_task(task, tmp_path / "cells.npz")
    path = save_task(task, tmp_path / "cells.py")
    assert save_task(task, path) == path, "its own may be written again"
    data = path.with_suffix(".npz")
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(TaskError, match="cells.npz holds no task.*checksum"):
        load_task(path)
    data.unlink()
    with pytest.raises(TaskError, match="cells.npz is missing"):
        load_task(path)


def test_the_data_file_holds_data_alone(tmp_path):
    import numpy as np

    path = save_task(replace(PLAIN, make_net=session(HEAD, NET)["Net"]), tmp_path / "cells.py")
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as found:
        assert json.loads(str(found["about"]))["num_classes"] == 3
        assert all(found[name].dtype.kind in "uiU" for name in found.files)
