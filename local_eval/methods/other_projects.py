"""Recognise code of other benchmarks by its signature, and write the lines that make a submission of it.

Their methods take a dict of loaders, an `args` object, a criterion, (image, label) batches, or are classes with a
method that unlearns. All of that can be told from parameters' names and from what the code reads, without running it.
The lines are appended to their file, since a submission is one file.

How it is used: `lines_for(tree)` in methods/signature.py and methods/contract.py, `lines_of_pairs(tree)` there too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

# What a parameter's name means: the network, the retain, forget or validation set, other data, or another thing.
#
# Authors name the same four things in many ways: `Dr`, `remain_dl`, `retainLoader`, `rt_loader`. What is not known
# here means nothing, and is taken as it comes.


KEYS = ("image", "image_id", "age_group", "age", "person_id")  # of a batch, a dict
ARGUMENTS = ("net", "retain_loader", "forget_loader", "val_loader")
# Words that a name may hold, in the order of the arguments
WORDS = (
    {"net", "model", "network"},
    {"retain", "retained", "retaining", "remain", "remaining", "remainder", "keep", "kept", "retrain", "rem", "rtn"},
    {
        "forget", "forgotten", "forgetting", "fgt", "unlearn", "unlearned", "unlearning", "unl", "erase", "erased",
        "delete", "deleted", "deletion", "del", "remove", "removed", "removal",
    },
    {"val", "valid", "validation", "test", "tst", "testing", "eval", "holdout", "heldout", "unseen"},
)  # fmt: skip
SHORT = (
    {"m"},
    {"r", "dr", "rl", "rt", "ret", "rem"},
    {"f", "df", "fl", "fg", "u", "du", "ul", "un"},
    {"v", "dv", "vl", "va", "te", "dte"},
)  # as whole names of loaders
EITHER = {"rem"}  # the remaining or the removed ones: the first by default, told as the second
TRAIN = {"train", "training", "trainset", "trn"}  # retain and forget set together, or perhaps the retain set alone
WHOLE = {"full", "all", "whole", "entire", "complete", "total"}
TRAIN_SHORT = {"tr", "dtr", "trl"}
SEVERAL = {"loaders", "dataloaders", "dls", "datasets", "splits"}  # a dict of loaders, in other benchmarks
# Things that are no loaders
OTHERS = {
    "criterion", "loss", "optimizer", "optimiser", "optim", "opt", "scheduler", "args", "arg", "opts", "options",
    "config", "configs", "cfg", "conf", "hparams", "params", "device", "epoch", "epochs", "lr", "logger", "mask",
    "seed", "teacher", "student",
}  # fmt: skip
DATA = re.compile(r"_?(data)?(loader|set|dl|ds)$")


def meant(name: str) -> list[int]:
    """The arguments that a name is known for, by place: 'forget_dl' and 'forgetLoader' for the third, place 2."""
    words = _words(name)
    return [place for place, known in enumerate(WORDS) if words & known]


def meant_in_short(name: str) -> list[int]:
    """As `meant`, for the whole name of a loader in a letter or two: 'df', 'D_r', 'r_loader'."""
    bare = _bare(name)
    return [place for place, known in enumerate(SHORT) if place and bare in known]


def means_all_training(name: str) -> bool:
    """Is it a name for the training data, without a word on which part: 'full_train_dl', 'trainset', 'tr_loader'?"""
    words = _words(name)
    if meant(name) or words & SEVERAL:
        return False
    return bool(words & TRAIN) or (is_data(name) and bool(words & WHOLE or _bare(name) in TRAIN_SHORT))


def means_several(name: str) -> bool:
    """Is it a name for all loaders together: 'data_loaders'?"""
    return bool({_spaced(name).replace("_", ""), *_words(name)} & SEVERAL) and not meant(name)


def means_another_thing(name: str) -> bool:
    """Is it a name for something that is no data and no network, such as `criterion` or `args`?"""
    return not is_data(name) and not meant(name) and bool(_words(name) & OTHERS)


def is_data(name: str) -> bool:
    """Is it the name of a loader or a data set, rather than of a setting such as `forget_epochs`?"""
    return bool(DATA.search(_spaced(name))) or any(name.lower() in known for known in (*WORDS, TRAIN))


def _spaced(name: str) -> str:
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _words(name: str) -> set[str]:
    spaced = _spaced(name)
    return set(re.split(r"[_\d]+", spaced)) | {DATA.sub("", spaced)}


def _bare(name: str) -> str:
    return DATA.sub("", name.lower()).replace("_", "")


# What code of another benchmark reads: of its `args`, its dict of loaders, its batches; and values for settings.
#
# Values come from the file's own add_argument(default=...) where it has a parser, else they are guessed by name.


NAMES_OF_ARGS = {"args", "arg", "opt", "opts", "options", "config", "configs", "cfg", "conf", "hparams", "hp"}
CLASSES = "[m for m in net.modules() if isinstance(m, torch.nn.Linear)][-1].out_features"
# By a part of a name, the first that fits; as Python
GUESSES = {
    "num_workers": "0", "workers": "0", "epoch": "1", "n_iter": "10", "iters": "10", "step": "10", "batch": "64",
    "bs": "64", "weight_decay": "0.0005", "wd": "0.0005", "momentum": "0.9", "num_class": "classes",
    "n_class": "classes", "nb_class": "classes", "classes": "classes", "learning_rate": "0.001", "lr": "0.001",
    "device": "device", "gpu": "0", "seed": "torch.randint(2**31, ()).item()", "print": "10**9", "log": "10**9",
    "verbose": "False", "mask": "None", "warmup": "0", "temperature": "4.0", "arch": "'resnet18'",
    "dataset": "'faces'", "dir": "'.'", "path": "'.'", "debug": "False", "decreasing": "[1000]",
    "milestones": "[1000]", "gamma": "1.0", "alpha": "0.1", "beta": "0.1", "lam": "0.1", "ratio": "0.5",
    "threshold": "0.5", "no_": "False", "use_": "False", "with_": "False",
}  # fmt: skip


def guess(name: str) -> tuple[str, bool]:
    """A value for a setting of this name, as Python, and whether the name says enough."""
    lower = name.lower()
    for part, value in GUESSES.items():
        if part in lower:
            return value, True
    return "1.0", False


class Read:
    """A file of theirs."""

    def __init__(self, tree: ast.Module):
        self.tree = tree
        self.nodes = list(ast.walk(tree))
        self._parents = {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}

    @property
    def called(self) -> set[str]:
        """Functions and classes that other functions of the file call."""
        inside = (n for f in self.nodes if isinstance(f, ast.FunctionDef) for n in ast.walk(f) if n is not f)
        return {n.func.id for n in inside if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}

    @property
    def bases(self) -> set[str]:
        """Classes that others of the file are made of."""
        return {b.id for n in self.nodes if isinstance(n, ast.ClassDef) for b in n.bases if isinstance(b, ast.Name)}

    @property
    def sets_targets(self) -> bool:
        """Does it look for the classes in the data set, `dataset.targets`?"""
        return any(isinstance(n, ast.Attribute) and n.attr == "targets" for n in self.nodes)

    def methods(self, node: ast.ClassDef) -> Iterator[ast.FunctionDef]:
        """Those of a class, and of the classes of the file that it is made of; its own last."""
        known = {n.name: n for n in self.tree.body if isinstance(n, ast.ClassDef)}
        for base in node.bases:
            if isinstance(base, ast.Name) and base.id in known and known[base.id] is not node:
                yield from self.methods(known[base.id])
        yield from (n for n in node.body if isinstance(n, ast.FunctionDef))

    @staticmethod
    def is_static(function: ast.FunctionDef) -> bool:
        """Is it a static method, which is handed no object?"""
        return any(ast.unparse(d) == "staticmethod" for d in function.decorator_list)

    def free_name(self, name: str) -> str:
        """A name that the file does not use."""
        used = {n.id for n in self.nodes if isinstance(n, ast.Name)} | {getattr(n, "name", "") for n in self.nodes}
        while name in used:
            name += "_"
        return name

    @property
    def takes_pairs(self) -> bool:
        """Are batches (images, labels), rather than the competition's dicts?"""
        keys = {n.slice.value for n in self.nodes if isinstance(n, ast.Subscript) and isinstance(n.slice, ast.Constant)}
        return not keys & {KEYS[0], KEYS[2]}

    def _targets(self) -> Iterator[ast.Tuple]:
        """What batches are unpacked into."""
        for node in self.nodes:
            if isinstance(node, ast.For) and "load" in ast.unparse(node.iter).lower():
                yield from (n for n in ast.walk(node.target) if isinstance(n, ast.Tuple))
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
                value = node.value
                if ast.unparse(value) in ("batch", "data", "sample") or "next(" in ast.unparse(value):
                    yield node.targets[0]

    def _widest(self) -> ast.Tuple | None:
        flat = [t for t in self._targets() if all(isinstance(n, ast.Name) for n in t.elts) and len(t.elts) == 3]
        return flat[0] if flat else None

    @property
    def width(self) -> int:
        """How many parts a batch has."""
        return 3 if self._widest() is not None else 2

    @property
    def third_is_index(self) -> bool:
        """Is the third part the number of the example?"""
        widest = self._widest()
        return widest is not None and any(p in widest.elts[2].id.lower() for p in ("idx", "ind", "id", "num"))

    def _asked(self, name: str) -> tuple[list[str], list[str], list[ast.Tuple]]:
        """What is asked of a name: by key, by attribute, and what it is unpacked into."""
        keys, attributes, unpacked = [], [], []
        for node in self.nodes:
            of = getattr(node, "value", None)
            if isinstance(of, ast.Attribute) and of.attr == name and isinstance(of.value, ast.Name):
                of = ast.Name(name)  # self.args
            if not (isinstance(of, ast.Name) and of.id == name):
                continue
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                keys.append(node.slice.value)
            elif isinstance(node, ast.Attribute) and node.attr == "get":
                call = self._parents.get(node)
                if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant):
                    keys.append(call.args[0].value)
            elif isinstance(node, ast.Attribute) and node.attr not in ("items", "keys", "values", "copy"):
                attributes.append(node.attr)
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
                unpacked.append(node.targets[0])
        return list(dict.fromkeys(keys)), list(dict.fromkeys(attributes)), unpacked

    def dict_of(self, name: str, of_key: Callable[[str], str]) -> str:
        """All loaders together, as the code takes them apart: a dict, an object, a tuple."""
        keys, attributes, unpacked = self._asked(name)
        if unpacked:
            return f"({', '.join(of_key(ast.unparse(target)) for target in unpacked[0].elts)})"
        if attributes:
            return f"SimpleNamespace({', '.join(f'{key}={of_key(key)}' for key in attributes)})"
        if keys and all(isinstance(key, int) for key in keys):
            return "(retain, forget, val)"
        keys = [str(key) for key in keys] or ["retain", "forget", "val", "test", "train"]
        return "{" + ", ".join(f'"{key}": {of_key(key)}' for key in keys) + "}"

    def args_of(self) -> str:
        """The settings that the code reads of its `args`, with values, as Python."""
        defaults, keys, attributes = self._defaults(), [], []
        for name in NAMES_OF_ARGS:
            found = self._asked(name)
            keys, attributes = keys + found[0], attributes + found[1]
        values = {name: defaults.get(name) or guess(name)[0] for name in dict.fromkeys([*attributes, *map(str, keys)])}
        if keys and not attributes:
            return "{" + ", ".join(f'"{name}": {value}' for name, value in values.items()) + "}"
        return f"SimpleNamespace({', '.join(f'{name}={value}' for name, value in values.items())})"

    def _defaults(self) -> dict[str, str]:
        """The defaults of the file's own parser, by destination."""
        found = {}
        for call in (n for n in self.nodes if isinstance(n, ast.Call)):
            if getattr(call.func, "attr", "") != "add_argument":
                continue
            flags = [str(a.value) for a in call.args if isinstance(a, ast.Constant)]
            options = {k.arg: k.value for k in call.keywords}
            long = next((f for f in flags if f.startswith("--")), flags[0] if flags else "")
            name = ast.literal_eval(options["dest"]) if "dest" in options else long.lstrip("-").replace("-", "_")
            action = ast.unparse(options["action"]) if "action" in options else ""
            if isinstance(options.get("default"), ast.Constant) and options["default"].value is not None:
                found[name] = ast.unparse(options["default"])
            elif "store_true" in action or "store_false" in action:
                found[name] = str("store_false" in action)
        return found


