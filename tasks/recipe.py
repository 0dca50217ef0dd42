"""Recipes: everything that decides how one slot is optimized.

A recipe is a set of constants; tasks/optimizer.py turns them into starts and updates. Where a constant was measured,
docs/recipe.md has the table.

Knows nothing of torch, models, probes or which slots stop.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.contract import Range, TaskError


class Recipe(BaseModel):
    """The default recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    learning_rate: float = Field(default=1.0, gt=0)
    """Constant rate of AdamW, in `rate_unit`. Of 1/3, 1, 5/3 and 3 the middle two were best on two models."""
    rate_unit: Literal["embedding", "absolute"] = "embedding"
    """embedding: the standard deviation of the embedding table. Scale a model's embeddings and all that its layers add
    to them by one factor, and its predictions are the same; with this unit the optimization is the same, too."""
    beta_1: float = Field(default=0.9, ge=0, lt=1)
    beta_2: float = Field(default=0.9, ge=0, lt=1)
    """Short memory of squared gradients, as published: the loss changes shape as tokens become correct."""
    weight_decay: float = Field(default=0.003, ge=0)
    """Share of the memory that each step takes off, times `learning_rate`. The memory grows to some 10 times the
    embeddings, which makes each step a smaller turn of it; holding it smaller is worse (at a third of this rate, a
    hundredth a step instead of a thousandth ended 3.9 tokens lower)."""
    correct_token_weight: float = Field(default=0.05, gt=0, le=1)
    """Weight in the loss of a token that is already correct; wrong ones weigh 1. The largest single gain measured."""
    steps: int = Field(default=700, ge=1)
    """Most optimizer steps since the last growth. Of the successes 99 % came within 560."""
    patience: int = Field(default=150, ge=1)
    """Most steps without a new highest number of correct tokens since the last growth. See docs/recipe.md."""
    stop_at: Literal["criterion", "every_token"] = "criterion"
    """When a slot has what was asked for: as soon as the criterion is met, or (as published) only when every token is
    correct; a slot that stalls before that has still met the criterion if it ever did."""
    init_scale: float = Field(default=1.0, ge=0)
    """Standard deviation of a cold memory, in units of that of the embedding table. 3: no gain, slower."""


RECIPES: dict[str, Recipe] = {
    "default": Recipe(),
    "published": Recipe(
        learning_rate=0.01,
        rate_unit="absolute",
        weight_decay=0.01,
        correct_token_weight=1.0,
        steps=5000,
        patience=2000,
        stop_at="every_token",
    ),
}


RECIPE_VERSION = 1
"""Rises when the same fields come to mean another optimization."""


def recipe_identity(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """What of a recipe decides results. The keys are part of every search_id and never change."""
    return {
        "recipe_version": RECIPE_VERSION,
        "optimizer": "adamw",
        "learning_rate": recipe["learning_rate"],
        "rate_unit": recipe["rate_unit"],
        "beta_1": recipe["beta_1"],
        "beta_2": recipe["beta_2"],
        "weight_decay": recipe["weight_decay"],
        "correct_token_weight": recipe["correct_token_weight"],
        "steps": recipe["steps"],
        "patience": recipe["patience"],
        "stop_at": recipe["stop_at"],
        "init_scale": recipe["init_scale"],
    }


TUNABLE: dict[str, Range] = {
    "weight_decay": Range(low=3e-4, high=0.03, log=True),
    "beta_1": Range(low=0.7, high=0.95),
    "beta_2": Range(low=0.7, high=0.99),
    "correct_token_weight": Range(low=0.01, high=0.5, log=True),
    "patience": Range(low=50, high=400, log=True, whole=True),
    "init_scale": Range(low=0.3, high=3.0, log=True),
}
"""What `capsweep tune` tries, about a third to three times what docs/recipe.md found best. `steps` is not among them:
nearly all successes took fewer, and patience ends a slot sooner."""
TUNABLE_RATES = {
    "embedding": Range(low=0.2, high=5.0, log=True),
    "absolute": Range(low=0.003, high=1.0, log=True),
}
"""Rates to try, by their unit. In the literature the best ones lie between .01 and 1, absolute."""


def tunable(recipe: Mapping[str, Any]) -> Mapping[str, Range]:
    """The fields of this recipe that may be tuned."""
    return {"learning_rate": TUNABLE_RATES[recipe["rate_unit"]], **TUNABLE}


def make_recipe(overrides: str | Mapping[str, Any]) -> Recipe:
    """A recipe by name, or the default one with some fields replaced.

    Raises:
        TaskError: when the name or a field is unknown, or a value is out of range.
    """
    if isinstance(overrides, str):
        if overrides not in RECIPES:
            raise TaskError(
                f"{overrides!r} is not a recipe; known: {', '.join(RECIPES)}, or a mapping of fields to change."
            )
        return RECIPES[overrides]
    try:
        return Recipe.model_validate(dict(overrides))
    except ValidationError as error:
        known = ", ".join(Recipe.model_fields)
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']} (found {e['input']!r})" for e in error.errors()]
        raise TaskError(f"{'; '.join(lines)}. Fields of a recipe: {known}.") from error
