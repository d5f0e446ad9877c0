"""The kit's own tasks, loaded once."""

import pytest

from local_eval.tasks.loading import load_task


@pytest.fixture(scope="session")
def digits():
    return load_task("digits")


@pytest.fixture(scope="session")
def small():
    return load_task("competition_small")
