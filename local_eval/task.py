"""The old address of `Task`, `Split` and `Recipe`, kept for task files that people have written."""

from local_eval.tasks.loading import load_task
from local_eval.tasks.names import TaskError
from local_eval.tasks.recipe import Recipe
from local_eval.tasks.task import Split, Task

__all__ = ["Recipe", "Split", "Task", "TaskError", "load_task"]
