"""docs/remedies.md: every recipe on the page is one, and every field that is a remedy is on it."""

import re

from caplab.training.recipe import _LATER, Recipe


def test_every_recipe_on_the_page_works(root):
    page = (root / "docs" / "remedies.md").read_text()
    recipes = re.findall(r"`(Recipe\([^`]*\))`", page)
    assert len(recipes) >= 12
    for recipe in recipes:
        assert isinstance(eval(recipe, {"Recipe": Recipe}), Recipe), recipe
    named = " ".join(recipes)
    assert [name for name in _LATER if name != "assistant_only" and f"{name}=" not in named] == []
