"""The task `one_step`: how many tokens two vectors give back in a single forward pass, one of them shared or not.

Source: "Exploring the Latent Capacity of LLMs for One-Step Text Generation" (EMNLP 2025), section 3.
"""

from typing import TYPE_CHECKING

from tasks.facts import ModelFacts
from tasks.language_model_task import LanguageModelTask
from tasks.values import Question, TaskError
from tasks.wording import counted

if TYPE_CHECKING:
    from tasks.layout import Layout


class OneStepTask(LanguageModelTask):
    """Input `[e, m, m, .. m]`, targets `t_1 .. t_L` in one forward pass, which is also the proof.

    A sample of several texts has a vector e for each of them, and one vector m that they share.
    """

    name = "one_step"
    radius_share = 0.1
    """The targets stand on the memory's positions, so the layers must be able to move them; at the norm of an embedding
    the first position would be lost (docs/recipe.md)."""
    shares_vectors = True

    def layout(self, question: Question) -> "Layout":
        """An e stands once, at the beginning of its text; m stands at every later position."""
        from tasks.layout import OneStep

        return OneStep(question)

    def longest_text(self, facts: ModelFacts, *, num_vectors: int, question: Question) -> int | None:
        """As many tokens of each text as the context has positions.

        Raises:
            TaskError: when the memory has another number of vectors than an e for each text and m, or t_1 is given:
                this task feeds no token.
        """
        num_texts = question.num_texts
        if num_vectors != num_texts + 1:
            has = "two, e and m" if num_texts == 1 else f"an e for each of {counted(num_texts, 'text')}, and m"
            raise TaskError(
                f"num_vectors: {num_vectors} asked for; task: one_step has {has}. Wanted [{num_texts + 1}]."
            )
        if question.decode_from != "memory":
            raise TaskError("decode_from: task: one_step feeds no token of the text. Wanted memory.")
        return super().longest_text(facts, num_vectors=num_vectors, question=question)
