"""What a sweep will cost, before it is run: a rough figure and what it rests on.

Pure. Knows nothing of Ray, files or torch.
"""

from dataclasses import dataclass

from orchestrator.plan import Plan
from orchestrator.search.ledger import Search
from orchestrator.store.searches import theoretical_tokens

STEPS_PER_PROBE = 400
"""Mean optimizer steps of a probe: 410 on stories260K, 320 on tinystories-656k, 360 on the quickstart model."""
SHARE_OF_THEORY = 0.1
"""Capacity over theoretical capacity: .24 on stories260K, .07 on tinystories-656k, .04 on the quickstart model; as
published, .1 for Pythia-160M to .4 for Llama-3.1-8B."""
GRID_PATIENCES = 1.5
"""Steps of a probe of a grid that fails, in patiences: a guess between one, the least, and the recipe's most steps."""
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

    def gpu_hours(self, tflops: float) -> float:
        """Hours on a device that does `tflops` times 10^12 operations a second."""
        return self.tera_operations / tflops / 3600


def _lengths(plan: Plan, search: Search, expected: float) -> list[tuple[float, float]]:
    """(tokens, optimizer steps) of each probe that a search will make, about."""
    if search.grid is None:
        # Every start but those that reach a text's end stalls once, and a search ends after so many stalls.
        return [(expected, STEPS_PER_PROBE)] * (1 + plan.sweep.search.retries)
    # A probe that fails continues until its patience is over, which begins anew with every gain.
    patience = min(plan.sweep.recipe.get("steps", 0), GRID_PATIENCES * plan.sweep.recipe.get("patience", 0))
    return [(length, STEPS_PER_PROBE if length <= expected else patience) for length in search.grid]


def estimate(plan: Plan) -> list[ModelEstimate]:
    """One estimate per model of the plan."""
    found: list[ModelEstimate] = []
    for model in plan.models:
        searches = [search for search in plan.searches if search.model == model.name]
        expected = [
            min(search.limit, SHARE_OF_THEORY * theoretical_tokens(model.facts, num_vectors=search.num_vectors))
            for search in searches
        ]
        lengths = [_lengths(plan, search, tokens) for search, tokens in zip(searches, expected, strict=True)]
        trained_tokens = sum(steps * length for probes in lengths for length, steps in probes)
        found.append(
            ModelEstimate(
                model=model.name,
                parameters=model.facts.num_parameters,
                context=model.facts.context,
                samples=len({search.sample_id for search in searches}),
                searches=len(searches),
                probes=sum(map(len, lengths)),
                expected_tokens=sum(expected) / max(1, len(expected)),
                tera_operations=PASSES * model.facts.num_parameters * trained_tokens / 1e12,
            )
        )
    return found
