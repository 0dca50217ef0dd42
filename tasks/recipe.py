"""Recipes: everything that decides how one probe is optimized.

A recipe is a set of constants for one optimizer, which its field `optimizer` names. tasks/optimizer.py turns them into
cold memories and updates. docs/recipe.md has the measurements behind the constants.

Knows nothing of torch, models, probes or which slots stop.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.facts import Range, SearchDefaults
from tasks.values import TaskError

StopAt = Literal["criterion", "every_token"]


class SphereRecipe(BaseModel):
    """Each vector of the memory is `radius * u` with |u| = 1, and the direction u is optimized."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    optimizer: Literal["sphere"] = "sphere"
    radius: float | None = Field(default=None, gt=0)
    """Norm of a vector, in norms of a cold one: the standard deviation of the embedding table times sqrt(width).
    null: the smallest of 10, 30, 100, 300, 1,000 and 3,000 at which the norm of the memory grows less than 1.5 times on
    its way through the layers, found by forward passes when the run is planned; under task: one_step a tenth of it. A
    trained transformer adds a long vector to its first position (6,000 cold norms in SmolLM2); a memory must be long
    enough to be read beside it."""
    turn: float = Field(default=0.25, ge=0)
    """Norm of a step along the tangent, in radii, before annealing and if every element of Adam's update is 1. The
    elements are smaller, so a step really turns a memory by a fifth to a third of this."""
    anneal_steps: int = Field(default=100, ge=1)
    """Steps without a gain, counted as for `patience`, after which the turn of a step is half of `turn`."""
    beta_1: float = Field(default=0.8, ge=0, lt=1)
    beta_2: float = Field(default=0.9, ge=0, lt=1)
    """Decay of Adam's means: `beta_1` of the tangent gradient, `beta_2` of its square."""
    correct_token_weight: float = Field(default=0.5, gt=0, le=1)
    """Weight in the loss of a token that is already correct; wrong ones weigh 1."""
    temperature: float = Field(default=0.5, gt=0, le=1)
    """Logits are divided by a temperature that falls from 1 to this as the share of correct tokens rises to 1."""
    retreat_steps: int = Field(default=40, ge=1)
    """Steps without more correct tokens after which a growing probe gives back half of its tokens beyond the proven
    length."""
    restart_steps: int = Field(default=15, ge=1)
    """Steps after which a cold memory with fewer than `restart_below` proven tokens begins again from another
    direction, in the same probe: one that has not proven them by then seldom does. Each further start has twice the
    steps of the one before, because under a weak model no start reaches `restart_below`. Under `criterion:
    {teacher_forced: ..}` correct tokens count instead of proven ones."""
    restart_below: int = Field(default=4, ge=0)
    """Proven tokens that a cold memory must have to go on; 0: no memory begins again."""
    steps: int = Field(default=2000, ge=1)
    """Most optimizer steps since the length last changed."""
    patience: int = Field(default=150, ge=1)
    """Steps without a gain after which a probe stalls. A gain is a longer proof; under `criterion: {teacher_forced:
    ..}` more correct tokens are one, too."""
    stop_at: StopAt = "criterion"
    """When a length counts as reached: as soon as the criterion is met, or only when every token is correct."""

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
    """Ranges that `capsweep tune` tries: about a third to three times the default. The radius is not tuned, because it
    is measured on the model."""

    def search_defaults(self) -> SearchDefaults:
        """Every cold start begins at 4 tokens, and growth adapts.

        Of 24 later cold starts of the quickstart that began at half of the proven length, the mean was 16.0 tokens. The
        first ones, which began at 4 tokens, had a mean of 21.5.
        """
        return SearchDefaults(first_length=4, growth=None, cold_share=None)