METHODS = ("unlearn", "forget", "unlearning", "run", "execute", "apply", "fit", "train", "__call__")
GOOD = {"unlearn": 6, "unlearning": 6, "forget": 5, "run": 3, "main": 3, "execute": 3, "apply": 3, "erase": 4}
BAD = {
    "eval",
    "evaluate",
    "evaluation",
    "test",
    "accuracy",
    "validate",
    "validation",
    "loss",
    "mia",
    "load",
    "get",
    "save",
}
ARGS = {"args", "arg", "opt", "opts", "options", "config", "configs", "cfg", "conf", "hparams", "hp", "params"}
CRITERIA = {"criterion", "loss", "loss_fn", "loss_func", "loss_function", "lossfn", "ce"}
COPIES = {"teacher", "original", "orig", "old", "ref", "reference", "frozen", "pretrained", "initial", "source", "base"}
UNTRAINED = {"unlearning", "bad", "incompetent", "random", "dumb"}  # teachers that know nothing
ANEW = 'copy.deepcopy(net).apply(lambda m: m.reset_parameters() if hasattr(m, "reset_parameters") else None)'
NAMES = ("retain", "forget", "val")
ALL = "training"


@dataclass
class Entry:
    """A function or a class of theirs that may be what unlearns."""

    name: str
    node: ast.FunctionDef | ast.ClassDef
    calls: list[tuple[str, ast.FunctionDef]]  # what is called in turn: "" for the function or class itself, methods
    written: list[dict[str, str]] = field(default_factory=list)  # for each call, parameters with what is handed over
    unknown: list[str] = field(default_factory=list)  # parameters whose values are guessed

    @property
    def handed(self) -> str:
        """Everything that is handed over, as one text."""
        return " ".join(value for call in self.written for value in call.values())


