"""The names that a sweep file may use for tasks and text sources.

A new task or source is a class of its own and a line here. Importing this module is cheap: tasks import torch and
transformers only when they need them.
"""

from tasks.contract import Task
from tasks.cramming import CrammingTask
from tasks.one_step import OneStepTask
from tasks.prefix import PrefixTask
from tasks.texts import TextEntry
from tasks.texts.files import FilesSource
from tasks.texts.hub import HubSource
from tasks.texts.model_samples import ModelSamplesSource
from tasks.texts.random_tokens import RandomTokensSource
from tasks.texts.random_words import RandomWordsSource
from tasks.toy import ToyTask

TASKS: dict[str, Task] = {
    "cramming": CrammingTask(),
    "one_step": OneStepTask(),
    "prefix": PrefixTask(),
    "toy": ToyTask(),
}
"""Name in the sweep file -> the task."""

TEXT_SOURCES: dict[str, type[TextEntry]] = {
    "files": FilesSource,
    "hub": HubSource,
    "random_words": RandomWordsSource,
    "random_tokens": RandomTokensSource,
    "model_samples": ModelSamplesSource,
}
"""Name in the sweep file -> the class whose fields are those of the entry."""
