"""The task `prefix`: how many tokens of a text fit into k key-value pairs that every layer reads before the text.

Source: "Prefix-Tuning: Optimizing Continuous Prompts for Generation" (ACL 2021), section 4, with pairs that are trained
themselves.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tasks.facts import ModelFacts
from tasks.language_model_task import LanguageModelTask
from tasks.values import Model, Question, TaskError

if TYPE_CHECKING:
    from tasks.layout import Layout


class PrefixTask(LanguageModelTask):
    """Pairs in the cache, then input `[BOS or context, t_1 .. t_{L-1}]`; proof by greedy decoding from that."""

    name = "prefix"
    default_optimizer = "adamw"
    """Not the sphere: keys and values have lengths of their own in each layer, and no layer changes them."""

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
        made = super().recipe(overrides)
        if made["optimizer"] == "sphere":
            raise TaskError("optimizer: sphere: task: prefix has no memory on a sphere. Wanted optimizer: adamw.")
        return made
