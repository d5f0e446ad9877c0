"""What code of another benchmark reads: of its `args`, its dict of loaders, its batches; and values for settings.

Values come from the file's own add_argument(default=...) where it has a parser, else they are guessed by name.

How it is used: `Read(tree)` in runs/adapters.py.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from local_eval.runs.meaning import KEYS

ARGS = {"args", "arg", "opt", "opts", "options", "config", "configs", "cfg", "conf", "hparams", "hp"}
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
        for name in ARGS:
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
