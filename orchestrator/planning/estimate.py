"""Estimates roughly what a sweep will cost before it is run.

Pure. Knows nothing of Ray, files or torch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.planning.plan import Plan
from orchestrator.search.ledger import Search
from orchestrator.store.searches import theoretical_tokens
from tasks.facts import Price, StepCost

BITS_PER_DIMENSION = 0.6
"""Capacity in bits over k times the width: 0.36 on the quickstart model, 0.78 on tinystories-656k, 0.91 on stories260K,
1 on SmolLM2-135M; as published, 0.74 for Pythia-160M and 1.3 for Llama-3.1-8B."""
SHARE_OF_THEORY = 0.1
"""Capacity over theoretical capacity, used where the model read no text: 0.24 on stories260K, 0.07 on tinystories-656k,
0.04 on the quickstart model; as published, from 0.1 for Pythia-160M to 0.4 for Llama-3.1-8B."""
START_TOKENS, START_POWER = 105.0, 1.3
"""A start that ends at n tokens has trained on 105 n^1.3 tokens (default recipe): within a tenth of the measured
trained tokens of stories260K (n = 31), tinystories-656k (19), the quickstart (23) and SmolLM2-135M (98, not at its
end)."""
SHARE_OF_GROWTH = 0.5
"""A start that its limit stops at a share x of the capacity has trained on 0.5 x^2 of those tokens: it took about as
many steps for each token, and did not stall. On SmolLM2-135M, whose capacity is about 100, by measurement (and by this
formula): 1,120 (1,220) tokens at a limit of 24, 5,700 (6,000) at 54, 12,400 (12,800) at 79."""
LENGTH_OF_A_STEP, LENGTH_OF_GROWTH = 0.9, 0.5
"""Mean tokens of a step over the tokens at the end of its start: where it stalls (0.9 to 1 on three toys), and where
its limit stops it (0.54 on SmolLM2-135M at a limit of 24). What stands before the memory is computed at every step."""
GRID_STEPS = 400
"""Optimizer steps of a grid's probe that succeeds."""
GRID_PATIENCES = 1.5
"""Optimizer steps of a grid's probe that fails, in units of `patience`: a guess between one, the least possible, and
the recipe's limit on steps."""
BATCHES_PER_STEP = 2
"""Batches into which a step cuts its slots, roughly."""
CERTIFICATES = 1.1
"""Time of a run over the time of its steps: slots that leave are decoded."""
PASSES = 4
"""Floating-point operations per weight, token and step: a multiply and an add forward, and the same backward, which
goes through activations only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEstimate:
    """Estimated cost of the searches of one model."""

    model: str
    parameters: int
    context: int | None
    texts: int
    searches: int
    probes: int
    expected_tokens: float
    """Assumed mean capacity, in tokens."""
    tera_operations: float
    """Floating-point operations, in units of 10^12."""
    seconds: float | None = None
    """Time on the device that was timed; None if the model was not timed."""

    def gpu_hours(self, tflops: float) -> float:
        """Hours on a device that does `tflops` times 10^12 operations a second."""
        return self.tera_operations / tflops / 3600


def estimate(plan: Plan, prices: Mapping[str, Price] | None = None) -> list[ModelEstimate]:
    """One estimate per model of the plan, with `seconds` for the models in `prices`."""
    found: list[ModelEstimate] = []
    for model in plan.models:
        searches = [search for search in plan.searches if search.model == model.name]
        price = (prices or {}).get(model.name)
        capacities = [_capacity(plan, search, price) for search in searches]
        expected = [min(float(search.limit), tokens) for search, tokens in zip(searches, capacities, strict=True)]
        probes = [_computed_tokens(plan, search, tokens) for search, tokens in zip(searches, capacities, strict=True)]
        computed_tokens = sum(map(sum, probes))
        mean = sum(expected) / max(1, len(expected))
        before = plan.question.num_before * plan.question.num_texts
        open_at_a_time = len(searches) * (mean / 2 + before)
        found.append(
            ModelEstimate(
                model=model.name,
                parameters=model.facts.num_parameters,
                context=model.facts.context,
                texts=plan.question.num_texts * len({search.sample_id for search in searches}),
                searches=len(searches),
                probes=sum(map(len, probes)),
                expected_tokens=mean,
                tera_operations=PASSES * model.facts.num_parameters * computed_tokens / 1e12,
                seconds=None if price is None else _seconds(price.step, computed_tokens, open_at_a_time),
            )
        )
    return found


def _capacity(plan: Plan, search: Search, price: Price | None) -> float:
    """Expected tokens that the memory of a search holds, if the search has no limit."""
    facts = plan.model(search.model).facts
    if price is None or not any(price.nats_by_token):
        theory = theoretical_tokens(facts, num_vectors=search.num_vectors)
        return SHARE_OF_THEORY * theory
    nats = BITS_PER_DIMENSION * math.log(2) * search.num_vectors * facts.memory_width
    texts = [text for text in price.nats_by_token if text]
    return max(1.0, sum(_tokens_for(text, nats) for text in texts) / len(texts))


def _tokens_for(nats_by_token: Sequence[float], nats: float) -> float:
    """Tokens at the beginning of a text that cost `nats`; beyond its known tokens, each costs their mean."""
    left = nats
    for number, cost in enumerate(nats_by_token):
        if cost > left:
            return float(number)
        left -= cost
    return len(nats_by_token) * nats / (nats - left)


def _computed_tokens(plan: Plan, search: Search, capacity: float) -> list[float]:
    """Estimated tokens that each probe of a search computes: those it trains on, and at each step those before them."""
    before = plan.question.num_before * plan.question.num_texts
    if search.grid is None:
        full = START_TOKENS * capacity**START_POWER
        if search.limit < capacity:
            growth = SHARE_OF_GROWTH * full * (search.limit / capacity) ** 2
            return [growth * (1 + before / (LENGTH_OF_GROWTH * search.limit))]
        # A start that is not stopped by its limit stalls once, and a search ends after 1 + retries stalls.
        return [full * (1 + before / (LENGTH_OF_A_STEP * capacity))] * (1 + plan.sweep.search.retries)
    # A probe that fails runs until its patience is spent, which every gain renews.
    patience = min(plan.sweep.recipe.get("steps", 0), GRID_PATIENCES * plan.sweep.recipe.get("patience", 0))
    return [(before + length) * (GRID_STEPS if length <= capacity else patience) for length in search.grid]


def _seconds(cost: StepCost, computed_tokens: float, tokens_of_all: float) -> float:
    """Time of `computed_tokens`, where all open searches together have `tokens_of_all` in a step."""
    # A step takes on tokens until the cost of a batch itself is a sixteenth; few searches give it fewer tokens.
    tokens_per_step = max(1.0, min(tokens_of_all, 16 * cost.batch_seconds / cost.token_seconds))
    batches = BATCHES_PER_STEP * computed_tokens / tokens_per_step
    return CERTIFICATES * (computed_tokens * cost.token_seconds + batches * cost.batch_seconds)
