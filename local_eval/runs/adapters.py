"""Code written for other benchmarks: recognise its form, and write the lines that make a submission of it.

Their methods take a dict of loaders, an `args` object, a criterion, (image, label) batches, or are classes with a
method that unlearns. All of that can be told from parameters' names and from what the code reads, without running it.
The lines are appended to their file, since a submission is one file.

How it is used: `lines_for(tree)` in runs/signature.py and runs/contract.py, `lines_of_pairs(tree)` there too.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

from local_eval.runs.meaning import means_all_training, means_several, meant, meant_in_short
from local_eval.runs.theirs import CLASSES, Read, guess

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
