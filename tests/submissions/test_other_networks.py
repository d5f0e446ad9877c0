"""On other networks than resnet18 methods do what they say; on resnet18, what they did by the names of its layers."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.roles import Roles
from local_eval.__main__ import main
from local_eval.methods.contract import load_submission
from local_eval.methods.loaders import make_loaders
from local_eval.methods.submission import Submission, submission_names
from local_eval.runs.one_run import seed_everything
from tests import nets
from tests.conftest import TINY, in_this_process
from tests.submissions.test_submissions import PSEUDO, TRANSPOSED

RUNS = [(name, 1) for name in submission_names()] + [("toshi_k_marvelworld", PSEUDO)]
assert TRANSPOSED == 1


def names_of(method):
    """A method's functions and constants, to be replaced; what `unlearning` looks up is what is here."""
    return load_submission(Submission.find(method)).__globals__


def unlearned(namespace, net, task, index=1):
    """The net after a run of a method."""
    loaders = make_loaders(task)
    seed_everything(0, index)
    namespace["unlearning"](net, *loaders)
    return net


@pytest.fixture(scope="module")
def few(tiny):
    """16 examples of every split: one batch."""
    return replace(tiny, **{name: split[slice(0, 16)] for name, split in tiny.splits.items()})


KINDS = ("vit", "vgg", "Fixed", "Auxiliary", "cosine")
MORE_KINDS = ("convnext", "mobilenet", "TwoHeads")  # built of layers that one of the others or resnet18 has


@pytest.mark.parametrize("kind", [*KINDS, *(pytest.param(kind, marks=pytest.mark.slow) for kind in MORE_KINDS)])
def test_every_method_leaves_a_changed_and_finite_net_that_loads(kind, few):
    make = nets.OTHERS.get(kind) or getattr(nets, kind)
    for method, index in RUNS:
        torch.manual_seed(0)
        net = make()
        before, fixed = copy.deepcopy(net.state_dict()), [p for p in net.parameters() if not p.requires_grad]
        try:
            state = unlearned(names_of(method), net, few, index).state_dict()
        except ValueError as error:  # a RoleError of a freshly imported `common`
            assert (type(error).__name__, (kind, method) in REFUSED) == ("RoleError", True), f"{method}: {error}"
            continue
        assert (kind, method) not in REFUSED, f"{method} on {kind}"
        make().load_state_dict(state, strict=True)
        assert all(value.isfinite().all() for value in state.values() if value.is_floating_point()), method
        assert method in MAY_LEAVE_ALL or any(not torch.equal(state[name], before[name]) for name in state), method
        assert not net.training and not any(p._backward_hooks for p in net.parameters())
        assert fixed == [p for p in net.parameters() if not p.requires_grad], method
        if method == "oleszko":  # which ends in half precision
            before = {name: value.half().float() for name, value in before.items()}
        assert all(torch.equal(p, before[name]) for name, p in net.named_parameters() if not p.requires_grad), method


MAY_LEAVE_ALL = {"ssd"}  # where no weight matters ten times as much for the forget set
REFUSED = {("Fixed", "seif_achour"), ("Fixed", "jiaxi_sun"), ("Fixed", "amnesiacs")}
STEMS = {"vit": "conv_proj", "convnext": "features.0.0", "mobilenet": "features.0.0", "vgg": "features.0"}
HEADS = {"vit": "heads.head", "convnext": "classifier.2", "mobilenet": "classifier.1", "vgg": "classifier.3"}


def parameter_names(net, tensors):
    """The names of some of the net's parameters."""
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    return [names[id(tensor)] for tensor in tensors]


def test_amnesiacs_resets_first_and_last_layer_and_seif_confuses_the_first(few):
    for kind in nets.OTHERS:
        net, namespace = nets.OTHERS[kind](), names_of("amnesiacs")
        reset = []
        namespace["reset_layers"] = lambda net, names: reset.append(names)
        unlearned(namespace, net, few)
        assert reset == [[STEMS[kind], HEADS[kind]]]
        namespace, noised, weights = names_of("seif_achour"), [], []
        namespace["add_noise"] = lambda parameter, sigma: noised.append((parameter, sigma))
        namespace["batch_weighted_cross_entropy"] = lambda z, y, w: (weights.append(w), F.cross_entropy(z, y))[1]
        unlearned(namespace, net, few)
        assert parameter_names(net, [p for p, _ in noised]) == [f"{STEMS[kind]}.weight"] * 2
        assert [sigma for _, sigma in noised] == [0.6, 0.005]
        assert weights[0].tolist() == pytest.approx([1, 0.05, 0.05])


