"""The hidden grader on your own machine: one package a room, in the order of the data's path.

tasks -> oracles -> methods -> runs -> metric -> report, on top of store, isolation and cluster; kaggle and bench stand
beside them, `grader` strings them together, `api` is for Python, and `cli` and `__main__` are the command line. Imports
point one way.

From Python, `import local_eval` offers the names in OFFERED; each is imported when it is first asked for.
docs/python.md has an example of each.
"""

import importlib

__version__ = "0.2.0"
OFFERED = {
    "Comparison": "local_eval.metric.uncertainty.paired",
    "Grader": "local_eval.grader",
    "InputError": "local_eval.store.errors",
    "Projection": "local_eval.metric.uncertainty.projection",
    "ProjectionError": "local_eval.metric.uncertainty.projection",
    "Recipe": "local_eval.tasks.task",
    "Score": "local_eval.metric.score",
    "ScoreInterval": "local_eval.metric.uncertainty.interval",
    "Split": "local_eval.tasks.task",
    "Task": "local_eval.tasks.task",
    "WorkError": "local_eval.store.errors",
    "compare_methods": "local_eval.metric.uncertainty.paired",
    "forgetting_quality": "local_eval.metric.metric",
    "grade": "local_eval.api",
    "graded": "local_eval.report.compare",
    "load_task": "local_eval.tasks.loading",
    "logit_scaled_confidence": "local_eval.metric.metric",
    "project": "local_eval.metric.uncertainty.projection",
    "read_score": "local_eval.report.result",
    "save_task": "local_eval.methods.task_files",
    "score_interval": "local_eval.metric.uncertainty.interval",
    "task_from": "local_eval.tasks.from_python",
}
__all__ = sorted(OFFERED)


def __getattr__(name: str):
    if name not in OFFERED:
        raise AttributeError(f"local_eval offers no {name}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(OFFERED[name]), name)
