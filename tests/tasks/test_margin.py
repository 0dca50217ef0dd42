"""The criterion `margin`: on stories260K, every token of a proven text wins by as much as was asked for."""

import pytest
import torch

from tasks.cross_entropy import cross_entropy, cross_entropy_and_gradient
from tasks.decoding import hold_against
from tasks.layout import Cramming
from tasks.prover import LayoutProver
from tasks.values import Lossless, Question
from tests.device import DEVICE

LEAST = 4.0
FIRM = Question(recipe={"radius": 30.0}, growth=None, least_margin=LEAST)
EXACT = Question(recipe={"radius": 30.0}, growth=None)


@pytest.fixture(scope="module")
def outcomes(open_engine, run_engine, story_probes):
    return {
        asked: list(run_engine(open_engine(question), story_probes(2, longest=6)).values())
        for asked, question in (("firm", FIRM), ("exact", EXACT))
    }


def test_what_is_proven_has_the_margin_and_takes_more_steps(outcomes):
    for firm, exact in zip(outcomes["firm"], outcomes["exact"], strict=True):
        assert isinstance(firm.outcome, Lossless)
        found = firm.outcome.measurement
        assert found.proven_length == found.exact_prefix == 6
        assert min(found.margin_by_token) == found.margin
        assert min(found.margin_by_token) >= LEAST
        assert found.token_accuracy == 1.0
        assert exact.outcome.measurement.margin < LEAST
        assert found.steps > exact.outcome.measurement.steps


def test_a_prover_counts_tokens_before_the_first_without_it(outcomes, language_model):
    """Of a memory that is exact, but not by so much, a prefix counts."""
    (item, *_) = outcomes["exact"]
    found = item.outcome.measurement
    tokens = item.probe.tokens
    proofs = [
        LayoutProver(language_model, Cramming(asked), asked)(found.memory, num_vectors=1, tokens=tokens)
        for asked in (EXACT, FIRM)
    ]
    thin = next(i for i, margin in enumerate(found.margin_by_token) if margin < LEAST)
    assert [proof.exact_prefix for proof in proofs] == [6, thin]
    assert proofs[0].tokens == proofs[1].tokens == tokens


def test_a_token_is_correct_by_the_margin_alone(language_model):
    generator = torch.Generator().manual_seed(0)
    hidden_NH = 20 * torch.randn(40, language_model.head.weight.shape[1], generator=generator).to(DEVICE)
    best_two = language_model.head(hidden_NH).topk(2, dim=-1)
    targets_N, margins_N = best_two.indices[:, 0], best_two.values[:, 0] - best_two.values[:, 1]
    wanted_N = margins_N >= LEAST
    assert 0 < wanted_N.sum() < len(wanted_N)
    _, correct_N = cross_entropy(language_model, hidden_NH, targets_N, least_margin=LEAST)
    _, trained_N, _ = cross_entropy_and_gradient(language_model, hidden_NH, targets_N, least_margin=LEAST)
    assert torch.equal(correct_N, wanted_N)
    assert torch.equal(trained_N, wanted_N)


@pytest.mark.parametrize(("least", "prefix"), [(0.0, 2), (1.0, 2), (1.5, 1), (3.0, 0)])
def test_a_prefix_ends_at_the_first_thin_or_wrong_token(least, prefix):
    # Margins 2, 1 and 5; the third token is wrong.
    logits_BLV = torch.tensor([[[3.0, 1.0, 0.0], [0.0, 1.0, 2.0], [5.0, 0.0, 0.0]]])
    decoded = hold_against(logits_BLV, torch.tensor([[0, 2, 1]]))
    assert decoded.firm_prefix(least_margin=least).tolist() == [prefix]
