"""What a grading costs on paper is what its calls cost, and the page of docs has what the script makes today."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from local_eval.card import noise
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
    tables,
    write_into,
)

SPEED = Path(__file__).parents[2] / "docs" / "speed.md"


def test_the_page_has_the_tables_that_the_script_makes_today(tmp_path):
    copy = tmp_path / "speed.md"
    copy.write_text(SPEED.read_text())
    made = SPEED.read_text().partition(BEGIN)[2].partition(END)[0].strip()
    assert made == tables(), "python -m local_eval.card.paper docs/speed.md writes them anew"
    write_into(copy)
    assert copy.read_text() == SPEED.read_text()
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
    task = replace(noise.task(), **{"retain": tiny.retain, "make_net": tiny.make_net})
    assert step_of_one_network(task).flop < step_of_a_run(task).flop
    assert 2 < step_of_a_run(task).flop / (64 * forward_of(task)) < 3.01


def test_what_the_tables_take_from_other_tests_is_what_these_hold():
    from tests.pretended_card.test_kit import STARTS

    assert (CONTEXTS_BESIDE, WAITS_PER_BATCH, WAITS_PER_STEP) == (STARTS, 0, 0)
