"""Attention by length: the same answer and gradient as the fused kernel's, whatever the length."""

import pytest
import torch

from tasks.attention import ATTENTION_BY_LENGTH, SHORT_INPUT
from tasks.language_model import LanguageModel
from tasks.values import Model


@pytest.fixture
def own_model(model: Model) -> LanguageModel:
    return LanguageModel(model, device="cpu")


@pytest.mark.parametrize("num_positions", [1, 2, 20, SHORT_INPUT, SHORT_INPUT + 1])
def test_it_gives_what_the_fused_kernel_gives(own_model, num_positions):
    inputs = torch.randn(3, num_positions, own_model.embedding_width, generator=torch.Generator().manual_seed(0))

    def hidden_and_gradient():
        leaf = inputs.clone().requires_grad_()
        hidden = own_model.hidden(leaf)
        return hidden.detach(), torch.autograd.grad(hidden.pow(2).sum(), leaf)[0]

    transformer = own_model._model
    assert transformer.config._attn_implementation == ATTENTION_BY_LENGTH
    by_length = hidden_and_gradient()
    transformer.set_attn_implementation("sdpa")
    for found, wanted in zip(by_length, hidden_and_gradient(), strict=True):
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
