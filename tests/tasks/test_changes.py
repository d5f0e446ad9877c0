"""A task's spec carries what is changed in it, as one text; changes that do not fit are refused."""

import shlex
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.models import googlenet, inception_v3, resnet18

from local_eval.__main__ import main
from local_eval.tasks.loading import changed, load_task
from local_eval.tasks.names import (
    OF_RECIPE,
    TaskError,
    files_of,
    option_words,
    read_fields,
    split_changes,
    split_spec,
    with_changes,
    without_original,
)
from local_eval.tasks.networks import network
from local_eval.tasks.recipe import Recipe
from tests.conftest import TINY

BARE = ["digits", "my.csv", "cifar10:/data[2023]/x", "odd [name].py:/a[1]", "/tmp/it's.py", "ends[1]", "C:[x=1"]
CHANGED = [
    {"epochs": 3},
    {"net": "resnet34", "lr": 1e-3},
    {"original": '/a [1]/it\'s "here", epochs=9].pth', "milestones": (4, 7), "flip": True},
    {"start": "/ü/x.pth", "clip": None, "optimizer": "sgd"},
]


@pytest.mark.parametrize("bare", BARE)
def test_a_spec_says_what_is_changed_and_is_read_back_as_it_was(bare):
    assert split_changes(bare) == (bare, {})
    for changes in CHANGED:
        spec = with_changes(bare, changes)
        assert split_changes(spec) == (bare, changes)
        assert with_changes(bare, dict(reversed(changes.items()))) == spec, "the same changes are the same text"
        assert with_changes(with_changes(bare, {"epochs": 9}), {"epochs": 3}) == with_changes(bare, {"epochs": 3})
        assert split_changes(without_original(spec))[1] == {k: v for k, v in changes.items() if k != "original"}


def test_a_folder_that_is_called_so_is_that_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images[epochs=3]").mkdir()
    assert split_changes("images[epochs=3]") == ("images[epochs=3]", {})
    assert split_changes("images[epochs=3][lr=0.1]") == ("images[epochs=3]", {"lr": 0.1})


def test_what_nobody_can_change_is_refused_with_the_nearest_name():
    for spec, message in (
        ("digits[EPOCHS=3]", "no 'EPOCHS' that can be changed; did you mean epochs"),
        ("digits[epoch=3]", "did you mean epochs"),
        ("digits[colour='red']", "no 'colour'"),
    ):
        with pytest.raises(TaskError, match=message):
            split_spec(spec)
    for pairs, message in (
        (["epochs"], "give NAME=VALUE"),
        (["momentum="], "give NAME=VALUE"),
        (["moment=0.9"], "no 'moment'; did you mean momentum"),
        (["net=resnet18"], "no 'net'"),
    ):
        with pytest.raises(TaskError, match=message):
            read_fields(pairs)
    assert read_fields(["optimizer=sgd", "milestones=91,136", "flip=True", "lr = 0.1"]) == {
        "optimizer": "sgd", "milestones": (91, 136), "flip": True, "lr": 0.1,
    }  # fmt: skip


def test_every_field_of_a_recipe_can_be_changed():
    assert set(OF_RECIPE) == set(Recipe.__dataclass_fields__)


def test_the_words_of_a_spec_say_the_same_again_without_folders(tmp_path):
    spec = with_changes("digits", {"original": "/home/me/x.pth", "net": "/home/me/n.py:f", "flip": True, "epochs": 3})
    assert option_words(spec) == shlex.split("--net n.py:f --epochs 3 --recipe flip=True --original x.pth")
    assert [str(path) for path in files_of(spec)] == ["/home/me/x.pth", "/home/me/n.py"]


NET = """
from torch import nn
from widths import WIDTH

class Net(nn.Sequential):
    def __init__(self, num_classes, width=WIDTH):
        super().__init__(nn.Flatten(), nn.Linear(768, width), nn.ReLU(), nn.Linear(width, num_classes))

def make(**named):
    return Net(**named)

def three():
    return Net(3)

def wants(num_classes, depth):
    return Net(num_classes)

def fails(num_classes):
    raise KeyError("oh")

def nothing():
    return 3
"""


