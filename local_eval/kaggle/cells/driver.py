# ruff: noqa: F821
"""What an exported notebook does around the method: the competition's data, its 512 runs and its submission.zip.

`local_eval/kaggle/export.py` copies the cells below into every notebook; this file is never imported. `# %%` starts a
cell, `# %% [markdown]` a text cell, `# %% NAME` a cell with that tag. Code comes from the kit, the protocol (paths,
keys, names, the mock branch) from the official starting notebook.

How to use it: python -m local_eval export fanchuan
"""

# %% imports
import copy
import json
import random
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, read_image
from torchvision.models import resnet18

# %% parameters
INPUT = "/kaggle/input/neurips-2023-machine-unlearning"  # the competition's files
TMP = "/kaggle/tmp"  # for checkpoints: 512 of them take 23 GB, more than the working folder holds
WORKING = "/kaggle/working"  # submission.zip must lie here
RUNS = 512  # the competition demands exactly this many checkpoints
SEED = None  # a number makes all runs repeatable, None draws a fresh one
HOURS = 8  # the competition's limit for everything
REHEARSAL = (23_500, 480, 3_000)  # made-up retain, forget and validation images, as many as in the competition

# %% [markdown]
# ## The device
#
# Checked first: a GPU that this build of torch has no code for is found only when the first kernel dies.

# %%
START = time.perf_counter()
PICK = "On Kaggle, pick 'GPU T4 x2' in the notebook's settings under Accelerator, then run again."


def has_code_for(major: int, minor: int, architectures: list[str]) -> bool:
    """Can a GPU of this compute capability run a build of torch for these architectures ('sm_75', 'compute_90')?"""
    for architecture in architectures:
        kind, _, number = architecture.partition("_")
        if not number.isdigit():  # such as sm_90a: for one exact chip, and listed beside the general one
            continue
        built = divmod(int(number), 10)
        if kind == "sm" and built[0] == major and built[1] <= minor:
            return True
        if kind == "compute" and built <= (major, minor):  # translated by the driver when loaded
            return True
    return False


def pick_device() -> torch.device:
    """The GPU if there is one, else the CPU. Raises RuntimeError for a GPU that this build of torch cannot use."""
    if not torch.cuda.is_available():
        print(f"No GPU found: going on on the CPU, far too slow for {RUNS} runs. {PICK}")
        return torch.device("cpu")
    name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    architectures = torch.cuda.get_arch_list()
    if not has_code_for(*capability, architectures):
        raise RuntimeError(
            f"{name} (sm_{capability[0]}{capability[1]}) cannot be used: torch {torch.__version__} is built for "
            f"{', '.join(architectures)}. {PICK}"
        )
    print(f"{name}, torch {torch.__version__}")
    return torch.device("cuda")


DRIVER_DEVICE = pick_device()

# %% [markdown]
# ## The competition's data
#
# Three CSV files name the images. A batch is a dict with `image` (float32, raw 0-255 pixels), `image_id`, `age_group`
# (the class), `age` and `person_id`.


# %%
def input_folder(place: str) -> str:
    """`place`, or the folder in which Kaggle mounts competitions now. Raises FileNotFoundError if it is neither."""
    newer = Path(place).parent / "competitions" / Path(place).name
    for folder in (Path(place), newer):
        if folder.is_dir():
            return str(folder)
    raise FileNotFoundError(
        f"the competition's files are neither in {place} nor in {newer}: attach them in the notebook under Add Input, "
        "Competitions, then run again"
    )


INPUT = input_folder(INPUT)


class CompetitionDataset(Dataset):
    """The examples of one CSV file, images in memory as uint8 [3, 32, 32]."""

    transform = None

    def __init__(self, split: str):
        table = pd.read_csv(Path(INPUT) / f"{split}.csv")
        if table.empty:
            raise ValueError(f"{split}.csv in {INPUT} lists no images")
        table["path"] = [f"{INPUT}/images/{'/'.join(name.split('-'))}.png" for name in table["image_id"]]
        self.examples = [self.example(row) for row in table.sort_values("path").to_dict("records")]

    @property
    def targets(self) -> list[int]:
        """The class of every example."""
        return [example["age_group"] for example in self.examples]

    @staticmethod
    def example(row: dict) -> dict:
        """One row of the CSV file with its image."""
        image = read_image(row["path"], ImageReadMode.RGB)
        return {"image": image} | {key: row[key] for key in ("image_id", "age_group", "age", "person_id")}

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict:
        example = self.examples[index]
        return example | {"image": example["image"].to(torch.float32)}  # a fresh dict: the stored image stays uint8


