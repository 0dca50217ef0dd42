"""The texts of a sweep, read from their sources.

Knows nothing of tokens or searches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestrator.planning.inputs import Found, ReadModel
from orchestrator.spec.sweep import Sweep
from tasks.contract import Reader
from tasks.texts import TextEntry, texts_of
from tasks.values import TaskError, Text


def read_texts(sweep: Sweep, *, allow_fewer: bool) -> Found[list[list[Text]]]:
    """The texts of each entry; an entry whose texts depend on the model has none yet."""
    texts: list[list[Text]] = []
    problems: list[str] = []
    notes: list[str] = []
    for number, source in enumerate(sweep.texts):
        found: list[Text] = []
        try:
            if not source.needs_reader:
                found = texts_of(source)
        except TaskError as error:
            problems.append(f"texts.{number}: {error}")
            texts.append([])
            continue
        texts.append(found)
        if source.needs_reader:
            continue
        if source.samples is not None and len(found) < source.samples:
            found_fewer = f"texts.{number}: {source.samples} samples were asked for, the source has {len(found)}."
            if not found or not allow_fewer:
                problems.append(f"{found_fewer} Ask for fewer, or continue with these: --allow-fewer.")
            else:
                notes.append(f"{found_fewer} Continuing with {len(found)}.")
    return Found(value=texts, problems=tuple(problems), notes=tuple(notes))


def commits_of_texts(sweep: Sweep) -> Found[dict[str, str]]:
    """The commit of each entry that has one, with a note for each entry whose texts may change."""
    found: dict[str, str] = {}
    notes: list[str] = []
    for number, source in enumerate(sweep.texts):
        place, commit = f"texts.{number}", source.commit()
        if commit is not None:
            found[place] = commit
        if source.may_change():
            pin = commit or "<commit>, from the history on its page; the current commit could not be found out"
            notes.append(f"{place}: revision: null takes what the hub has now; pin it with revision: {pin}")
    return Found(value=found, notes=tuple(notes))


def with_texts(
    models: Sequence[ReadModel],
    entries: Sequence[TextEntry],
    shared: Sequence[Sequence[Text]],
    drawn: Mapping[tuple[str, str], Text],
) -> Found[list[ReadModel]]:
    """The models with the texts of all entries.

    Args:
        models: The models, without texts.
        entries: The entries of the sweep.
        shared: The texts of each entry, as far as they depend on no model.
        drawn: Texts of an earlier plan of the run by model and source.
    """
    found: list[ReadModel] = []
    problems: list[str] = []
    for model in models:
        reader = Reader(model=model.planned.model, facts=model.planned.facts, codec=model.codec)
        texts: list[Text] = []
        for number, (entry, read) in enumerate(zip(entries, shared, strict=True)):
            try:
                own = texts_of(entry, reader) if entry.needs_reader else []
            except TaskError as error:
                problems.append(f"texts.{number}: {model.planned.name}: {error}")
                continue
            texts += read or [_as_drawn(text, drawn.get((model.planned.name, text.source))) for text in own]
        found.append(replace(model, texts=tuple(texts)))
    return Found(value=found, problems=tuple(problems))


def _as_drawn(text: Text, before: Text | None) -> Text:
    """The text that the run already has, unless `text` begins with the same tokens."""
    if before is None or text.tokens is None or text.tokens[: len(before.tokens or ())] == before.tokens:
        return text
    return before