@pytest.fixture
def net_file(tmp_path):
    (tmp_path / "widths.py").write_text("WIDTH = 5\n")
    (tmp_path / "small.py").write_text(NET)
    yield tmp_path / "small.py"
    sys.modules.pop("widths", None)
    sys.path[:] = [place for place in sys.path if place != str(tmp_path)]


def test_a_network_from_a_file_has_as_many_outputs_as_classes_and_is_followed_by_its_code(net_file):
    tiny = load_task(TINY)
    found = {name: load_task(with_changes(TINY, {"net": f"{net_file}:{name}"})) for name in ("Net", "make", "three")}
    for task in found.values():
        assert task.make_net()(torch.zeros(2, 3, 16, 16)).shape == (2, 3)
        assert task.retain.digest() == tiny.retain.digest()
    assert len({task.fingerprint() for task in (tiny, *found.values())}) == 4
    net_file.write_text(NET.replace("def make", "# said\n\n\ndef make"))
    again = load_task(with_changes(TINY, {"net": f"{net_file}:make"}))
    assert again.fingerprint() == found["make"].fingerprint()
    net_file.write_text(NET.replace("Net(**named)", "Net(**named).requires_grad_(True)"))  # not to be seen in layers
    assert load_task(with_changes(TINY, {"net": f"{net_file}:make"})).fingerprint() != again.fingerprint()


@pytest.mark.parametrize(
    "name, message",
    [
        ("small.py:mke", "no function 'mke'.*it has Net, make, three, wants, fails, nothing"),
        ("small.py", "no function ''.*it has Net"),
        ("none.py:make", "none.py does not exist"),
        ("small.py:wants", "called with num_classes or with nothing, but it needs depth"),
        ("small.py:fails", "KeyError: 'oh'"),
        ("small.py:nothing", "nothing gives a int, no network"),
        ("widths.py:WIDTH", "no function 'WIDTH'.*no function at its top level"),
        ("broken.py:make", "broken.py cannot be imported .SyntaxError"),
    ],
)
def test_files_that_give_no_network_are_refused(net_file, name, message):
    (net_file.parent / "broken.py").write_text("def make(:\n")
    with pytest.raises(TaskError, match=message):
        load_task(with_changes(TINY, {"net": f"{net_file.parent}/{name}"}))


def test_networks_of_torchvision_are_found_by_name():
    assert isinstance(network("resnet18", 3, (16, 16))(), type(resnet18()))
    for name, kind in (("googlenet", googlenet), ("inception_v3", inception_v3)):
        assert network(name, 7, (299, 299)).func.__module__ == "local_eval.tasks.networks"
        assert kind.__name__ == name
    vit = network("vit_b_16", 3, (32, 32))
    assert vit.args == ("vit_b_16", 3, (32, 32))
    for name, message in (
        ("resnet43", "did you mean resnet34"),
        ("ResNet18", "did you mean resnet18"),
        ("torchvision:vgg", "no such network for classification"),
        ("keras:vgg16", "before the colon stands timm, torchvision, or the path"),
        (3, "give a name such as 'resnet34'"),
    ):
        with pytest.raises(TaskError, match=message):
            network(name, 3, (16, 16))


class Timm:
    """Stands in for the package, which is optional."""

    @staticmethod
    def list_models():
        return ["tiny_vit", "resnet18"]

    @staticmethod
    def create_model(name, pretrained, num_classes):
        assert not pretrained
        return nn.Sequential(nn.Flatten(), nn.Linear(768, num_classes))