def make_loader(dataset: Dataset) -> DataLoader:
    """Shuffled batches of 64, as the starting notebook hands them out."""
    return DataLoader(dataset, batch_size=64, shuffle=True)


# %% [markdown]
# ## One run
#
# Every run starts from a fresh copy of the original net and from a seed of its own. The official driver reused one net,
# which therefore was in train mode in run 0 and in the mode that the method leaves it in afterwards; that is kept.


# %%
ENTROPY = int(np.random.SeedSequence().entropy % 2**32) if SEED is None else SEED
print(f"SEED = {ENTROPY} repeats these runs")


def seed_run(index: int) -> None:
    """Seed torch, numpy and random from (ENTROPY, index) alone."""
    words = np.random.SeedSequence([ENTROPY, index]).generate_state(3)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))
    random.seed(int(words[2]))


def unlearned_net(original: nn.Module, loaders: list[DataLoader], index: int) -> nn.Module:
    """Run `index` of the method. Raises RuntimeError if the net no longer fits or is not finite."""
    net = copy.deepcopy(original).train(index == 0)
    seed_run(index)
    unlearning(net, *loaders)
    state, fitting = net.state_dict(), original.state_dict()
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in fitting.items()}:
        raise RuntimeError(f"run {index}: the method changed the names or shapes of the state dict")
    if not all(value.isfinite().all() for value in state.values()):
        raise RuntimeError(f"run {index}: the net holds NaN or infinite values")
    return net


def original_net() -> nn.Module:
    """The competition's original model."""
    net = resnet18(weights=None, num_classes=10).to(DRIVER_DEVICE)
    net.load_state_dict(torch.load(f"{INPUT}/original_model.pth", map_location=DRIVER_DEVICE, weights_only=True))
    return net


# %% [markdown]
# ## All runs, within the time
#
# A line shows the running and the projected total time, zipping included. The driver stops when the projection passes
# the limit: what is finished by then stays in the folder of checkpoints.


# %%
def checkpoint_path(index: int) -> Path:
    """Where the checkpoint of a run goes."""
    return Path(TMP) / f"unlearned_checkpoint_{index}.pth"


