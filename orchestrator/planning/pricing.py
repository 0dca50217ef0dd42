"""Measures the prices of a plan's models on this machine: the only part of `check` that loads weights.

Knows nothing of searches or of what a price is used for.
"""

from rich.console import Console

from orchestrator.errors import BadInput, literal
from orchestrator.planning.plan import Plan
from orchestrator.progress import tracked
from tasks.facts import Price
from tasks.values import TaskError, WrongModelError

TEXTS, TOKENS = 8, 256
"""Texts that each model reads, and tokens of each: their cross-entropy gives the expected capacity."""


def prices_here(plan: Plan, console: Console) -> dict[str, Price]:
    """Price by model name; for a model that cannot be loaded here, a note on the console gives the reason.

    Raises:
        BadInput: with every problem of models that could not be measured on any machine.
    """
    prices: dict[str, Price] = {}
    problems: list[str] = []
    for number, model in enumerate(tracked(plan.models, "timing the models here")):
        samples = [sample for sample in plan.samples.values() if sample.model == model.name][:TEXTS]
        try:
            prices[model.name] = plan.task.price(
                model.model,
                [sample.tokens[: TOKENS * sample.num_texts] for sample in samples],
                plan.question_of(model.name),
                plan.sweep.engines.device,
                contexts=[sample.context for sample in samples],
            )
        except WrongModelError as error:
            problems += [f"models.{number}: {line}" for line in error.args]
        except (TaskError, MemoryError) as error:
            console.print(f"note: {literal(f'{model.name} was not timed: {error}')}", markup=False, highlight=False)
    if problems:
        raise BadInput(*problems)
    for name, price in prices.items():
        for note in () if price.readings is None else price.readings.notes:
            console.print(f"note: {literal(f'{name}: {note}')}", markup=False, highlight=False)
    return prices
