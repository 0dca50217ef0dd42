"""Recipes: everything that decides how one probe is optimized.

A recipe is a set of constants of one optimizer, which its field `optimizer` names; tasks/optimizer.py turns them into
starts and updates. Where a constant was measured, docs/recipe.md has the table.

Knows nothing of torch, models, probes or which slots stop.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.values import Range, SearchDefaults, TaskError

StopAt = Literal["criterion", "every_token"]


class SphereRecipe(BaseModel):
    """The memory is `radius * u` with |u| = 1 for each vector: what is optimized is the direction u."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    optimizer: Literal["sphere"] = "sphere"
    radius: float | None = Field(default=None, gt=0)
    """Length of a vector, in lengths of a cold one: the standard deviation of the embedding table times sqrt(width).
    null: the smallest at which the model's layers leave the memory as it is, found by forward passes when the run is
    planned. A trained transformer adds a vector of some thousand cold lengths to its first position; a memory must be
    long enough to be read beside that."""
    turn: float = Field(default=0.25, gt=0)
    """Length of a step's tangent, before it is annealed, in radii, where every element of Adam's update is 1. The angle
    that is really turned is a fifth to a third of it."""
    anneal_steps: int = Field(default=100, ge=1)
    """Steps without a gain, as `patience` counts them, after which the turn is half of `turn`."""
    beta_1: float = Field(default=0.8, ge=0, lt=1)
    beta_2: float = Field(default=0.9, ge=0, lt=1)
    """Decay of Adam's means of the tangent gradient and of its square."""
    correct_token_weight: float = Field(default=0.5, gt=0, le=1)
    """Weight in the loss of a token that is already correct; wrong ones weigh 1."""
    temperature: float = Field(default=0.5, gt=0, le=1)
    """Logits are divided by a temperature that falls from 1 to this as the share of correct tokens rises to 1."""
    retreat_steps: int = Field(default=40, ge=1)
    """Steps without more correct tokens after which half of what is asked for beyond the proven length is taken back.
    Only where a probe grows."""
    restart_steps: int = Field(default=15, ge=1)
    """A cold memory with fewer than `restart_below` proven tokens begins again from another direction after so many
    steps: one that has not begun by then seldom does. Each further start has twice the steps of the one before: a weak
    model holds fewer from any. Under `criterion: {teacher_forced: ..}` correct tokens count, wherever they stand."""
    restart_below: int = Field(default=4, ge=0)
    """Tokens; 0 never begins again."""
    steps: int = Field(default=2000, ge=1)
    """Most optimizer steps since the length last changed."""
    patience: int = Field(default=150, ge=1)
    """Most steps without a longer proof; under `criterion: {teacher_forced: ..}` also without more correct tokens."""
    stop_at: StopAt = "criterion"
    """When a probe has what was asked for: as soon as the criterion is met, or only when every token is correct."""

    TUNABLE: ClassVar[Mapping[str, Range]] = {
        "turn": Range(low=0.08, high=0.8, log=True),
        "anneal_steps": Range(low=30, high=300, log=True, whole=True),
        "beta_1": Range(low=0.6, high=0.95),
        "beta_2": Range(low=0.7, high=0.99),
        "correct_token_weight": Range(low=0.05, high=1.0, log=True),
        "temperature": Range(low=0.1, high=1.0, log=True),
        "retreat_steps": Range(low=15, high=120, log=True, whole=True),
        "patience": Range(low=50, high=400, log=True, whole=True),
    }
    """What `capsweep tune` tries, about a third to three times the default. The radius is the model's own affair."""

    def search_defaults(self) -> SearchDefaults:
        """From 4 tokens, each cold start, growing by as much as the last stages allow.

        Of 24 later cold starts of the quickstart, begun at half of what was proven, the mean was 16.0 tokens; that of
        the first ones, begun at 4, 21.5.
        """
        return SearchDefaults(first_length=4, growth=None, cold_share=None)


