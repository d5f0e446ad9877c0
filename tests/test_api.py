"""What `import local_eval` offers is there, and costs nothing until it is asked for."""

import subprocess
import sys

import pytest

import local_eval


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, local_eval; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", local_eval.OFFERED)
def test_every_name_that_is_offered_is_there(name):
    assert getattr(local_eval, name).__name__ == name


def test_other_names_are_refused_with_what_there_is():
    with pytest.raises(AttributeError, match="it has .*forgetting_quality"):
        _ = local_eval.nothing


def test_the_old_address_of_task_files_still_works():
    from local_eval.task import Recipe, Split, Task, load_task

    assert (Recipe, Split, Task) == (local_eval.Recipe, local_eval.Split, local_eval.Task)
    assert load_task is local_eval.load_task
