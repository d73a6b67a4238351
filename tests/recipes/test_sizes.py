from __future__ import annotations

import pytest

from limner.errors import UserError
from limner.models import PaletteConfig
from limner.recipes import RECIPES, SIZES, recipe, size_for


def test_sizes_grow() -> None:
    for name in RECIPES:
        nets = [recipe(name, size).net for size in SIZES]
        widths = [net.colours if isinstance(net, PaletteConfig) else net.width for net in nets]
        assert widths == sorted(set(widths))


def test_longer_budgets_never_get_smaller_networks() -> None:
    given = [SIZES.index(size_for(minutes)) for minutes in (0.1, 1, 3, 10, 60, 600, 6000, 10**5)]
    assert given == sorted(given)
    assert given[0] == 0
    assert given[-1] == len(SIZES) - 1
    assert size_for(None) in SIZES


def test_unknown_names() -> None:
    with pytest.raises(UserError, match="did you mean 'flow'"):
        recipe("flwo")
    with pytest.raises(UserError, match="unknown size 'hueg'"):
        recipe("flow", "hueg")
