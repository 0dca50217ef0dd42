"""The text source `random_words`: words of a list in random order, which no model can predict."""

import random
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tasks.contract import Reader
from tasks.homes import expanded
from tasks.texts import LocalPath, Samples, TextEntry
from tasks.texts.text_files import text_of
from tasks.values import TaskError, Text
from tasks.wording import counted

MOST_WORDS = 100_000_000
"""Most words of all texts together: they are held in RAM, and each word takes about ten bytes."""


class RandomWordsSource(TextEntry, frozen=True):
    """Texts of words drawn uniformly, with replacement, from a list."""

    source: Literal["random_words"] = "random_words"
    words: LocalPath
    """File with one word a line, in UTF-8."""
    samples: Samples
    """How many texts to make."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the drawing; another seed gives other texts."""
    words_per_text: Annotated[int, Field(ge=1, lt=2**31)] = 400
    """Words in each text."""

    def read(self, reader: Reader | None = None) -> list[Text]:
        """`samples` texts.

        Raises:
            TaskError: when the list of words cannot be used, or more than MOST_WORDS words are asked for.
        """
        if (asked := self.samples * self.words_per_text) > MOST_WORDS:
            raise TaskError(
                f"samples times words_per_text is {asked:,} words; wanted at most {MOST_WORDS:,}. Lower one of them."
            )
        words = self._words()
        name = Path(self.words).name
        return [
            Text(text=self._text(words, number), source=f"random_words:{name}/seed-{self.seed}#{number}")
            for number in range(1, self.samples + 1)
        ]

    def _text(self, words: list[str], number: int) -> str:
        # Each text has its own generator, so that it stays the same when more texts are asked for. For a seed, Python
        # promises one sequence on every platform and version from random(), not from choice() or sample().
        generator = random.Random(f"{self.seed}/{number}")
        return " ".join(words[int(generator.random() * len(words))] for _ in range(self.words_per_text))

    def _words(self) -> list[str]:
        try:
            lines = text_of(expanded(Path(self.words))).split("\n")
        except OSError as error:
            raise TaskError(f"{self.words}: cannot be read ({error.strerror}); wanted one word a line.") from error
        words: list[str] = []
        for number, line in enumerate(lines, 1):
            match line.split():
                case []:
                    continue
                case [word]:
                    words.append(word)
                case several:
                    raise TaskError(
                        f"{self.words}: line {number} has {counted(len(several), 'word')}; wanted one word a line."
                    )
        if not words:
            raise TaskError(f"{self.words}: no words in it; wanted one word a line.")
        return words