class AdamWRecipe(BaseModel):
    """The memory is unconstrained, and AdamW moves its elements."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    optimizer: Literal["adamw"] = "adamw"
    learning_rate: float = Field(default=1.0, ge=0)
    """Constant learning rate, in `rate_unit`. Of 1/3, 1, 5/3 and 3, the middle two were best on two models."""
    rate_unit: Literal["embedding", "absolute"] = "embedding"
    """embedding: the standard deviation of the embedding table. If a model's embeddings, and all that its layers add to
    them, are scaled by one factor, its predictions stay the same; with this unit the optimization does, too."""
    beta_1: float = Field(default=0.9, ge=0, lt=1)
    beta_2: float = Field(default=0.9, ge=0, lt=1)
    """Decay of AdamW's means. The mean of squared gradients is short, as published: the loss changes shape as tokens
    become correct."""
    weight_decay: float = Field(default=0.003, ge=0)
    """Share of the memory that each step takes off, times `learning_rate`. The memory grows to about 10 times the
    length of the embeddings, which makes each step a smaller turn of it. Holding it shorter is worse: at a third of the
    default rate, taking off a hundredth with each step instead of a thousandth ended 3.9 tokens lower."""
    correct_token_weight: float = Field(default=0.05, gt=0, le=1)
    """Weight in the loss of a token that is already correct; wrong ones weigh 1. No other constant gained as much."""
    steps: int = Field(default=700, ge=1)
    """Most optimizer steps since the last growth. 99 % of the successes came within 560."""
    patience: int = Field(default=150, ge=1)
    """Most steps without a new highest number of correct tokens since the last growth. See docs/recipe.md."""
    stop_at: StopAt = "criterion"
    """When a length counts as reached: as soon as the criterion is met, or, as published, only when every token is
    correct. A slot that stalls before that still counts as proven if it met the criterion once."""
    init_scale: float = Field(default=1.0, ge=0)
    """Standard deviation of a cold memory, in standard deviations of the embedding table. 3 gained nothing and was
    slower."""

    TUNABLE: ClassVar[Mapping[str, Range]] = {
        "weight_decay": Range(low=3e-4, high=0.03, log=True),
        "beta_1": Range(low=0.7, high=0.95),
        "beta_2": Range(low=0.7, high=0.99),
        "correct_token_weight": Range(low=0.01, high=0.5, log=True),
        "patience": Range(low=50, high=400, log=True, whole=True),
        "init_scale": Range(low=0.3, high=3.0, log=True),
    }
    """Ranges that `capsweep tune` tries: about a third to three times what docs/recipe.md found best. `steps` is not
    tuned, because nearly all successes took fewer, and patience ends a probe sooner."""

    def search_defaults(self) -> SearchDefaults:
        """A probe begins at 8 tokens and grows by a tenth; a later cold start begins at half of the proven length.

        From there later cold starts gained 1.1 tokens; from the whole proven length they gained 0.4.
        """
        return SearchDefaults(first_length=8, growth=1.1, cold_share=0.5)


Recipe: TypeAlias = SphereRecipe | AdamWRecipe
OPTIMIZERS: Mapping[str, type[SphereRecipe] | type[AdamWRecipe]] = {"sphere": SphereRecipe, "adamw": AdamWRecipe}
"""Value of the field `optimizer` -> the class of its recipes."""

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
"""The recipe of "Cramming 1568 Tokens into a Single Vector and Back Again" (ACL 2025), with every field spelled out."""

RANDOM: Mapping[str, Recipe] = {
    "sphere": SphereRecipe(turn=0.0, restart_below=0, steps=1, patience=1),
    "adamw": AdamWRecipe(learning_rate=0.0, steps=1, patience=1),
}
"""The control, by optimizer: memories stay as they were drawn, and each is measured once at every length."""

TUNABLE_RATES = {
    "embedding": Range(low=0.2, high=5.0, log=True),
    "absolute": Range(low=0.003, high=1.0, log=True),
}
"""Learning rates to try, by unit. In the literature the best absolute ones lie between 0.01 and 1."""

RECIPE_VERSIONS = {"sphere": 2, "adamw": 1}
"""A version rises when the same fields come to mean another optimization. In sphere 2 each further start has more
steps, and under a criterion of teacher forcing more correct tokens are a gain."""


def recipe_identity(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a recipe that decides results. The keys enter every search_id and never change."""
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
        overrides: `default`, `published`, `random`, or fields; the field `optimizer` chooses the optimizer.
        optimizer: The optimizer whose default is taken if `overrides` names none.

    Raises:
        TaskError: when the name or a field is unknown, or a value is out of range.
    """
    if isinstance(overrides, str):
        if overrides == "published":
            return PUBLISHED
        if overrides == "random":
            return RANDOM[optimizer]
        if overrides != "default":
            raise TaskError(
                f"{overrides!r} is not a recipe; known: default, published, random, or a mapping of fields to change."
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
