"""The texts of a sweep, read from their sources.

Knows nothing of tokens or searches.
"""

from collections.abc import Mapping

from orchestrator.planning.plan import PlannedModel
from orchestrator.spec.sweep import Sweep
from tasks.contract import Reader, TextCodec
from tasks.texts import texts_of
from tasks.values import TaskError, Text


def read_texts(sweep: Sweep, problems: list[str], notes: list[str], *, allow_fewer: bool) -> list[list[Text]]:
    """The texts of each entry; none yet of those that depend on the model."""
    texts: list[list[Text]] = []
    for number, source in enumerate(sweep.texts):
        found: list[Text] = []
        try:
            if not source.needs_reader:
                found = texts_of(source)
        except TaskError as error:
            problems.append(f"texts.{number}: {error}")
            continue
        texts.append(found)
        if source.needs_reader:
            continue
        if source.samples is not None and len(found) < source.samples:
            found_fewer = f"texts.{number}: {source.samples} samples were asked for, the source has {len(found)}."
            if not found or not allow_fewer:
                problems.append(f"{found_fewer} Ask for fewer, or continue with those by --allow-fewer.")
            else:
                notes.append(f"{found_fewer} Continuing with {len(found)}.")
    return texts


def commits_of_texts(sweep: Sweep, notes: list[str]) -> dict[str, str]:
    """The commit of each entry that has one; a note for each whose texts may change."""
    found: dict[str, str] = {}
    for number, source in enumerate(sweep.texts):
        place, commit = f"texts.{number}", source.commit()
        if commit is not None:
            found[place] = commit
        if source.may_change():
            pin = commit or "<commit>, one of the history on its page; which it is now could not be found out"
            notes.append(f"{place}: revision: null takes whatever the hub has now; pin it with revision: {pin}")
    return found


def texts_of_reader(
    sweep: Sweep, model: PlannedModel, codec: TextCodec, problems: list[str], drawn: Mapping[tuple[str, str], Text]
) -> list[list[Text]]:
    """The texts of each entry that depend on the model; none of the others."""
    reader = Reader(model=model.model, facts=model.facts, codec=codec)
    texts: list[list[Text]] = []
    for number, source in enumerate(sweep.texts):
        try:
            found = texts_of(source, reader) if source.needs_reader else []
        except TaskError as error:
            problems.append(f"texts.{number}: {model.name}: {error}")
            continue
        texts.append([_as_drawn(text, drawn.get((model.name, text.source))) for text in found])
    return texts


def _as_drawn(text: Text, before: Text | None) -> Text:
    """The text as the run has it, unless this one is the same and only longer."""
    if before is None or text.tokens is None or text.tokens[: len(before.tokens or ())] == before.tokens:
        return text
    return before
