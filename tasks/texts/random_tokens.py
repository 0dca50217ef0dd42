"""The text source `random_tokens`: token ids drawn at random, the least predictable text that a model can read."""

import random
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tasks.contract import Reader
from tasks.texts import Samples, TextEntry
from tasks.values import Text


class RandomTokensSource(TextEntry, frozen=True):
    """Texts of token ids drawn uniformly from the model's own tokenizer, without its special tokens."""

    needs_reader: ClassVar[bool] = True

    source: Literal["random_tokens"] = "random_tokens"
    samples: Samples
    """How many texts to make."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the drawing; another seed gives other texts."""
    tokens_per_text: Annotated[int, Field(ge=1, lt=2**20)] = 512
    """Tokens in each text."""

    def read(self, reader: Reader | None = None) -> list[Text]:
        """`samples` texts of the reader's tokens."""
        assert reader is not None, "a source that needs a reader is given one"
        ordinary = reader.codec.ordinary_tokens
        made: list[Text] = []
        for number in range(1, self.samples + 1):
            # Each text has its own generator, so that it stays the same when more texts are asked for.
            generator = random.Random(f"{self.seed}/{number}")
            tokens = [ordinary[int(generator.random() * len(ordinary))] for _ in range(self.tokens_per_text)]
            source = f"random_tokens:seed-{self.seed}#{number}"
            made.append(Text(text=reader.codec.decode(tokens), source=source, tokens=tuple(tokens)))
        return made