class AdamWRecipe(BaseModel):
    """The memory is free: AdamW moves its elements."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    optimizer: Literal["adamw"] = "adamw"
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
    stop_at: StopAt = "criterion"
    """When a slot has what was asked for: as soon as the criterion is met, or (as published) only when every token is
    correct; a slot that stalls before that has still met the criterion if it ever did."""
    init_scale: float = Field(default=1.0, ge=0)
    """Standard deviation of a cold memory, in units of that of the embedding table. 3: no gain, slower."""

    TUNABLE: ClassVar[Mapping[str, Range]] = {
        "weight_decay": Range(low=3e-4, high=0.03, log=True),
        "beta_1": Range(low=0.7, high=0.95),
        "beta_2": Range(low=0.7, high=0.99),
        "correct_token_weight": Range(low=0.01, high=0.5, log=True),
        "patience": Range(low=50, high=400, log=True, whole=True),
        "init_scale": Range(low=0.3, high=3.0, log=True),
    }
    """What `capsweep tune` tries, about a third to three times what docs/recipe.md found best. `steps` is not among
    them: nearly all successes took fewer, and patience ends a probe sooner."""

    def search_defaults(self) -> SearchDefaults:
        """From 8 tokens, growing by a tenth; a later cold start from half of what is proven.

        From there it gained 1.1 tokens, from all of it .4.
        """
        return SearchDefaults(first_length=8, growth=1.1, cold_share=0.5)


Recipe: TypeAlias = SphereRecipe | AdamWRecipe
OPTIMIZERS: Mapping[str, type[SphereRecipe] | type[AdamWRecipe]] = {"sphere": SphereRecipe, "adamw": AdamWRecipe}

PUBLISHED = AdamWRecipe(
    learning_rate=0.01,
    rate_unit="absolute",
    beta_1=0.9,
    beta_2=0.9,
    weight_decay=0.01,
    correct_token_weight=1.0,
    steps=5000,
    patience=2000,
    stop_at="every_token",
    init_scale=1.0,
)
"""That of "Cramming 1568 Tokens into a Single Vector and Back Again" (ACL 2025), every field spelled out."""

TUNABLE_RATES = {
    "embedding": Range(low=0.2, high=5.0, log=True),
    "absolute": Range(low=0.003, high=1.0, log=True),
}
"""Rates to try, by their unit. In the literature the best ones lie between .01 and 1, absolute."""

RECIPE_VERSIONS = {"sphere": 2, "adamw": 1}
"""Rises when the same fields come to mean another optimization. sphere 2: further starts have more and more steps, and
under a criterion of teacher forcing more correct tokens are a gain."""


def recipe_identity(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """What of a recipe decides results. The keys are part of every search_id and never change."""
    if recipe["optimizer"] == "sphere":
        return {
            "recipe_version": RECIPE_VERSIONS["sphere"],
            "optimizer": "sphere",
            "radius": recipe["radius"],
            "turn": recipe["turn"],
            "anneal_steps": recipe["anneal_steps"],
            "beta_1": recipe["beta_1"],
            "beta_2": recipe["beta_2"],
            "correct_token_weight": recipe["correct_token_weight"],
            "temperature": recipe["temperature"],
            "retreat_steps": recipe["retreat_steps"],
            "restart_steps": recipe["restart_steps"],
            "restart_below": recipe["restart_below"],
            "steps": recipe["steps"],
            "patience": recipe["patience"],
            "stop_at": recipe["stop_at"],
        }
    return {
        "recipe_version": RECIPE_VERSIONS["adamw"],
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


def tunable(recipe: Mapping[str, Any]) -> Mapping[str, Range]:
    """The fields of this recipe that may be tuned."""
    ranges = OPTIMIZERS[recipe["optimizer"]].TUNABLE
    return {"learning_rate": TUNABLE_RATES[recipe["rate_unit"]], **ranges} if "rate_unit" in recipe else ranges


def make_recipe(overrides: str | Mapping[str, Any], *, optimizer: str = "sphere") -> Recipe:
    """A recipe by name, or the default one of an optimizer with some fields replaced.

    Args:
        overrides: `default`, `published`, or fields; `optimizer` among them chooses whose they are.
        optimizer: Whose default it is where none is named.

    Raises:
        TaskError: when the name or a field is unknown, or a value is out of range.
    """
    if isinstance(overrides, str):
        if overrides == "published":
            return PUBLISHED
        if overrides != "default":
            raise TaskError(
                f"{overrides!r} is not a recipe; known: default, published, or a mapping of fields to change."
            )
        return OPTIMIZERS[optimizer]()
    named = overrides.get("optimizer", optimizer)
    if not isinstance(named, str) or named not in OPTIMIZERS:
        raise TaskError(f"optimizer: {named!r} is not an optimizer; known: {', '.join(OPTIMIZERS)}.")
    kind = OPTIMIZERS[named]
    try:
        return kind.model_validate(dict(overrides))
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']} (found {e['input']!r})" for e in error.errors()]
        for other, fields in OPTIMIZERS.items():
            theirs = [name for name in overrides if name in fields.model_fields and name not in kind.model_fields]
            if theirs:
                lines.append(f"{', '.join(theirs)}: of optimizer: {other}, and this recipe is of optimizer: {named}")
        raise TaskError(f"{'; '.join(lines)}. Fields of this recipe: {', '.join(kind.model_fields)}.") from error
