# ruff: noqa: B018
"""The cells of notebooks/walkthrough.ipynb; see `local_eval/kaggle/export.py`, which writes it. Never imported.

How to use it: python -m local_eval export --all
"""

# %% [markdown]
# # From a method to its score
#
# A tour of the grader on the embedded digits task, by the functions that `import local_eval` offers. It needs this
# repository and its requirements, or the kit installed. About five minutes on two CPU cores.

# %%
import sys
from pathlib import Path

import numpy as np

if not Path("local_eval").is_dir():  # Jupyter starts in the notebook's folder; an installed kit needs none of this
    sys.path.insert(0, str(Path.cwd().parent))

import local_eval

# %% parameters
SUBMISSION = "baseline_finetune"  # name in submissions/, or path to a .py file
TASK = "digits"
RUNS = 64  # models on each side; the competition took 512
OUT = "outputs"

# %% [markdown]
# ## Oracles, runs, score
#
# Oracles are models retrained without the forget set; runs are the original model after unlearning. Both are kept on
# disk, so running this again is quick.

# %%
score = local_eval.grade(SUBMISSION, task=TASK, runs=RUNS, out=OUT)
print(score)

# %% [markdown]
# ## The page
#
# `score.report()` draws the whole page, report.html, and says where it is. As the last line of a cell, the score shows
# the head of that page.

# %%
score

# %% [markdown]
# ## What the score looks at
#
# Every model has a confidence in the right class of every forget example, on a logit scale. For each example the
# grader asks how well an attacker could tell the runs' confidences from the oracles'. Alike means forgotten.

# %%
unlearned, retrained = score.confidences()  # [N, E] each
quality = local_eval.forgetting_quality(unlearned, retrained, order="models, examples")
print(f"forgetting quality {quality:.4f}")
order = np.argsort(score.epsilons)
shown = {"best forgotten": order[0], "in the middle": order[len(order) // 2], "worst forgotten": order[-1]}


def text_histogram(values: np.ndarray, edges: np.ndarray) -> str:
    """Counts per bin as one line of digits, 9 for the fullest."""
    counts = np.histogram(values, edges)[0]
    return "".join(".123456789"[int(np.ceil(9 * count / counts.max()))] for count in counts)


for name, example in shown.items():
    both = np.concatenate([unlearned[:, example], retrained[:, example]])
    edges = np.linspace(both.min(), both.max(), 41)
    print(f"{name}: epsilon {score.epsilons[example]:.2f}, confidences from {edges[0]:.1f} to {edges[-1]:.1f}")
    print("  unlearned ", text_histogram(unlearned[:, example], edges))
    print("  retrained ", text_histogram(retrained[:, example], edges))

# %% [markdown]
# ## The same as a picture, where matplotlib is installed

# %%
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("matplotlib is not installed; the histograms above say the same")
else:
    figure, axes = plt.subplots(1, len(shown), figsize=(12, 3))
    for axis, (name, example) in zip(axes, shown.items()):
        axis.hist([unlearned[:, example], retrained[:, example]], bins=20, label=["unlearned", "retrained"])
        axis.set_title(f"{name}, epsilon {score.epsilons[example]:.2f}")
        axis.set_xlabel("confidence, logit scale")
    axes[0].legend()
    plt.show()
