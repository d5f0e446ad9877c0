"""What a grading costs on paper is what its calls cost, and the page of docs has what the script makes today."""

from pathlib import Path

import pytest
import torch
from torch import nn

from local_eval.card.paper import (
    BEGIN,
    CONTEXTS_BESIDE,
    END,
    WAITS_PER_BATCH,
    WAITS_PER_STEP,
    counted,
    forward_of,
    step_of_a_run,
    step_of_one_network,
    write_into,
)

SPEED = Path(__file__).parents[2] / "docs" / "speed.md"


def test_the_page_has_the_tables_that_the_script_makes_today(tmp_path):
    page, copy = SPEED.read_text(), tmp_path / "speed.md"
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    copy.write_text(f"{before}{BEGIN}\n| stale |\n{END}{after}")
    write_into(copy)
    assert copy.read_text() == page, "python -m local_eval.card.paper docs/speed.md writes them anew"
    copy.write_text("no markers")
    with pytest.raises(ValueError, match="between which the tables go"):
        write_into(copy)


def test_calls_are_counted_with_every_tensor_that_they_read_and_write():
    a, b = torch.rand(10, 20), torch.rand(20, 30)
    product = counted(lambda: (a @ b).t())  # the view is free
    assert (product.launches, product.flop, product.bytes) == (1, 2 * 10 * 20 * 30, 4 * (200 + 600 + 300))
    weights = [nn.Parameter(torch.rand(100)), nn.Parameter(torch.rand(50))]
    optimizer = torch.optim.Adam(weights, fused=True)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    moved = dict(counted(optimizer.step).by_kind)["optimiser"]
    assert moved == pytest.approx(4 * 7 * 150, rel=0.05)  # weight, gradient and two moments read, all but one written


def test_a_stacked_network_costs_its_share_and_dead_taps_cost_nothing(tiny):
    assert step_of_one_network(tiny).flop < step_of_a_run(tiny).flop
    assert 2 < step_of_a_run(tiny).flop / (64 * forward_of(tiny)) < 3.01


def test_what_the_tables_take_from_other_tests_is_what_these_hold():
    from tests.pretended_card.test_kit import STARTS

    assert (CONTEXTS_BESIDE, WAITS_PER_BATCH, WAITS_PER_STEP) == (STARTS, 0, 0)
