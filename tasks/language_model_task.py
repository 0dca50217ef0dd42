"""What every task on a frozen causal language model shares: everything but its layout.

A task of this kind is a layout (tasks/layout.py) and what that layout leaves of the model's context.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.contract import Engine, Prover, TextCodec
from tasks.values import EngineSettings, Model, ModelFacts, Price, Question, Range, SearchDefaults, TaskError

if TYPE_CHECKING:
    from tasks.layout import Layout


NO_LENGTH_NOTE = (
    "the length of a memory means nothing to this model, which normalizes its inputs or its residual stream: its "
    "memories are optimized by optimizer: adamw."
)


class LanguageModelTask:
    """A task whose model is one of transformers."""

    name: str
    default_optimizer = "sphere"
    """Whose recipe it is where a sweep names none."""

    # torch and transformers take seconds to import: they come with the first call that needs them.

    def layout(self, question: Question) -> "Layout":
        """What goes into the model and what is expected out of it."""
        raise NotImplementedError

    def facts(self, model: Model) -> ModelFacts:
        """Read what is needed to plan; raises TaskError when this is not a causal language model."""
        from tasks import model_files

        return model_files.facts(model)

    def codec(self, model: Model) -> TextCodec:
        """The model's tokenizer; raises TaskError when it has none."""
        from tasks import tokenizer

        return tokenizer.codec(model)

    def dtype_for(self, device: str) -> str:
        """bfloat16 where the device multiplies matrices in it, float32 elsewhere."""
        from tasks import model_files

        return model_files.native_dtype(device)

    def longest_text(self, facts: ModelFacts, *, num_vectors: int, question: Question) -> int | None:
        """Most tokens whose input positions fit into the model's context; None if it has no limit.

        Raises:
            TaskError: when a BOS is to stand before the memory and the model names none.
        """
        if question.prefix == "bos" and not facts.has_bos:
            raise TaskError("prefix: bos was asked for, but this model names no BOS token; use prefix: null.")
        if facts.context is None:
            return None
        # Every further token takes one further position.
        return facts.context - self.layout(question).target_positions(num_vectors, 1)[0]

    def recipe(self, overrides: str | Mapping[str, Any]) -> Mapping[str, Any]:
        """The whole recipe; raises TaskError for what it does not know."""
        from tasks.recipe import make_recipe

        return make_recipe(overrides, optimizer=self.default_optimizer).model_dump()

    def search_defaults(self, recipe: Mapping[str, Any]) -> SearchDefaults:
        """First length and growth of the recipe's optimizer."""
        from tasks.recipe import OPTIMIZERS

        return OPTIMIZERS[recipe["optimizer"]].model_validate(dict(recipe)).search_defaults()

    def recipe_for(self, model: Model, facts: ModelFacts, recipe: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
        """The radius of the sphere, or AdamW where the model reads no length."""
        if recipe["optimizer"] != "sphere" or recipe["radius"] is not None:
            return recipe, ""
        radius = model.radius
        if radius is None:
            from tasks.radius import radius_of

            radius = radius_of(model, fingerprint=facts.fingerprint)
        if radius:
            return {**recipe, "radius": radius}, ""
        kept = {name: recipe[name] for name in ("patience", "stop_at")}
        return self.recipe({"optimizer": "adamw", **kept}), NO_LENGTH_NOTE

    def recipe_identity(self, recipe: Mapping[str, Any]) -> Mapping[str, Any]:
        """Every field: each decides the result."""
        from tasks.recipe import recipe_identity

        return recipe_identity(recipe)

    def tunable(self, recipe: Mapping[str, Any]) -> Mapping[str, Range]:
        """Rate, decay, betas, weights and stopping."""
        from tasks.recipe import tunable

        return tunable(recipe)

    def price(self, model: Model, texts: Sequence[Sequence[int]], question: Question, device: str) -> Price:
        """Load the weights, time them, and read the texts; nothing is downloaded for it."""
        from tasks.language_model import LanguageModel
        from tasks.model_files import weights_are_here
        from tasks.scoring import score_without_memory
        from tasks.step_cost import measure_step_cost

        if not weights_are_here(model):
            raise TaskError("its weights are not on this machine yet, and are not downloaded for a price")
        loaded = LanguageModel(model, device=device)
        read = (score_without_memory(loaded, tokens, question=question) for tokens in texts)
        nats_by_token = tuple(tuple(scored.nats_by_token) for scored in read)
        return Price(step=measure_step_cost(loaded), nats_by_token=nats_by_token)

    def open_engine(self, model: Model, question: Question, settings: EngineSettings) -> Engine:
        """Load the weights and be ready for probes."""
        from tasks.engine import BatchedEngine
        from tasks.language_model import LanguageModel

        loaded = LanguageModel(model, device=settings.device, gpus=settings.gpus)
        return BatchedEngine(loaded, self.layout(question), question, settings)

    def prove(self, model: Model, question: Question, device: str) -> Prover:
        """Load the weights for decoding stored memories."""
        from tasks.language_model import LanguageModel
        from tasks.prover import LayoutProver

        return LayoutProver(LanguageModel(model, device=device), self.layout(question), question)
