"""Found by Python when this folder is in PYTHONPATH: a process that loads torch has pretended cards from then on.

Nothing happens without the variable PRETENDED_CARD, see card.py.
"""

import importlib.abc
import importlib.machinery
import json
import os
import sys


class WhenTorchIsLoaded(importlib.abc.MetaPathFinder):
    """Lets torch load as usual, and then puts the card in."""

    def find_spec(self, name, path, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def load_and_install(module):
            load(module)
            from tests.pretended_card.card import VARIABLE, Settings
            from tests.pretended_card.install import install

            install(Settings(**json.loads(os.environ[VARIABLE])))

        spec.loader.exec_module = load_and_install
        return spec


if "PRETENDED_CARD" in os.environ:
    sys.meta_path.insert(0, WhenTorchIsLoaded())
