"""The kit's own tasks, loaded once."""

import pytest

from local_eval.tasks.loading import load_task
from tests.competition import narrow_resnet18


@pytest.fixture(scope="session")
def digits():
    return load_task("digits")


@pytest.fixture
def narrow_networks(monkeypatch):
    """A resnet18 of tasks, whose files are imported anew each time, has a sixteenth of its channels."""
    monkeypatch.setattr("torchvision.models.resnet18", narrow_resnet18)
    monkeypatch.setattr("local_eval.tasks.data.own_images.resnet18", narrow_resnet18)


@pytest.fixture(scope="session")
def small():
    return load_task("competition_small")
