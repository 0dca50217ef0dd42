"""The names that a sweep file may use for tasks, text sources and recipes.

A new task or source is a class of its own and a line here; a plug-in (tasks/plugins.py) adds names without one.
Importing this module is cheap: tasks import torch and transformers only when they need them.
"""

from collections.abc import Mapping
from typing import Any

from tasks.contract import Task
from tasks.cramming import CrammingTask
from tasks.one_step import OneStepTask
from tasks.plugins import Registry
from tasks.prefix import PrefixTask
from tasks.texts import TextEntry
from tasks.texts.files import FilesSource
from tasks.texts.hub import HubSource
from tasks.texts.model_samples import ModelSamplesSource
from tasks.texts.random_tokens import RandomTokensSource
from tasks.texts.random_words import RandomWordsSource
from tasks.toy import ToyTask
from tasks.values import TaskError


def _task(name: str, found: Any) -> Task:
    """A plug-in's task, or its class."""
    task = found() if isinstance(found, type) else found
    wanted = [member for member in (*vars(Task), *Task.__annotations__) if not member.startswith("_")]
    if lacking := [member for member in wanted if not hasattr(task, member)]:
        raise TaskError(f"lacks {', '.join(lacking)}. Wanted all of `Task` in tasks/contract.py.")
    if task.name != name:
        raise TaskError(f"its `name` is {task.name!r}. Wanted the name by which it is offered.")
    return task


def _text_source(name: str, found: Any) -> type[TextEntry]:
    """A plug-in's class of entries."""
    if not isinstance(found, type) or not issubclass(found, TextEntry):
        raise TaskError(f"found {found!r}. Wanted a class below `TextEntry` of tasks/texts.")
    if (default := found.model_fields["source"].default) != name:
        raise TaskError(f'its field `source` is {default!r}. Wanted `source: Literal["{name}"] = "{name}"`.')
    return found


def _recipe(name: str, found: Any) -> Mapping[str, Any]:
    """A plug-in's recipe; the task of a sweep decides whether the fields fit it."""
    if not isinstance(found, Mapping):
        raise TaskError(f"found a {type(found).__name__}. Wanted a mapping of fields, as a sweep file has.")
    return dict(found)


TASKS: Registry[Task] = Registry(
    "task",
    "TASKS",
    {"cramming": CrammingTask(), "one_step": OneStepTask(), "prefix": PrefixTask(), "toy": ToyTask()},
    _task,
)
"""Name in the sweep file -> the task."""

TEXT_SOURCES: Registry[type[TextEntry]] = Registry(
    "text source",
    "TEXT_SOURCES",
    {
        "files": FilesSource,
        "hub": HubSource,
        "random_words": RandomWordsSource,
        "random_tokens": RandomTokensSource,
        "model_samples": ModelSamplesSource,
    },
    _text_source,
)
"""Name in the sweep file -> the class whose fields are those of the entry."""

RECIPES: Registry[str | Mapping[str, Any]] = Registry(
    "recipe", "RECIPES", {name: name for name in ("default", "published", "random")}, _recipe
)
"""Name in the sweep file -> what the task is asked for: of a built-in name, of which each task has its own recipe, the
name itself."""


def whole_recipe(task: str, asked: str | Mapping[str, Any]) -> Mapping[str, Any]:
    """Every field of a recipe that a sweep gives by its name or by some of its fields.

    Raises:
        TaskError: when no recipe has the name, or its fields do not fit the task.
    """
    if not isinstance(asked, str):
        return TASKS[task].recipe(asked)
    if asked in RECIPES:
        return TASKS[task].recipe(RECIPES[asked])
    try:
        return TASKS[task].recipe(asked)
    except TaskError as error:
        others = ", ".join(name for name in RECIPES if name not in RECIPES.built_in)
        raise TaskError(f"{error}{others and f' Of plug-ins: {others}.'}") from error.__cause__