def lines_for(tree: ast.Module) -> str:
    """What the form is, in a sentence, and the lines that adapt it; empty where nothing in the file looks like one."""
    read = Read(tree)
    found = [entry for node in tree.body if (entry := _entry(node, read)) is not None]
    if forced := [entry for entry in found if entry.name == "unlearning"]:
        if _is_ours(forced[-1].node):
            return ""
        found = forced[-1:]
    scores = {entry.name: _score(entry, read) for entry in found}
    found = sorted((e for e in found if scores[e.name] > 0), key=lambda entry: -scores[entry.name])
    if not found:
        return ""
    if _is_ours(found[0].node) and found[0].name != "unlearning":
        return f"the function {found[0].name} takes what it should; call it unlearning"
    return f"{_sentence(found[0], [entry.name for entry in found[1:]])}\n\n{_text(found[0], read)}"


def lines_of_pairs(tree: ast.Module) -> str:
    """The lines that hand (images, labels) to an `unlearning` that is right but for that; empty if it takes dicts."""
    read = Read(tree)
    if not read.takes_pairs:
        return ""
    node = ast.parse("def unlearning(net, retain, forget, val): return net").body[0]
    entry = Entry("unlearning", node, [("", node)], [{name: name for name in ("net", *NAMES)}])
    return f"or append these lines, which hand it such batches:\n\n{_text(entry, read)}"


