"""A task's file imports what lies beside it, in every process, and no other folder's."""

import sys

import pytest
import torch

from local_eval.grader import Grader
from local_eval.tasks.loading import load_task
from local_eval.tasks.names import TaskError
from tests.conftest import TINY

TASK = f"""
from dataclasses import replace
from local_eval.tasks.loading import load_task
from my_net import Net

def task():
    import nets.parts as parts
    from nets import head
    assert head is parts.head
    return replace(load_task({TINY!r}), make_net=make)

def make():
    from nets.parts import SCALE
    return Net(SCALE)
"""
NET = """
from dataclasses import dataclass
from torch import nn
import random
from layers import Body

@dataclass
class About:
    width: int = {width}

class Net(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale, self.body = scale, Body(About().width)

    def forward(self, x):
        return self.body(x / self.scale)
"""
LAYERS = """
from torch import nn

class Body(nn.Sequential):
    def __init__(self, width):
        super().__init__(nn.Flatten(), nn.Linear(768, width), nn.ReLU(), nn.Linear(width, 3))
"""


def write(folder, width):
    (folder / "nets").mkdir(parents=True)
    files = {"my_task.py": TASK, "my_net.py": NET.format(width=width), "layers.py": LAYERS}
    files |= {"nets/__init__.py": "from .parts import head\n", "nets/parts.py": "SCALE = 255\ndef head(): pass\n"}
    files["random.py"] = "raise RuntimeError('the standard library is not to be hidden')\n"
    for name, text in files.items():
        (folder / name).write_text(text)
    return str(folder / "my_task.py")


def width(task):
    return task.make_net().body[1].out_features


def test_two_folders_may_have_modules_of_one_name_and_nothing_of_either_is_left_for_others(tmp_path):
    specs = [write(tmp_path / name, number) for name, number in (("a", 5), ("b", 7))]
    path, one, other = list(sys.path), *map(load_task, specs)
    assert [width(one), width(other), width(load_task(specs[0])), width(one)] == [5, 7, 5, 5]
    assert sys.path == path
    assert not {"my_net", "layers", "nets"} & sys.modules.keys()


def test_an_edited_module_is_read_anew(tmp_path):
    spec = write(tmp_path, 5)
    assert width(load_task(spec)) == 5
    (tmp_path / "my_net.py").write_text(NET.format(width=16))  # of another length, so that no cached code fits
    assert width(load_task(spec)) == 16


def test_a_namespace_folder_and_a_sibling_of_a_sibling_are_found(tmp_path):
    spec = write(tmp_path, 5)
    (tmp_path / "nets" / "__init__.py").rename(tmp_path / "nets" / "unused.py")
    (tmp_path / "my_task.py").write_text(TASK.replace("    from nets import head\n", "    head = parts.head\n"))
    assert width(load_task(spec)) == 5


@pytest.mark.spawned
def test_runs_are_made_in_other_processes(tmp_path, submission):
    """So are oracles: oracles/test_same_oracles.py."""
    spec = write(tmp_path / "a", 5)
    grader = Grader(spec, tmp_path / "out", runs=2, workers=1)
    runs, failures = grader.make_runs(submission())
    assert (len(runs), failures) == (2, {})


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("my_net.py", "import nowhere", r"importing it fails \(my_net.py, line 1\): ModuleNotFoundError: .*nowhere"),
        ("my_net.py", "class Net(:\n", r"importing it fails \(my_task.py, line 4\): SyntaxError"),
        ("layers.py", "Body = None", r"make_net\(\) fails: TypeError"),
        ("my_task.py", "def task():\n    return missing", r"task\(\) fails \(my_task.py, line 2\): NameError"),
        ("my_task.py", "import yaml_\ndef task():\n    return 1", r"\(my_task.py, line 1\): ModuleNotFoundError"),
    ],
)
def test_an_error_in_a_tasks_files_is_told_with_its_line(tmp_path, name, text, message):
    spec = write(tmp_path, 5)
    (tmp_path / name).write_text(text)
    with pytest.raises(TaskError, match=rf"^{spec}: .*{message}"):
        load_task(spec)


def test_networks_of_such_a_task_can_be_pickled(tmp_path):
    net = load_task(write(tmp_path, 5)).make_net()
    torch.save(net, tmp_path / "net.pt")
    assert torch.load(tmp_path / "net.pt", weights_only=False).scale == 255