def test_networks_of_timm_are_found_where_it_is_installed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "timm", None)
    for name, message in (
        ("tiny_vit", "timm, which has more, is not installed"),
        ("timm:tiny_vit", "pip install timm"),
    ):
        with pytest.raises(TaskError, match=message):
            network(name, 3, (16, 16))
    monkeypatch.setitem(sys.modules, "timm", Timm)
    assert network("timm:tiny_vit", 3, (16, 16))()[1].out_features == 3
    assert network("tiny_vit", 3, (16, 16)).code == "timm:tiny_vit"
    assert network("timm:resnet18", 3, (16, 16)).code == "timm:resnet18", "theirs is asked for"
    assert network("resnet18", 3, (16, 16)).func.__name__ == "_of_torchvision"
    with pytest.raises(TaskError, match="neither torchvision nor timm has such a network; did you mean tiny_vit"):
        network("tiny_vits", 3, (16, 16))


def test_a_network_that_needs_larger_images_is_refused_in_one_sentence():
    for name in ("inception_v3", "alexnet"):
        with pytest.raises(TaskError, match="cannot take 1 of the task.s images, 3 channels of 16x16") as error:
            load_task(with_changes(TINY, {"net": name}))
        assert "\n" not in str(error.value)


def test_what_a_task_brings_along_is_left_out_where_it_does_not_fit_and_that_is_told(tmp_path, digits):
    same = load_task("digits[epochs=10,lr=0.001]")
    assert same.fingerprint() == digits.fingerprint() and same.original is not None and same.oracles == digits.oracles
    torch.save(digits.original, tmp_path / "mine.pth")
    for changes in ({"epochs": 3}, {"net": "shufflenet_v2_x0_5"}, {"start": str(tmp_path / "mine.pth")}):
        task = load_task(with_changes("digits", changes))
        assert task.original is None and task.oracles is None
        assert task.fingerprint() != digits.fingerprint()
        assert any(
            "the original model and oracles that the task brings along do not fit" in note for note in task.notes
        )
    kept = load_task(with_changes("digits", {"epochs": 3, "original": str(tmp_path / "mine.pth")}))
    assert torch.equal(kept.original["fc.bias"], digits.original["fc.bias"]) and kept.oracles is None


def test_a_task_with_a_way_of_its_own_to_train_has_no_recipe_to_change(tiny):
    own = replace(tiny, train=print)
    with pytest.raises(TaskError, match="trains by a function of its own .*leave epochs, lr out"):
        changed(own, {"epochs": 3, "lr": 0.1})
    assert changed(own, {"batch_size": 16}).recipe.batch_size == 16


def test_a_start_of_another_network_is_left_out_with_it(tiny):
    own = replace(tiny, start=tiny.make_net().state_dict())
    assert changed(own, {"net": "resnet18"}).start is None
    assert changed(own, {"epochs": 3}).start is own.start


def test_the_command_line_writes_changes_into_the_spec(tmp_path, net_file, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save(load_task(TINY).make_net().state_dict(), "mine.pth")
    given = ["--epochs", "2", "--lr", "0.5", "--recipe", "optimizer=sgd", "--recipe", "momentum=0.9"]
    assert main(["check", "--task", TINY, *given, "--original", "mine.pth"]) == 0
    said = capsys.readouterr().out
    assert "The original model comes with the task" in said
    assert "2 epochs, batches of 64, learning rate 0.5, sgd, momentum 0.9, loss weighted" in said
    assert main(["check", "--task", TINY, "--net", "small.py:make"]) == 0
    for given, message in (
        (["--original", "none.pth"], "--original none.pth: there is no such file"),
        (["--start", "."], "--start .: there is no such file"),
        (["--net", "none.py:make"], "--net none.py:make: there is no file none.py"),
        (["--lr", "nan"], "lr is 'nan'; it must be a finite number above 0"),
        (["--epochs", "-1"], "epochs is -1"),
        (["--recipe", "crop=99"], "crop is 99"),
    ):
        assert main(["check", "--task", TINY, *given]) == 2
        assert message in capsys.readouterr().err
