"""The cards that these tests have."""

import pytest

from tests.pretended_card.using import Pretended


@pytest.fixture
def card(tmp_path):
    """card(cards=2, exclusive=True, ...) -> Pretended, each with a ledger of its own; card() is one usual card."""
    made = []

    def make(**kind) -> Pretended:
        made.append(tmp_path / f"card-{len(made)}")
        made[-1].mkdir()
        return Pretended(made[-1], **kind)

    return make
