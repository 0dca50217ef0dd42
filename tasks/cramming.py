"""The task `cramming`: how many tokens of a text fit into k vectors before a frozen causal language model."""

from typing import TYPE_CHECKING

from tasks.language_model_task import LanguageModelTask
from tasks.values import Question

if TYPE_CHECKING:
    from tasks.layout import Layout


class CrammingTask(LanguageModelTask):
    """Input `[memory, t_1 .. t_{L-1}]`, targets `t_1 .. t_L`, proof by greedy decoding from the memory alone."""

    name = "cramming"

    def layout(self, question: Question) -> "Layout":
        """The memory stands before the text."""
        from tasks.layout import Cramming

        return Cramming(question)
