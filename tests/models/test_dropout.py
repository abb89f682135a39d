"""Dropout that a row has to itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spice.models.dropout import RowDropout, drawing, drawn_by_row, seed_of


def test_a_row_s_draws_do_not_depend_on_its_neighbours_or_its_padding() -> None:
    layer = RowDropout(0.4, 3)
    alone, wide = torch.ones(1, 5, 20), torch.ones(3, 9, 20)
    drawing(layer, [7], [5])
    expected = layer(alone)[0]
    drawing(layer, [1, 7, 2], [9, 5, 4])
    found = layer(wide)
    assert torch.equal(found[1, :5], expected)
    assert not torch.equal(found[0, :5], expected)
    drawing(layer, [7], [5])
    assert torch.equal(layer(alone)[0], expected)  # as a pass that is computed twice asks
    other = RowDropout(0.4, 4)
    drawing(other, [7], [5])
    assert not torch.equal(other(alone)[0], expected)


def test_it_is_dropout() -> None:
    layer = RowDropout(0.3, 0)
    x = torch.randn(4, 500, 100, requires_grad=True)
    drawing(layer, range(4), [500] * 4)
    y = layer(x)
    zero = y == 0
    assert zero.float().mean().item() == pytest.approx(0.3, abs=0.01)
    torch.testing.assert_close(y[~zero], x[~zero] / 0.7)
    [slope] = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(slope, torch.where(zero, 0.0, 1 / 0.7))
    assert torch.equal(layer.eval()(x), x)


def test_it_takes_the_place_of_a_model_s_own() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.ModuleDict({"a": nn.Dropout(0.2)}))
    drawn_by_row(model.eval())
    found = [m for m in model.modules() if isinstance(m, RowDropout)]
    assert [(m.p, m.number, m.training) for m in found] == [(0.5, 0, False), (0.2, 1, False)]
    drawn_by_row(model)
    assert [m for m in model.modules() if isinstance(m, RowDropout)] == found


def test_seeds_are_told_apart() -> None:
    assert len({seed_of(1, step, place) for step in range(9) for place in range(9)}) == 81