def _score(entry: Entry, read: Read) -> int:
    """How likely it is the one that unlearns; 0 if it cannot be."""
    words, handed = set(entry.name.lower().strip("_").split("_")), set(re.findall(r"\w+", entry.handed))
    if "net" not in handed or words & BAD or not handed & {"retain", "forget", ALL}:
        return 0
    value = 10 + max(GOOD.get(word, 1) for word in words) + 2 * len(handed & {*NAMES, ALL})
    value += 3 * ("forget" in handed) - 2 * len(entry.unknown)
    return max(1, value - 5 * (entry.name in read.called) - 5 * (entry.name in read.bases))


def _is_ours(node: ast.AST) -> bool:
    """Four parameters, each of which is one of the four, perhaps in another order: that is told by name."""
    if not isinstance(node, ast.FunctionDef):
        return False
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
    return len(names) == 4 and len({tuple(meant(n) or meant_in_short(n)) for n in names} - {()}) == 4


def _sentence(best: Entry, others: list[str]) -> str:
    kind = "class" if isinstance(best.node, ast.ClassDef) else "function"
    more = f" (as might {', '.join(others[:6])})" if others else ""
    unknown = f", above all {', '.join(dict.fromkeys(best.unknown))}" if best.unknown else ""
    return (
        f"it looks like code of another benchmark, where the {kind} {best.name} unlearns{more}. Append these lines to "
        f"the file, or to a copy of it, set what is guessed of its settings{unknown}, and check it again:"
    )


