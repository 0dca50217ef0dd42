"""Pins a model of the hub to a commit, with its tokenizer and its code: what is read later is what was planned.

Knows nothing of weights.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from transformers import PreTrainedConfig
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from tasks.gguf_file import is_gguf, is_local, repository_of
from tasks.hub import commit_of
from tasks.model_files import why_not_loaded
from tasks.values import Model, TaskError

CODE_CLASSES = ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer")
"""Keys of `auto_map` that name the code of what is loaded here."""


def pinned(model: Model) -> Model:
    """The model at the commits that its names mean now; commits that it has are kept.

    Raises:
        TaskError: when a commit cannot be found out, or the model's code comes from several repositories.
    """
    if model.commit is None and not is_local(model):
        try:
            commit = commit_of(repository_of(model), model.revision, "model")
        except TaskError as error:
            raise TaskError(f"{error} It was taken for a hub id, as no such file or folder is here.") from error
        model = replace(model, commit=commit)
    if is_gguf(model):
        return model  # it holds no code
    if model.trust_remote_code and model.code_commit is None and (repository := _code_repository(model)) is not None:
        model = replace(model, code_commit=commit_of(repository, None, "model"))
    return model


def _code_repository(model: Model) -> str | None:
    """The repository that the model's code comes from; None if it is the model's own, or there is no code."""
    try:
        config, _ = PreTrainedConfig.get_config_dict(model.name, revision=model.commit)
        of_tokenizer = get_tokenizer_config(model.name, revision=model.commit or "main")
    except Exception as error:  # the files decide which exception is raised
        raise TaskError(f"{model.name}: {why_not_loaded(model, error)}") from error
    found = {
        reference.partition("--")[0] if "--" in reference else model.name
        for reference in (*_references(config), *_references(of_tokenizer))
    }
    if len(found) > 1:
        raise TaskError(
            f"{model.name}: its code comes from several repositories ({', '.join(sorted(found))}), which cannot be "
            "pinned together. Wanted code from one: copy the model to a folder, with its code."
        )
    return next(iter(found - {model.name}), None)


def _references(document: Mapping[str, Any]) -> Iterator[str]:
    """The classes that a configuration names, as `module.Class` or `owner/repository--module.Class`."""
    classes = document.get("auto_map") or {}
    # An old form of tokenizer_config.json gives a list of the tokenizer's classes alone.
    entries = [classes.get(name) for name in CODE_CLASSES] if isinstance(classes, Mapping) else classes
    for entry in entries:
        yield from (each for each in (entry if isinstance(entry, list | tuple) else [entry]) if isinstance(each, str))
