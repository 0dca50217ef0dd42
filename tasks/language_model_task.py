"""What every task on a frozen causal language model shares: everything but its layout.

A task of this kind is a layout (tasks/layout.py) and what that layout leaves of the model's context.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.contract import Engine, EngineSettings, Model, ModelFacts, Prover, Question, Range, TaskError, TextCodec

if TYPE_CHECKING:
    from tasks.layout import Layout


class LanguageModelTask:
    """A task whose model is one of transformers."""

    name: str

    # torch and transformers take seconds to import: they come with the first call that needs them.

    def layout(self, question: Question) -> "Layout":
        """What goes into the model and what is expected out of it."""
        raise NotImplementedError

    def facts(self, model: Model) -> ModelFacts:
        """Read what is needed to plan; raises TaskError when this is not a causal language model."""
        from tasks import language_model

        return language_model.facts(model)

    def codec(self, model: Model) -> TextCodec:
        """The model's tokenizer; raises TaskError when it has none."""
        from tasks import language_model

        return language_model.codec(model)

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

        return make_recipe(overrides).model_dump()

    def recipe_identity(self, recipe: Mapping[str, Any]) -> Mapping[str, Any]:
        """Every field: each decides the result."""
        from tasks.recipe import recipe_identity

        return recipe_identity(recipe)

    def tunable(self, recipe: Mapping[str, Any]) -> Mapping[str, Range]:
        """Rate, decay, betas, weights and stopping."""
        from tasks.recipe import tunable

        return tunable(recipe)

    def open_engine(self, model: Model, question: Question, settings: EngineSettings) -> Engine:
        """Load the weights and be ready for probes."""
        from tasks.engine import BatchedEngine
        from tasks.language_model import LanguageModel

        loaded = LanguageModel(model, device=settings.device, gpus=settings.gpus)
        return BatchedEngine(loaded, self.layout(question), question, settings)

    def prove(self, model: Model, question: Question, device: str) -> Prover:
        """Load the weights for decoding stored memories."""
        from tasks.certificate import LayoutProver
        from tasks.language_model import LanguageModel

        return LayoutProver(LanguageModel(model, device=device), self.layout(question), question)
