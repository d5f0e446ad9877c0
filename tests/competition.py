"""A made-up competition: the input folder as on Kaggle (PNG files, three CSV files, the original model), as a task too.

Two persons a split, 32x32 images, classes 0 to 2 with most in class 0, as many as one batch can hold. Its network is
resnet18, or one of the same structure with fewer channels, which takes a fraction of the time.
"""

import csv
import json

import numpy as np
import torch
from PIL import Image
from torchvision.models import resnet18

from local_eval.oracles.original import save_original
from tests.tiny_task import TinyResNet

SIZES = {"retain": 40, "forget": 12, "validation": 20}
TASK = '''
"""The made-up competition as a task."""
import csv
from pathlib import Path
import numpy as np
import torch
from PIL import Image
from tests.competition import {net}
from local_eval.tasks.task import Recipe, Split, Task

INPUT = Path({input!r})

def split(name):
    with open(INPUT / (name + ".csv")) as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["image_id"].replace("-", "/") + ".png")
    files = [INPUT / "images" / row["person_id"] / (row["image_id"].split("-")[1] + ".png") for row in rows]
    images = torch.stack([torch.from_numpy(np.asarray(Image.open(f)).copy()).permute(2, 0, 1) for f in files])
    number = {{key: torch.tensor([int(row[key]) for row in rows]) for key in ("age_group", "age", "person_id")}}
    ids = torch.tensor([int(row["image_id"].replace("-", "")) for row in rows])
    return Split(images.contiguous(), number["age_group"], ids, number["person_id"], number["age"])

def task():
    parts = {{name: split(name) for name in ("retain", "forget", "validation")}}
    test = Split(**{{**parts["validation"].tensors(), "image_id": parts["validation"].image_id + 10**6}})
    return Task("competition", lambda: {net}(num_classes=10), **parts, test=test, recipe=Recipe(1, 1e-3, 0.0))
'''


def narrow_resnet18(weights=None, num_classes=10):
    """A stand-in for torchvision's resnet18."""
    return TinyResNet(4, num_classes)


def make_competition(folder, make_net=resnet18):
    """Write the input folder below `folder`, and the same data as a task; returns (input folder, task file, original).

    The original is saved as the kit does, with its fingerprint left empty.
    """
    root, random = folder / "input", np.random.default_rng(0)
    for number, (name, size) in enumerate(SIZES.items()):
        rows = [write_image(root, random, person=10 + 2 * number + k % 2, index=k) for k in range(size)]
        with open(root / f"{name}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(random.permutation(rows))
    torch.manual_seed(0)
    state = make_net(num_classes=10).state_dict()
    torch.save(state, root / "original_model.pth")
    save_original(folder / "original.npz", state, "")
    (root / "age_class_weights.json").write_text(json.dumps({str(k): 5 for k in range(10)}))
    (folder / "competition.py").write_text(TASK.format(input=str(root), net=make_net.__name__))
    return root, folder / "competition.py", folder / "original.npz"


def write_image(root, random, person: int, index: int) -> dict:
    """Write one noisy image below images/PERSON/ and return its row of the CSV file."""
    age_group = int(random.choice([0, 0, 0, 1, 2]))
    pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    pixels[8:16, 8:16] = 80 * age_group
    path = root / "images" / str(person) / f"{index}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return {
        "image_id": f"{person}-{index}",
        "age_group": age_group,
        "age": 10 * age_group + 3,
        "person_id": person,
    }
