"""The text source `model_samples`: texts that the model itself generates, drawn token by token."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tasks.contract import Reader
from tasks.texts import Samples, TextEntry
from tasks.values import Text


class ModelSamplesSource(TextEntry, frozen=True):
    """Texts that each model draws from its own distribution, beginning after its BOS (or with a random token)."""

    needs_reader: ClassVar[bool] = True
    needs_bos: ClassVar[bool] = True

    source: Literal["model_samples"] = "model_samples"
    samples: Samples
    """How many texts to draw."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """1: the model's own distribution; lower: likelier texts; 0: always the likeliest token."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the drawing; another seed gives other texts."""
    tokens_per_text: Annotated[int, Field(ge=1, lt=2**20)] = 256
    """Tokens in each text, or as many as the model's context holds if those are fewer."""

    def read(self, reader: Reader | None = None) -> list[Text]:
        """`samples` texts.

        Raises:
            TaskError: when the model cannot be loaded.
        """
        assert reader is not None, "a source that needs a reader is given one"
        from tasks.language_model import LanguageModel
        from tasks.sampling import sample_texts

        model = LanguageModel(reader.model, device="cpu")
        length = min(self.tokens_per_text, reader.facts.context or self.tokens_per_text)
        drawn = sample_texts(
            model,
            self.samples,
            length,
            temperature=self.temperature,
            seed=self.seed,
            ordinary_tokens=reader.codec.ordinary_tokens,
        )
        where = f"model_samples:seed-{self.seed}/temperature-{self.temperature:g}"
        return [
            Text(text=reader.codec.decode(tokens), source=f"{where}#{number}", tokens=tuple(tokens))
            for number, tokens in enumerate(drawn.tolist(), 1)
        ]
