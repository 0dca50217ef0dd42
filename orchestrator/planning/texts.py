"""The texts of a sweep, read from their sources.

Knows nothing of tokens or searches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestrator.planning.inputs import Found, ReadEntry, ReadModel
from orchestrator.spec.sweep import Sweep
from tasks.contract import Reader
from tasks.texts import TextEntry, texts_of
from tasks.values import TaskError, Text
from tasks.wording import counted


def with_held_commits(sweep: Sweep, held: Sweep) -> Sweep:
    """The sweep with the commits of data that a run keeps, where the sweep leaves them open."""
    known = {_unpinned(entry): entry for entry in reversed(held.texts)}
    entries: list[TextEntry] = []
    for entry in sweep.texts:
        before = known.get(_unpinned(entry))
        same = before is not None and entry.commit_read() is None
        entries.append(before.model_copy(update={"samples": entry.samples}) if before is not None and same else entry)
    return sweep.model_copy(update={"texts": tuple(entries)})


def _unpinned(entry: TextEntry) -> TextEntry:
    """What decides which data an entry reads, apart from their commit."""
    open_fields = {"samples": None, "commit": None}
    return entry.model_copy(update={name: value for name, value in open_fields.items() if hasattr(entry, name)})


def read_texts(sweep: Sweep, *, allow_fewer: bool) -> Found[list[ReadEntry]]:
    """The texts of each entry, pinned to a commit; an entry whose texts depend on the model has none yet."""
    entries: list[ReadEntry] = []
    problems: list[str] = []
    notes: list[str] = []
    for number, source in enumerate(sweep.texts):
        entry = source
        found: list[Text] = []
        try:
            entry = source.pinned()
            if not entry.needs_reader:
                found = texts_of(entry)
                notes += [f"texts.{number}: {note}" for note in entry.notes()]
        except TaskError as error:
            problems.append(f"texts.{number}: {error}")
            entries.append(ReadEntry(entry=entry))  # a run that holds the texts goes on without reading them
            continue
        entries.append(ReadEntry(entry=entry, texts=tuple(found)))
        if note := entry.pin_note():
            notes.append(f"texts.{number}: {note}")
        if entry.needs_reader:
            continue
        if entry.samples is not None and len(found) < entry.samples:
            asked = counted(entry.samples, "sample was", "samples were")
            found_fewer = f"texts.{number}: {asked} asked for, the source has {len(found)}."
            if not found or not allow_fewer:
                problems.append(f"{found_fewer} Ask for fewer, or continue with these: --allow-fewer.")
            else:
                notes.append(f"{found_fewer} Continuing with {len(found)}.")
    return Found(value=entries, problems=tuple(problems), notes=tuple(notes))


def with_texts(
    models: Sequence[ReadModel],
    entries: Sequence[ReadEntry],
    drawn: Mapping[tuple[str, str], Text],
) -> Found[list[ReadModel]]:
    """The models with the texts of all entries.

    Args:
        models: The models, without texts.
        entries: The entries of the sweep, with their texts as far as these depend on no model.
        drawn: Texts of an earlier plan of the run by model and source.
    """
    found: list[ReadModel] = []
    problems: list[str] = []
    for model in models:
        reader = Reader(model=model.planned.model, facts=model.planned.facts, codec=model.codec)
        texts: list[Text] = []
        for number, read in enumerate(entries):
            try:
                own = texts_of(read.entry, reader) if read.entry.needs_reader else []
            except TaskError as error:
                problems.append(f"texts.{number}: {model.planned.name}: {error}")
                continue
            texts += read.texts or [_as_drawn(text, drawn.get((model.planned.name, text.source))) for text in own]
        found.append(replace(model, texts=tuple(texts)))
    return Found(value=found, problems=tuple(problems))


def _as_drawn(text: Text, before: Text | None) -> Text:
    """The text that the run already has, unless `text` begins with the same tokens."""
    if before is None or text.tokens is None or text.tokens[: len(before.tokens or ())] == before.tokens:
        return text
    return before
