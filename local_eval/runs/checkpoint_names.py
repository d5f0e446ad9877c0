"""Which files of a zip or folder are checkpoints, and which is which, by their names alone.

How it is used: `sorted_out(names, path)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from local_eval.engine.files import is_litter
from local_eval.engine.state_files import CheckpointError

OURS = "unlearned_checkpoint_"
OFFICIAL = "kaggle/tmp/"  # as `zip submission.zip /kaggle/tmp/*.pth` names them
# One folder at most, or the official zip's two; a stem without digits, so that one number is left; no path
# leads anywhere, since a folder's name begins with a letter or digit and has no colon.
NAME = re.compile(
    r"(?P<folder>(?:kaggle/tmp|\w[\w .()-]*)/)?"
    r"(?P<stem>(?:[^\W\d_](?:[^\W\d]|[ .-])*?)?)(?P<number>[0-9]{1,6})(?P<ending>\.pth|\.pt|\.safetensors)",
)
OTHER = re.compile(r"epoch|step|iter|oracle|retrain|original", re.IGNORECASE)  # numbers of something else
OTHER_OF_RETRAINED = re.compile(r"epoch|step|iter|original", re.IGNORECASE)
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".xz", ".bz2", ".zst")


@dataclass(frozen=True)
class Sorted:
    """Names as they are in the archive, by number, and in words what they look like if not as usual."""

    found: dict[int, str]
    said: str


def sorted_out(names: Iterable[str], path: Path, retrained: bool = False) -> Sorted:
    """Tell checkpoints, of unlearned or of retrained models, from what systems leave behind, and number them.

    Raises:
        CheckpointError: any other file, a number twice, or names of several kinds.
    """
    found: dict[int, str] = {}
    kinds: dict[tuple[str | None, ...], str] = {}
    litter = 0
    for name in names:
        plain = name.replace("\\", "/")
        if any(is_litter(part) for part in plain.split("/")) and ".." not in plain.split("/"):
            litter += 1
            continue
        match = _match(name, plain, path, retrained)
        index = int(match["number"])
        if index in found:
            raise CheckpointError(f"{path}: checkpoint {index} is there twice, as {found[index]!r} and {name!r}")
        found[index] = name
        folder = None if match["folder"] == OFFICIAL else match["folder"]
        kinds.setdefault((folder, match["stem"], match["ending"]), name)
    if len(kinds) > 1:
        one, other = list(kinds.values())[:2]
        raise CheckpointError(f"{path}: holds {one!r} and {other!r}; all checkpoints must have names of one kind")
    return Sorted(found, _said(found, kinds, litter))


def _match(name: str, plain: str, path: Path, retrained: bool) -> re.Match:
    match = NAME.fullmatch(plain)
    if match and not (OTHER_OF_RETRAINED if retrained else OTHER).search(match["stem"]):
        return match
    if plain.lower().endswith(ARCHIVES):
        raise CheckpointError(f"{path}: holds {name!r}, an archive in the archive; unpack it, and give its checkpoints")
    if match:
        raise CheckpointError(
            f"{path}: holds {name!r}, whose number seems to be no model's; name the files {OURS}0.pth ..."
        )
    raise CheckpointError(f"{path}: holds {name!r}; only files {OURS}0.pth ... may be there")


def _said(found: dict[int, str], kinds: dict[tuple[str, str], str], litter: int) -> str:
    said = []
    usual = {f"{folder}{OURS}{k}.pth" for k in found for folder in ("", OFFICIAL)}
    if odd := [name for _, name in sorted(found.items()) if name not in usual]:
        said.append(f"{len(found)} files named as {odd[0]}")
    if litter:
        said.append(f"{litter} of the system's files passed over")
    return ", ".join(said)
