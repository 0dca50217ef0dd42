"""Everything but the layout of a task on a frozen causal language model.

A task of this kind adds its layout (tasks/layout.py), and may limit the length of texts further.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tasks.contract import DEFAULT_DECODING, Engine, Prover, TextCodec, Texts
from tasks.facts import Examined, ModelFacts, Price, Range, SearchDefaults
from tasks.values import DecodeSettings, EngineSettings, Model, Question, TaskError

if TYPE_CHECKING:
    from tasks.layout import Layout


NO_LENGTH_NOTE = (
    "this model normalizes its inputs or its residual stream, so the length of a memory has no effect; memories are "
    "optimized with optimizer: adamw."
)


class LanguageModelTask:
    """A task on a causal language model of transformers."""

    name: str
    default_optimizer = "sphere"
    """Optimizer of the default recipe."""
    radius_share = 1.0
    """Norm of a memory vector on the sphere over the one at which the layers leave a memory as it is."""
    shares_vectors = False
    """Whether texts may share vectors: a sample then has several (`Question.num_texts`)."""

    # torch and transformers take seconds to import, so methods import them when they need them.

    def layout(self, question: Question) -> "Layout":
        """What the task puts into the model and expects from it."""
        raise NotImplementedError

    def facts(self, model: Model) -> ModelFacts:
        """Read what planning needs; raises TaskError when this is not a causal language model."""
        from tasks import model_files

        return model_files.facts(model)

    def pinned(self, model: Model) -> Model:
        """A hub model at the commit that its revision names now; raises TaskError when that cannot be found out."""
        from tasks import pinning

        return pinning.pinned(model)

    def codec(self, model: Model) -> TextCodec:
        """The model's tokenizer; raises TaskError when it has none."""
        from tasks import tokenizer

        return tokenizer.codec(model)

    def dtype_for(self, device: str) -> str:
        """bfloat16 if the device multiplies matrices in bfloat16, else float32."""
        from tasks.devices import native_dtype

        return native_dtype(device)

    def longest_text(self, facts: ModelFacts, *, num_vectors: int, question: Question) -> int | None:
        """Most tokens whose input positions fit into the model's context; None if it has no limit.

        Raises:
            TaskError: when a BOS must stand before the memory and the model has none.
        """
        if question.prefix == "bos" and facts.bos is None:
            raise TaskError("prefix: bos was asked for, but this model names no BOS token; use prefix: null.")
        if facts.context is None:
            return None
        # Each further token takes one further position, in the context of its text.
        return facts.context * question.num_texts - self.layout(question).target_positions(num_vectors, 1)[0]

    def recipe(self, overrides: str | Mapping[str, Any]) -> Mapping[str, Any]:
        """The whole recipe; raises TaskError for an unknown name or field."""
        from tasks.recipe import make_recipe

        return make_recipe(overrides, optimizer=self.default_optimizer).model_dump()

    def search_defaults(self, recipe: Mapping[str, Any]) -> SearchDefaults:
        """First length and growth that suit the recipe's optimizer."""
        from tasks.recipe import OPTIMIZERS

        return OPTIMIZERS[recipe["optimizer"]].model_validate(dict(recipe)).search_defaults()

    def examine(self, model: Model, facts: ModelFacts, recipe: Mapping[str, Any]) -> Examined:
        """Check how it is read, and fill in the radius, or take AdamW if the model ignores the length of its input.

        A model with a radius was examined when its run began. What only needs the check downloads nothing for it.
        """
        from tasks.model_cache import weights_are_here
        from tasks.radius import measured_on

        needs_radius = recipe["optimizer"] == "sphere" and recipe["radius"] is None
        radius, readings = model.radius, None
        if radius is None and (needs_radius or weights_are_here(model)):
            measured, readings = measured_on(model, facts.fingerprint, needs_radius=needs_radius)
            radius = None if measured is None else measured * self.radius_share
        if not needs_radius:
            return Examined(recipe=recipe, readings=readings)
        if radius:
            return Examined(recipe={**recipe, "radius": radius}, readings=readings)
        from tasks.recipe import make_recipe

        kept = {name: recipe[name] for name in ("patience", "stop_at")}
        instead = make_recipe(kept if recipe["turn"] else "random", optimizer="adamw")
        return Examined(recipe=instead.model_dump(), readings=readings, note=NO_LENGTH_NOTE)

    def recipe_identity(self, recipe: Mapping[str, Any]) -> Mapping[str, Any]:
        """Every field, because each decides the result."""
        from tasks.recipe import recipe_identity

        return recipe_identity(recipe)

    def tunable(self, recipe: Mapping[str, Any]) -> Mapping[str, Range]:
        """The ranges of the recipe's optimizer."""
        from tasks.recipe import tunable

        return tunable(recipe)

    def price(self, model: Model, texts: Texts, question: Question, device: str, *, contexts: Texts) -> Price:
        """Load the weights, time steps and read the texts after their contexts; nothing is downloaded."""
        from tasks.language_model import LanguageModel
        from tasks.model_cache import weights_are_here
        from tasks.scoring import score_without_memory
        from tasks.step_cost import measure_step_cost

        if not weights_are_here(model):
            raise TaskError("its weights are not on this machine yet, and an estimate downloads nothing")
        loaded = LanguageModel(model, device=device)
        read = (
            score_without_memory(loaded, tokens, context=context, question=question)
            for tokens, context in zip(texts, contexts, strict=True)
        )
        nats_by_token = tuple(tuple(scored.nats_by_token) for scored in read)
        return Price(step=measure_step_cost(loaded), nats_by_token=nats_by_token, readings=loaded.readings)

    def open_engine(self, model: Model, question: Question, settings: EngineSettings) -> Engine:
        """Load the weights and be ready for probes."""
        from tasks.engine import BatchedEngine
        from tasks.language_model import LanguageModel

        loaded = LanguageModel(model, device=settings.device, gpus=settings.gpus)
        return BatchedEngine(loaded, self.layout(question), question, settings)

    def open_prover(
        self, model: Model, question: Question, device: str, settings: DecodeSettings = DEFAULT_DECODING
    ) -> Prover:
        """Load the weights for decoding stored memories."""
        from tasks.language_model import LanguageModel
        from tasks.prover import LayoutProver

        model = model if settings.dtype is None else replace(model, dtype=settings.dtype)
        loaded = LanguageModel(model, device=device, attention=settings.attention, cache=settings.cache)
        return LayoutProver(loaded, self.layout(question), question)
