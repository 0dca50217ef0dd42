"""Makes the plan of a sweep: reads its models and texts, and lays out its searches.

Writes nothing. Knows nothing of Ray or of results.
"""

from collections.abc import Mapping
from typing import Any

from orchestrator.errors import BadInput
from orchestrator.planning.held import HeldSamples, excused
from orchestrator.planning.inputs import Found, Inputs, notes_of, problems_of
from orchestrator.planning.models import notes_on, read_models, with_dtypes, with_held_models, with_recipes
from orchestrator.planning.plan import Plan
from orchestrator.planning.searches import lay_out
from orchestrator.planning.texts import read_texts, with_held_commits, with_texts
from orchestrator.spec.sweep import Sweep
from tasks.registry import TASKS
from tasks.values import Text


def with_held(sweep: Sweep, held: Sweep) -> Sweep:
    """The sweep with what a run decided, measured and pinned, where the sweep leaves it open."""
    return with_held_commits(with_held_models(sweep, held), held)


def make_plan(
    sweep: Sweep,
    *,
    allow_fewer: bool = False,
    drawn: Mapping[tuple[str, str], Text] | None = None,
    held: Sweep | None = None,
    samples: HeldSamples | None = None,
    measure: bool = True,
) -> Plan:
    """Read models and texts and lay out all searches.

    Args:
        sweep: What the user asks for.
        allow_fewer: Continue when a text source has fewer texts than asked for.
        drawn: Texts of an earlier plan of the run by model and source: another machine may draw other texts.
        held: The sweep of the run, if there is one: what was decided, measured and pinned for it stays.
        samples: The samples of the run, for texts that are no longer where they came from.
        measure: Whether to measure what a recipe needs of its model, which loads the weights.

    Raises:
        BadInput: with every problem found in models and texts.
    """
    task = TASKS[sweep.task]
    sweep = sweep if held is None else with_held(sweep, held)
    texts = read_texts(sweep, allow_fewer=allow_fewer)
    decided = with_dtypes(sweep, task)
    models = read_models(decided.value, task)
    texts = excused(texts, [model.planned.name for model in models.value], samples or {})
    steps: list[Found[Any]] = [texts, decided, models]
    # The next two steps load weights, so everything else must be right before.
    if measure and not problems_of(steps):
        models = with_recipes(models.value, task)
        steps.append(models)
    if not problems_of(steps):
        models = with_texts(models.value, texts.value, drawn or {})
        steps.append(models)
    if problems := problems_of(steps):
        raise BadInput(*problems)
    found, entries = [model.planned for model in models.value], [read.entry for read in texts.value]
    commits = {f"texts.{number}": entry.commit_read() for number, entry in enumerate(entries)}
    decisions = {"models": tuple(planned.model for planned in found), "texts": tuple(entries)}
    return lay_out(
        Inputs(
            sweep=decided.value.model_copy(update=decisions),
            models=models.value,
            text_commits={place: commit for place, commit in commits.items() if commit is not None},
            notes=(*notes_of(steps), *(note for planned in found for note in notes_on(planned))),
            held=samples or {},
        )
    )
