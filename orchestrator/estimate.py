"""What a sweep will cost, before it is run: a rough figure that says what it rests on.

Pure. Knows nothing of Ray, files or torch.
"""

from dataclasses import dataclass

from orchestrator.plan import Plan
from orchestrator.store.searches import theoretical_tokens

PROBES_PER_SEARCH = 4.5
STEPS_PER_SEARCH = 1300
"""Mean probes and row-steps of a search with two retries, on stories260K and tinystories-656k."""
SHARE_OF_THEORY = 0.25
"""Capacity over theoretical capacity: .25 on stories260K; published: .1 for Pythia-160M to .4 for Llama-3.1-8B."""
PASSES = 4
"""Multiply-adds a weight costs per token and step, times two: forward, and backward through activations only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEstimate:
    """What the searches of one model will take, about."""

    model: str
    parameters: int
    context: int | None
    samples: int
    searches: int
    probes: int
    expected_tokens: float
    """Mean capacity assumed, in tokens."""
    tera_operations: float
    """Floating-point operations, in units of 10^12."""


def estimate(plan: Plan) -> list[ModelEstimate]:
    """One estimate per model of the plan."""
    found: list[ModelEstimate] = []
    for model in plan.models:
        searches = [search for search in plan.searches if search.model == model.name]
        expected = [
            min(search.limit, SHARE_OF_THEORY * theoretical_tokens(model.facts, num_vectors=search.num_vectors))
            for search in searches
        ]
        row_steps_tokens = STEPS_PER_SEARCH * sum(expected)
        found.append(
            ModelEstimate(
                model=model.name,
                parameters=model.facts.num_parameters,
                context=model.facts.context,
                samples=len({search.sample_id for search in searches}),
                searches=len(searches),
                probes=round(PROBES_PER_SEARCH * len(searches)),
                expected_tokens=sum(expected) / max(1, len(expected)),
                tera_operations=PASSES * model.facts.num_parameters * row_steps_tokens / 1e12,
            )
        )
    return found