def test_jiaxi_resets_the_head_trains_nine_tensors_and_every_norm_and_then_all(few):
    for kind in nets.OTHERS:
        net, namespace = nets.OTHERS[kind](), names_of("jiaxi_sun")
        reset, trained = [], []
        namespace["reset_layers"] = lambda net, names: reset.append(names)
        namespace["one_epoch"] = lambda n, *_: trained.append({k for k, p in n.named_parameters() if p.requires_grad})
        unlearned(namespace, net, few)
        assert reset == [(HEADS[kind],)]
        names = [name for name, _ in net.named_parameters()]
        layers = {name: net.get_submodule(name.rpartition(".")[0]) for name in names}
        norms = {name for name, layer in layers.items() if "Norm" in type(layer).__name__}
        assert bool(norms) == (kind != "vgg")
        assert all(epoch >= norms for epoch in trained)
        others = len(names) - len(norms)
        assert [len(epoch - norms) for epoch in trained] == [min(9, others)] * 5 + [others] * 4


def test_forget_redraws_everything_but_the_head_and_random_mask_spares_norms_alone(few):
    for kind in nets.OTHERS:
        net, namespace, pools = nets.OTHERS[kind](), names_of("forget"), []
        namespace["redraw_random_layers"] = lambda net, pool, count: pools.append(pool)
        unlearned(namespace, net, few)
        names = [name for name, _ in net.named_parameters()]
        assert pools == [[name for name in names if not name.startswith(HEADS[kind])]] * 3
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.fill_(1)
        names_of("random_mask")["mask_weights"](net, 0.5)
        zeros = {name: float((p == 0).float().mean()) for name, p in net.named_parameters()}
        for name, share in zeros.items():
            norm = "Norm" in type(net.get_submodule(name.rpartition(".")[0])).__name__
            count = net.get_parameter(name).numel()
            assert share == 0 if norm else abs(share - 0.5) <= 4 * 0.5 / math.sqrt(count), name


def test_kookmin_redraws_30_percent_of_every_convolution(few):
    for kind in nets.OTHERS:
        net, namespace = nets.OTHERS[kind](), names_of("kookmin")
        redraw, redrawn = namespace["redraw_smallest_gradients"], []
        namespace["redraw_smallest_gradients"] = lambda w, g, share: (redrawn.append((w, share)), redraw(w, g, share))[
            1
        ]
        unlearned(namespace, net, few)
        convolutions = [f"{name}.weight" for name, module in net.named_modules() if isinstance(module, nn.Conv2d)]
        assert parameter_names(net, [w for w, _ in redrawn]) == convolutions
        assert {share for _, share in redrawn} == {0.3}


MEANINGLESS = {
    ("kookmin", nets.mlp): "the method changes convolutions, and this network has none that learns",
    ("toshi_k_marvelworld", nets.mlp): "the method changes convolutions, and this network has none that learns",
    ("jiaxi_sun", nets.Fixed): "the method resets head, where nothing learns (requires_grad is False)",
    ("seif_achour", nets.Fixed): "the weight of first, which the method changes, does not learn",
    ("seif_achour", nets.weight_normed): "the weight of first, which the method changes, is computed",
    ("amnesiacs", nets.Bare): "the network's last layer cannot be told",
    ("forget", nets.Functional): "the network's last layer cannot be told",
}


def test_a_method_that_means_nothing_on_a_network_says_so_in_every_run_before_it_changes_anything(few):
    for (method, make), said in MEANINGLESS.items():
        for index in (1, PSEUDO):
            net = make()
            before = copy.deepcopy(net.state_dict())
            with pytest.raises(ValueError) as raised:
                unlearned(names_of(method), net, few, index)
            assert type(raised.value).__name__ == "RoleError"
            assert str(raised.value).startswith(said), method
            assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items()), method


def test_the_kit_tells_it_in_one_sentence_without_a_traceback(tmp_path, monkeypatch, capsys):
    task = tmp_path / "flat.py"
    task.write_text(
        "from dataclasses import replace\nfrom local_eval.tasks.loading import load_task\nfrom tests.nets import mlp\n"
        f"def task():\n    return replace(load_task({TINY!r}), name='flat', make_net=mlp)\n"
    )
    monkeypatch.setattr("local_eval.isolation.share_gpu.run_jobs", in_this_process)
    for command in ("check", "grade"):
        more = ["--out", str(tmp_path / "out"), "--runs", "16"] if command == "grade" else []
        assert main([command, "kookmin", "--task", str(task), "--device", "cpu", *more]) == 2
        said = capsys.readouterr().err
        assert said.count("kookmin.py: the method changes convolutions, and this network has none that learns") == 1
        assert "Traceback" not in said
    assert main(["check", "scrub", "--task", str(task), "--device", "cpu"]) == 0


