"""The task `prefix`: how many tokens of a text fit into k key-value pairs that every layer reads before the text.

Source: "Prefix-Tuning: Optimizing Continuous Prompts for Generation" (ACL 2021), section 4, with pairs that are trained
themselves.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tasks.facts import ModelFacts, Range
from tasks.language_model_task import LanguageModelTask
from tasks.values import Model, Question, TaskError

if TYPE_CHECKING:
    from tasks.layout import Layout


class PrefixTask(LanguageModelTask):
    """Pairs in the cache, then input `[BOS or context, t_1 .. t_{L-1}]`; proof by greedy decoding from that."""

    name = "prefix"
    default_optimizer = "adamw"
    """Not the sphere: keys and values have lengths of their own in each layer, and no layer changes them."""
    learning_rate = 0.1
    """In standard deviations of the model's own pairs. Mean tokens at 0.03, 0.1, 0.3 and 1: 31, 39, 37 and 21 on
    SmolLM2-135M (four texts, 3,000 trained tokens); at 0.05, 0.1, 0.2, 0.5 and 1: 32, 32, 34, 32 and 27 on stories260K
    (three texts, 2,500)."""
    learning_rates = Range(low=0.02, high=1.0, log=True)
    """Those that `capsweep tune` tries."""

    def layout(self, question: Question) -> "Layout":
        """The memory stands in the cache."""
        from tasks.layout import KeyValues

        return KeyValues(question)

    def facts(self, model: Model) -> ModelFacts:
        """As for every language model; a vector of the memory is a pair in every layer."""
        from tasks import model_files

        return replace(super().facts(model), vector_width=model_files.pair_width(model))

    def longest_text(self, facts: ModelFacts, *, num_vectors: int, question: Question) -> int | None:
        """As many tokens as the context holds beside the pairs, which take positions as well.

        Raises:
            TaskError: when nothing stands before the text, so that nothing could predict t_1.
        """
        if not question.num_before:
            raise TaskError(
                "prefix: null: task: prefix has no input from which t_1 could be predicted. Wanted prefix: bos, or a "
                "context."
            )
        longest = super().longest_text(facts, num_vectors=num_vectors, question=question)
        return None if longest is None else longest - num_vectors

    def recipe(self, overrides: str | Mapping[str, Any]) -> Mapping[str, Any]:
        """The whole recipe; raises TaskError for an unknown name or field, and for a sphere."""
        asked: str | Mapping[str, Any] = {} if overrides == "default" else overrides
        made = super().recipe(asked)
        if made["optimizer"] == "sphere":
            raise TaskError("optimizer: sphere: task: prefix has no memory on a sphere. Wanted optimizer: adamw.")
        if not isinstance(asked, str) and "learning_rate" not in asked and made["rate_unit"] == "embedding":
            return {**made, "learning_rate": self.learning_rate}
        return made

    def tunable(self, recipe: Mapping[str, Any]) -> Mapping[str, Range]:
        """The ranges of AdamW; rates in units of the pairs are smaller than those in units of embeddings."""
        ranges = super().tunable(recipe)
        return {**ranges, "learning_rate": self.learning_rates} if recipe["rate_unit"] == "embedding" else ranges
