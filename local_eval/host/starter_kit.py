"""The folder that entrants are given: the rules, a method to begin with, and how to try one at home.

It holds neither oracles nor originals, no seed, no key, no path of the host's, and no method but the starter.

How it is used: `write_kit(competition)`, at the end of `host init`
"""

from __future__ import annotations

import json
from dataclasses import asdict

from local_eval.commands import command
from local_eval.host.competition import KIT_FOLDER, RULES, STARTER, Competition, Rules
from local_eval.methods.submission import SUBMISSIONS
from local_eval.shared.writing import spec_for_others
from local_eval.store.errors import many
from local_eval.store.files import write_atomically
from local_eval.tasks.names import split_changes, task_names

TEMPLATE, FIRST, PAGE = "my_method.py", "starter.py", "README.md"
OF_THE_KIT = ("task", "runs", "device", "hours", "looks", "versions", "largest_file", "format", "seconds", "scale")

PAGE_TEXT = """\
# Make a network forget: the rules

Write one function, `unlearning(net, retain_loader, forget_loader, val_loader)`. It gets a network that was trained on
the retain and the forget set, and changes it in place, so that it is like a network that has never seen the forget set.

The grader runs it {runs} times with other random numbers and compares the {runs} networks with {runs} that were
retrained without the forget set (*oracles*). For every forget example it looks how well the two kinds can be told
apart. The less they can, the higher the score; it is multiplied by what is left of the accuracy on the retain and on
the test set. A method that always gives the same network scores 0, and so does one that changes nothing.

## What is handed in

One file, `.py` or `.ipynb`, of at most {largest} bytes. `{template}` here is one to begin with, and `{first}` is the
official starter. It may import torch, torchvision, numpy, pandas, the standard library, and `common` of the kit.

## When it is valid

* It keeps the contract: it changes `net` in place, leaves finite weights, and leaves the data as they are.
* **Each run ends within {seconds:.3g} seconds** on the organiser's machine ({device}; {seconds_from}). A late run is
  timed once more on its own. If it is late again, the entry is not valid.
* No run fails.

It works in a sandbox: no network, no files but a folder of its own, no other processes, one file of code. It gets
no test set and no oracle. Reading what it is not given, running code out of texts, bringing trained weights, and
handing in somebody else's method under another name are against the rules. Entries are compared with each other and
with published methods.

## What you are told

Each judging answers whether the entry is valid, and its score on the *public* part, with the interval in which another
draw of runs and oracles would lie. Differences within it are luck. The *relative* score puts the starter
({zero}, {zero_score:.4f}) at 0 and a winner of the official competition ({hundred}, {hundred_score:.4f}) at 100.
{looks}

The ranking is made at the end, on other forget examples, with oracles and random numbers that no judging has used. Of
each entrant the valid entry with the best public score takes part. Entries that the final part cannot tell apart are
tied.

## Try it at home

Install the kit, version {kit}, with torch {torch}. Then{own_task}

    {check}
    {grade}

The first takes seconds and says what to change. The second gives a score like that of the public part, but with other
random numbers, so it is not the same to the digit. Every judging counts; gradings at home do not.

`{rules}` has these rules for programs.
"""


def write_kit(competition: Competition) -> None:
    """Write the folder anew. Raises OutputError."""
    folder, rules = competition.folder / KIT_FOLDER, competition.rules
    write_atomically(folder / PAGE, page(rules).encode())
    write_atomically(folder / RULES, (json.dumps(for_entrants(rules), indent=2) + "\n").encode())
    write_atomically(folder / TEMPLATE, (SUBMISSIONS / "_template.py").read_bytes())
    write_atomically(folder / FIRST, (SUBMISSIONS / f"{STARTER}.py").read_bytes())


def for_entrants(rules: Rules) -> dict:
    """The rules without what is the host's: folders, and the hash of the key."""
    told = {name: value for name, value in asdict(rules).items() if name in OF_THE_KIT}
    return told | {"task": spec_for_others(rules.task), "key_sha256": rules.key_sha256}


def page(rules: Rules) -> str:
    """The rules for people."""
    task = spec_for_others(rules.task)
    own = split_changes(task)[0] not in task_names()
    how = {"task": task, "runs": rules.runs, "device": rules.device}
    return PAGE_TEXT.format(
        runs=rules.runs,
        largest=rules.largest_file,
        template=TEMPLATE,
        first=FIRST,
        seconds=rules.seconds,
        seconds_from=rules.seconds_from,
        device=rules.device,
        zero=rules.scale.zero.method,
        zero_score=rules.scale.zero.score,
        hundred=rules.scale.hundred.method,
        hundred_score=rules.scale.hundred.score,
        looks=f"You have {many(rules.looks, 'look')}: a file that was judged before costs none." if rules.looks else "",
        kit=rules.versions["kit"],
        torch=rules.versions["torch"],
        own_task=", with the task's files, which the organiser has," if own else "",
        check=command("check", [TEMPLATE], task=task, device=rules.device, more=["--sandbox"]),
        grade=command("grade", [TEMPLATE], **how),
        rules=RULES,
    )