def _entry(node: ast.stmt, read: Read) -> Entry | None:
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
        entry = Entry(node.name, node, [("", node)])
    elif isinstance(node, ast.ClassDef):
        methods = {m.name: m for m in read.methods(node)}
        method = next((name for name in METHODS if name in methods), None)
        if method is None or _is_module(node):
            return None
        made = [("", methods["__init__"])] if "__init__" in methods else [("", _no_parameters())]
        entry = Entry(node.name, node, [*made, (method, methods[method])])
    else:
        return None
    for number, (_, function) in enumerate(entry.calls):
        skip = 1 if isinstance(node, ast.ClassDef) and not read.is_static(function) else 0
        entry.written.append(_written(entry, function, read, skip, number))
    return entry


def _no_parameters() -> ast.FunctionDef:
    return ast.parse("def __init__(self): pass").body[0]


def _is_module(node: ast.ClassDef) -> bool:
    """Networks, data sets and losses have methods called `apply` and `train`, but unlearn nothing."""
    bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    return bool(bases & {"Module", "Dataset", "Optimizer", "Function", "Sampler", "Exception"})


def _written(entry: Entry, function: ast.FunctionDef, read: Read, skip: int, number: int) -> dict[str, str]:
    """Parameters with what is handed over for each, as Python."""
    arguments, written = function.args, {}
    by_place = [*arguments.posonlyargs, *arguments.args]
    needed = [a.arg for a in by_place[skip : len(by_place) - len(arguments.defaults)]]
    needed += [a.arg for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults) if default is None]
    names = [a.arg for a in (*by_place[skip:], *arguments.kwonlyargs)]
    has_retain = any(meant(name) == [1] for name in names)
    for name in names:
        value = _value(name, read, has_retain)
        if name in needed and value is None:
            value, known = guess(name)
            entry.unknown += [] if known else [name]
        if value is not None and (name in needed or _counts(value)):
            written[name] = value
    return written


def _counts(value: str) -> bool:
    """Is it handed over for a parameter that has a default, too?"""
    return value in ("net", "device", ALL, *NAMES) or value.endswith(".dataset")


def _value(name: str, read: Read, has_retain: bool) -> str | None:
    """What a parameter of this name is handed, None where its name says nothing."""
    lower = name.lower()
    words = set(lower.split("_"))
    if means_several(name):
        return read.dict_of(name, lambda key: _set_named(key, has_retain=True) or "retain")
    if lower in ARGS:
        return "args"
    if lower in CRITERIA:
        return "torch.nn.CrossEntropyLoss()"
    if words & COPIES and (0 in meant(name) or lower in COPIES or "teacher" in words):
        return ANEW if words & UNTRAINED else "copy.deepcopy(net)"
    if lower in ("m", "student") or (0 in meant(name) and not _set_named(name, has_retain)) or lower.endswith("model"):
        return "net"
    if "optim" in lower or lower == "opt":
        return "torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9)"
    if "scheduler" in lower:
        return None
    if lower == "device":
        return "device"
    return _set_named(name, has_retain)


def _set_named(name: str, has_retain: bool) -> str | None:
    """The loader, or the data set, that a name means."""
    lower, found = name.lower(), [place for place in (meant(name) or meant_in_short(name)) if place]
    is_number = any(part in lower for part in ("epoch", "lr", "step", "size", "weight", "ratio", "num", "class", "idx"))
    if is_number or (
        not found and not means_all_training(name) and lower not in ("loader", "dataloader", "data_loader")
    ):
        return None
    value = NAMES[found[0] - 1] if found else (ALL if has_retain and means_all_training(name) else "retain")
    return f"{value}.dataset" if lower.endswith(("set", "ds", "_data")) else value


def _text(entry: Entry, read: Read) -> str:
    """The lines to append."""
    handed = entry.handed
    used = [name for name in NAMES if name in handed or (name != "val" and ALL in handed)]
    pairs, theirs = read.free_name("pairs"), read.free_name("theirs")
    args = read.args_of() if re.search(r"\bargs\b", handed) else ""
    lines = ["import torch", *["import copy"] * ("copy." in handed), *["import numpy"] * read.sets_targets]
    lines += [*["from types import SimpleNamespace"] * ("SimpleNamespace" in args + handed), ""]
    if read.takes_pairs:
        lines += [*(_class_of_pairs(pairs, read) if read.sets_targets else _list_of_pairs(pairs, read)), ""]
    name = entry.name
    if name == "unlearning":
        lines += [f"{theirs} = unlearning", ""]
        name = theirs
    lines += ["", "def unlearning(net, retain_loader, forget_loader, val_loader):"]
    for set_ in used:
        lines.append(f"    {set_} = {pairs}({set_}_loader)" if read.takes_pairs else f"    {set_} = {set_}_loader")
    if ALL in handed:
        lines += ["    both = torch.utils.data.ConcatDataset([retain.dataset, forget.dataset])"]
        lines += [f"    {ALL} = torch.utils.data.DataLoader(both, batch_size=64, shuffle=True)"]
    lines += ["    device = next(net.parameters()).device"] * ("device" in args + handed)
    lines += [f"    classes = {CLASSES}"] * bool(re.search(r"\bclasses\b", args + handed))
    lines += [f"    args = {args}"] if args else []
    return "\n".join([*lines, "    net.train()", *_call(entry, name)]) + "\n"


