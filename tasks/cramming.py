"""The task `cramming`: how many tokens of a text fit into k vectors before a frozen causal language model."""

from collections.abc import Mapping
from typing import Any

from tasks.contract import Engine, EngineSettings, Model, ModelFacts, Prover, Question, TaskError, TextCodec


class CrammingTask:
    """Input `[memory, t_1 .. t_{L-1}]`, targets `t_1 .. t_L`, proof by greedy decoding from the memory alone."""

    name = "cramming"

    # torch and transformers take seconds to import: they come with the first call that needs them.

    def facts(self, model: Model) -> ModelFacts:
        """Read what is needed to plan; raises TaskError when this is not a causal language model."""
        from tasks import language_model

        return language_model.facts(model)

    def codec(self, model: Model) -> TextCodec:
        """The model's tokenizer; raises TaskError when it has none."""
        from tasks import language_model

        return language_model.codec(model)

    def longest_text(self, facts: ModelFacts, *, num_vectors: int, question: Question) -> int | None:
        """Memory and prefix take input positions; the last token of the text is predicted, never read.

        Raises:
            TaskError: when a BOS is to stand before the memory and the model names none.
        """
        if question.prefix == "bos" and not facts.has_bos:
            raise TaskError("prefix: bos was asked for, but this model names no BOS token; use prefix: null.")
        if facts.context is None:
            return None
        return facts.context - num_vectors - (question.prefix is not None) + 1

    def recipe(self, overrides: str | Mapping[str, Any]) -> Mapping[str, Any]:
        """The whole recipe; raises TaskError for what it does not know."""
        from tasks.recipe import make_recipe

        return make_recipe(overrides).model_dump()

    def open_engine(self, model: Model, question: Question, settings: EngineSettings) -> Engine:
        """Load the weights and be ready for probes."""
        from tasks.engine import BatchedEngine
        from tasks.language_model import LanguageModel
        from tasks.layout import Cramming

        return BatchedEngine(LanguageModel(model, device=settings.device), Cramming(question), question, settings)

    def prove(self, model: Model, question: Question, device: str) -> Prover:
        """Load the weights for decoding stored memories."""
        from tasks.certificate import LayoutProver
        from tasks.language_model import LanguageModel
        from tasks.layout import Cramming

        return LayoutProver(LanguageModel(model, device=device), Cramming(question))