# What the methods did before they asked for roles, by resnet18's names. Slow to read, and obviously right.


def by_name(net, loader):
    shortcuts = frozenset(name for name, _ in net.named_modules() if "downsample." in name)
    return Roles("conv1", ("fc",), shortcuts, net.fc.out_features)


def prune_by_type(net, amount):
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    pool = [p for layer in layers for p in (layer.weight, layer.bias) if p is not None]
    with torch.no_grad():
        flat = torch.cat([p.abs().flatten() for p in pool])
        pruned = torch.zeros_like(flat, dtype=torch.bool)
        pruned[flat.topk(round(amount * flat.numel()), largest=False).indices] = True
        for parameter, mask in zip(pool, pruned.split([p.numel() for p in pool])):
            parameter.masked_fill_(mask.view_as(parameter), 0.0)
        for layer in layers:
            bound = 1 / math.sqrt(layer.weight[0].numel())
            fresh = torch.empty_like(layer.weight).uniform_(-bound, bound)
            layer.weight.copy_(torch.where(layer.weight == 0, fresh, layer.weight))


def mask_by_type(net, probability):
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                for parameter in layer.parameters(recurse=False):
                    parameter.mul_(torch.rand_like(parameter) >= probability)


def redraw_by_type(net, name):
    layer_name, kind = name.rsplit(".", 1)
    layer, parameter = net.get_submodule(layer_name), net.get_parameter(name)
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")
    elif isinstance(layer, nn.Linear):
        nn.init.uniform_(parameter, -1 / math.sqrt(layer.in_features), 1 / math.sqrt(layer.in_features))
    else:
        nn.init.constant_(parameter, 1.0 if kind == "weight" else 0.0)


def untrained_by_type(net):
    fresh = copy.deepcopy(net)
    for module in fresh.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    for name, _ in fresh.named_parameters():
        redraw_by_type(fresh, name)
    return fresh


def transpose_all(net):
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_(module.weight.transpose(2, 3).clone())


def reset_by_name(net, names):
    for name in names:
        net.get_submodule(name).reset_parameters()


def redraw_by_name(net, pool, count):
    for k in torch.randint(len(pool), (count,)):
        redraw_by_type(net, pool[int(k)])


def pool_by_name(parts):
    return lambda net, _: [name for name, _ in net.named_parameters() if not any(part in name for part in parts)]


ROLES, ALL = {"find_roles": by_name}, {"learning": lambda net: dict(net.named_parameters())}
BATCH_NORMS = {"norms": lambda net: frozenset(), "is_in": lambda name, _: "bn" in name}
FORGET = ROLES | {"redraw_random_layers": redraw_by_name}
BEFORE = {  # what a method uses, as it was
    "amnesiacs": ROLES | {"reset_layers": lambda net, _: reset_by_name(net, ("conv1", "fc"))},
    "baseline_finetune[CLASS_WEIGHTED=True]": ROLES,
    "forget": FORGET | {"names_to_redraw": pool_by_name(("fc", "downsample"))},
    "forget[EXCLUDED=()]": FORGET | {"names_to_redraw": pool_by_name(())},
    "forget[EXCLUDED=('fc',)]": FORGET | {"names_to_redraw": pool_by_name(("fc",))},
    "jiaxi_sun": ROLES | ALL | BATCH_NORMS | {"reset_layers": reset_by_name},
    "kookmin": {
        "learning_convolutions": lambda net: {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    },
    "oleszko": ROLES | {"prune_and_redraw": prune_by_type},
    "random_mask": {"mask_weights": mask_by_type},
    "salun": ALL,
    "seif_achour": ROLES | {"weight_that_learns": lambda net, _: net.conv1.weight},
    "toshi_k_marvelworld": {
        "transposable": lambda net: None, "transpose_kernels": transpose_all, "untrained_copy": untrained_by_type,
    },
}  # fmt: skip


def test_on_resnet18_every_bit_is_what_it_was_by_name(few):
    for variant, before in BEFORE.items():
        for index in (1, PSEUDO) if "toshi" in variant else (1,):
            torch.manual_seed(0)
            start, ends = few.make_net(), []
            for replaced in ({}, before):
                namespace = names_of(variant)
                assert replaced.keys() <= namespace.keys()
                namespace.update(replaced)
                state = unlearned(namespace, copy.deepcopy(start), few, index).state_dict()
                ends.append((state, torch.get_rng_state()))
            (ours, drawn), (theirs, drawn_then) = ends
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs), variant
            assert list(ours) == list(theirs)
            assert torch.equal(drawn, drawn_then), f"{variant}: and as many random numbers were drawn"