def _third(read: Read, label: str) -> str:
    """What comes third in an example, where the code takes three parts."""
    return "" if read.width == 2 else ", i" if read.third_is_index else f", {label}"


def _list_of_pairs(name: str, read: Read) -> list[str]:
    third = _third(read, 'row["age_group"]')
    rows = "i, row in enumerate(loader.dataset)" if read.third_is_index else "row in loader.dataset"
    return [
        "",
        f"def {name}(loader):  # batches as the code above takes them",
        f'    rows = [(row["image"], row["age_group"]{third}) for {rows}]',
        "    return torch.utils.data.DataLoader(rows, batch_size=64, shuffle=True)",
    ]


def _class_of_pairs(name: str, read: Read) -> list[str]:
    kind = read.free_name("Pairs")
    return [
        "",
        f"class {kind}(torch.utils.data.Dataset):  # examples as the code above takes them",
        "    def __init__(self, dataset):",
        "        self.dataset, self.targets = dataset, numpy.array(dataset.targets)",
        "",
        "    def __len__(self):",
        "        return len(self.targets)",
        "",
        "    def __getitem__(self, i):",
        f'        return self.dataset[i]["image"], self.targets[i]{_third(read, "self.targets[i]")}',
        "",
        "",
        f"def {name}(loader):",
        f"    return torch.utils.data.DataLoader({kind}(loader.dataset), batch_size=64, shuffle=True)",
    ]


def _call(entry: Entry, name: str) -> list[str]:
    """The call, and the lines that put its result into `net`."""

    def arguments(number: int) -> str:
        function = entry.calls[number][1]
        keyword_only = {a.arg for a in function.args.kwonlyargs}
        places = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
        given, skipped, parts = entry.written[number], False, []
        for parameter in (*places, *sorted(keyword_only)):
            if parameter in given:
                named = skipped or parameter in keyword_only
                parts.append(f"{parameter}={given[parameter]}" if named else given[parameter])
            elif parameter not in ("self", "cls"):
                skipped = True
        return ", ".join(parts)

    last = entry.calls[-1][1]
    returns = any(isinstance(n, ast.Return) and n.value is not None for n in ast.walk(last))
    if isinstance(entry.node, ast.ClassDef):
        method = entry.calls[1][0]
        lines = [f"    method = {name}({arguments(0)})"]
        call = f"method({arguments(1)})" if method == "__call__" else f"method.{method}({arguments(1)})"
        kept = _kept_net(entry)
    else:
        lines, call, kept = [], f"{name}({arguments(0)})", ""
    if not returns and not kept:
        return [*lines, f"    {call}"]
    lines += [f"    new = {call}"] if returns else [f"    {call}", f"    new = method.{kept}"]
    lines += ["    new = new[0] if isinstance(new, tuple) else new"] if returns else []
    lines += [f"    new = new if isinstance(new, torch.nn.Module) else method.{kept}"] if returns and kept else []
    check = "isinstance(new, torch.nn.Module) and new is not net"
    return [*lines, f"    if {check}:", "        net.load_state_dict(new.state_dict())"]


def _kept_net(entry: Entry) -> str:
    """Under which name the object keeps a copy of the net; empty if it works on the net itself or keeps none."""
    function = entry.calls[0][1]
    own = [name for name, value in entry.written[0].items() if value == "net"]
    for node in (n for n in ast.walk(function) if isinstance(n, ast.Assign)):
        target, value = node.targets[0], node.value
        several = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
        for one, its in zip(target.elts, value.elts) if several else [(target, value)]:
            names = {n.id for n in ast.walk(its) if isinstance(n, ast.Name)}
            if isinstance(one, ast.Attribute) and names & set(own) and isinstance(its, ast.Call | ast.Name):
                return one.attr
    return ""
