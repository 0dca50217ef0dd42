"""The task `one_step`: how many tokens two vectors give back in a single forward pass.

Source: "Exploring the Latent Capacity of LLMs for One-Step Text Generation" (EMNLP 2025), section 3.
"""

from typing import TYPE_CHECKING

from tasks.facts import ModelFacts
from tasks.language_model_task import LanguageModelTask
from tasks.values import Question, TaskError

if TYPE_CHECKING:
    from tasks.layout import Layout

VECTORS = 2
"""The vectors e and m."""


class OneStepTask(LanguageModelTask):
    """Input `[e, m, m, .. m]`, targets `t_1 .. t_L` in one forward pass, which is also the proof."""

    name = "one_step"
    default_optimizer = "adamw"
    """Not the sphere, which keeps the layers from changing the positions of the memory: here the targets stand on
    them."""

    def layout(self, question: Question) -> "Layout":
        """The first vector stands once, the second one at every later position."""
        from tasks.layout import OneStep

        return OneStep(question)

    def longest_text(self, facts: ModelFacts, *, num_vectors: int, question: Question) -> int | None:
        """As many tokens as the context has positions.

        Raises:
            TaskError: when the memory does not have two vectors, or t_1 is given: this task feeds no token.
        """
        if num_vectors != VECTORS:
            raise TaskError(f"num_vectors: {num_vectors} asked for; task: one_step has two, e and m. Wanted [2].")
        if question.decode_from != "memory":
            raise TaskError("decode_from: task: one_step feeds no token of the text. Wanted memory.")
        return super().longest_text(facts, num_vectors=num_vectors, question=question)