def zip_checkpoints(target: Path, indices: range) -> None:
    """Zip checkpoints under the names that `zip submission.zip /kaggle/tmp/*.pth` gives them."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for index in indices:
            archive.write(checkpoint_path(index), f"kaggle/tmp/{checkpoint_path(index).name}")


def seconds_to_zip_one() -> float:
    """How long a checkpoint takes to zip, tried on the first."""
    trial, start = Path(TMP) / "trial.zip", time.perf_counter()
    zip_checkpoints(trial, range(1))
    trial.unlink()
    return time.perf_counter() - start


def hours(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"


def show_and_check_time(done: int, running: float, zipping: float) -> None:
    """Print the bar; raise RuntimeError if the limit will be passed.

    `running` is the seconds that the finished runs took together, `zipping` those that one checkpoint takes to zip.
    """
    elapsed = time.perf_counter() - START
    projected = elapsed + (RUNS - done) * running / done + RUNS * zipping
    bar = "#" * (30 * done // RUNS)
    print(f"\r[{bar:<30}] {done}/{RUNS}  {hours(elapsed)} so far, {hours(projected)} projected", end="", flush=True)
    if projected > HOURS * 3600 and done >= min(8, RUNS):  # a few runs first: the very first is slow
        raise RuntimeError(
            f"stopped after {done} of {RUNS} runs: {hours(projected)} projected, the limit is {hours(HOURS * 3600)}. "
            f"The {done} checkpoints stay in {TMP}. Make the method cheaper: fewer epochs or bigger batches"
        )


def make_checkpoints() -> None:
    """All runs of the method, each saved as soon as it is finished."""
    Path(TMP).mkdir(parents=True, exist_ok=True)
    counts = json.loads(Path(INPUT, "age_class_weights.json").read_text())
    print("examples per class in the original training:", counts)
    loaders = [make_loader(CompetitionDataset(split)) for split in ("retain", "forget", "validation")]
    original, start, zipping = original_net(), time.perf_counter(), 0.0
    for index in range(RUNS):
        torch.save(unlearned_net(original, loaders, index).state_dict(), checkpoint_path(index))
        running = time.perf_counter() - start
        zipping = zipping or seconds_to_zip_one()
        show_and_check_time(index + 1, running, zipping)
    print()


def make_submission() -> None:
    """Zip the checkpoints; raises RuntimeError unless there are exactly RUNS of them."""
    found = {path.name for path in Path(TMP).glob("*.pth")}
    wanted = {checkpoint_path(index).name for index in range(RUNS)}
    if found != wanted:
        odd = ", ".join(sorted(found ^ wanted)[:4])
        raise RuntimeError(f"{TMP} must hold exactly {RUNS} checkpoints; missing or not expected: {odd}")
    zip_checkpoints(Path(WORKING) / "submission.zip", range(RUNS))
    print(f"{RUNS} checkpoints zipped, {hours(time.perf_counter() - START)} in all")


# %% [markdown]
# ## Calibration
#
# The data exist only while Kaggle scores; until then `empty.txt` stands in for them. The notebook then measures itself
# on made-up images: the starting notebook's single fine-tuning epoch (the *stock epoch*) and one run of the method.
# The last line that it prints is a command for where the kit is: it says whether all runs fit into the time.


# %%
class MadeUpDataset(CompetitionDataset):
    """Noise in the shape of the competition's examples, for timing."""

    def __init__(self, size: int):
        images = torch.randint(0, 256, (size, 3, 32, 32), dtype=torch.uint8)
        self.examples = [
            {"image": image, "image_id": f"0-{i}", "age_group": i % 10, "age": i % 100, "person_id": 0}
            for i, image in enumerate(images)
        ]


def stock_epoch(net: nn.Module, loader: DataLoader) -> None:
    """What the starting notebook does: one epoch of fine-tuning on the retain set."""
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    net.train()
    for batch in loader:
        loss = nn.functional.cross_entropy(net(batch["image"].to(DRIVER_DEVICE)), batch["age_group"].to(DRIVER_DEVICE))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()


def seconds_of(work) -> float:
    """Seconds that `work()` takes, GPU work included."""
    start = time.perf_counter()
    work()
    if DRIVER_DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def calibrate() -> None:
    """Print what a stock epoch and a run of the method take on this device, on made-up images."""
    loaders = [make_loader(MadeUpDataset(size)) for size in REHEARSAL]
    original = resnet18(weights=None, num_classes=10).to(DRIVER_DEVICE)
    stock_epoch(copy.deepcopy(original), make_loader(MadeUpDataset(640)))  # warm-up
    stock = seconds_of(lambda: stock_epoch(copy.deepcopy(original), loaders[0]))
    print(f"calibration: a stock epoch takes {stock:.2f} s here")
    run = seconds_of(lambda: unlearning(copy.deepcopy(original), *loaders))
    print(f"calibration: a run takes {run:.2f} s, {run / stock:.2f} stock epochs; {RUNS} runs {hours(RUNS * run)}")
    if RUNS * run > HOURS * 3600:
        print(f"calibration: that is more than the {HOURS} hours allowed")
    in_the_kit = "python -m local_eval budget NAME"
    print(f"calibration: {in_the_kit} --stock-epoch-seconds {stock:.4g}")


# %% [markdown]
# ## Go

# %%
if Path(INPUT, "empty.txt").exists():
    (Path(WORKING) / "submission.zip").touch()
    print("empty.txt stands in for the data: an empty submission.zip is left, as the competition asks")
    calibrate()
else:
    make_checkpoints()
    make_submission()
