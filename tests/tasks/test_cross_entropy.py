"""Cross-entropy and its gradient: by hand or by kernel, whole or in chunks, the same as autograd of the whole."""

import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from tasks import cross_entropy
from tasks.cross_entropy import LIGER_IS_INSTALLED, cross_entropy_and_gradient, with_liger, with_torch
from tasks.language_model import LanguageModel
from tests.device import DEVICE

WIDTH, VOCABULARY, TOKENS = 32, 300, 11
DTYPES = [torch.float32, torch.bfloat16]
# Triton's interpreter (TRITON_INTERPRET=1) runs liger's kernel on a CPU; `make gpu-test` runs it on CUDA.
needs_liger = pytest.mark.skipif(
    not LIGER_IS_INSTALLED or (DEVICE == "cpu" and not os.environ.get("TRITON_INTERPRET")),
    reason="needs liger-kernel (the extra `fast`), and a CUDA device or TRITON_INTERPRET=1",
)


@pytest.fixture(params=DTYPES, ids=str)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        initializer_range=1.0,
    )
    torch.manual_seed(0)
    return LanguageModel(LlamaForCausalLM(config).to(request.param), device=DEVICE)


def hidden_and_targets(model: LanguageModel, width: int = WIDTH) -> tuple[Tensor, Tensor]:
    """Hidden states (N, H), and targets (N,) of which every other one is correct."""
    generator = torch.Generator().manual_seed(1)
    hidden_NH = torch.randn(TOKENS, width, generator=generator).to(model.device, model.dtype)
    targets_N = torch.randint(model.vocabulary, (TOKENS,), generator=generator).to(model.device)
    targets_N[::2] = model.head(hidden_NH)[::2].argmax(-1)
    return hidden_NH, targets_N


def by_autograd(model: LanguageModel, hidden_NH: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    leaf_NH = hidden_NH.clone().requires_grad_()
    logits_NV = model.head(leaf_NH).float()
    nats_N = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="none")
    (gradient_NH,) = torch.autograd.grad(nats_N.sum(), leaf_NH)
    return nats_N.detach(), logits_NV.argmax(-1) == targets_N, gradient_NH


def assert_same(found: tuple[Tensor, Tensor, Tensor], wanted: tuple[Tensor, Tensor, Tensor]) -> None:
    """Nats to rounding in float32, correct tokens exactly, gradients to rounding in the model's precision."""
    assert found[2].dtype == wanted[2].dtype
    assert torch.allclose(found[0], wanted[0], rtol=1e-5, atol=1e-5)
    assert torch.equal(found[1], wanted[1])
    tolerance = 1e-5 if wanted[2].dtype == torch.float32 else 1e-2
    assert (found[2] - wanted[2]).float().norm() <= tolerance * wanted[2].float().norm()


def with_bias(model: LanguageModel) -> torch.nn.Module:
    head = torch.nn.Linear(WIDTH, VOCABULARY).to(model.device, model.dtype).requires_grad_(False)
    head.bias.copy_(torch.linspace(-1, 1, VOCABULARY))
    return head


def with_cap(model: LanguageModel) -> torch.nn.Module:
    return torch.nn.Sequential(with_bias(model), torch.nn.Tanh())


class TestInTorch:
    @pytest.mark.parametrize("tokens_per_chunk", [1, 4, 100])
    def test_in_chunks_it_is_that_of_the_whole(self, model, monkeypatch, tokens_per_chunk):
        monkeypatch.setattr(cross_entropy, "LOGITS_PER_CHUNK", {"cpu": VOCABULARY * tokens_per_chunk})
        hidden_NH, targets_N = hidden_and_targets(model)
        found = with_torch(model, hidden_NH, targets_N)
        assert_same(found, by_autograd(model, hidden_NH, targets_N))
        assert TOKENS // 2 < found[1].sum() < TOKENS

    @pytest.mark.parametrize("head", [with_bias, with_cap])
    def test_any_head_will_do(self, model, head: Callable[[LanguageModel], torch.nn.Module]):
        model.head = head(model)
        hidden_NH, targets_N = hidden_and_targets(model)
        found = cross_entropy_and_gradient(model, hidden_NH, targets_N)
        assert_same(found, by_autograd(model, hidden_NH, targets_N))

    def test_logits_that_are_given_stay_as_they_are(self, model):
        model.head = torch.nn.Identity()
        logits_NV, targets_N = hidden_and_targets(model, VOCABULARY)
        before_NV = logits_NV.clone()
        assert_same(cross_entropy_and_gradient(model, logits_NV, targets_N), by_autograd(model, before_NV, targets_N))
        assert torch.equal(logits_NV, before_NV)

    def test_no_tokens(self, model):
        hidden_NH, targets_N = hidden_and_targets(model)
        nats_N, correct_N, gradient_NH = cross_entropy_and_gradient(model, hidden_NH[:0], targets_N[:0])
        assert nats_N.shape == correct_N.shape == (0,)
        assert gradient_NH.shape == (0, WIDTH)


@needs_liger
class TestInLigersKernel:
    @pytest.mark.parametrize("tokens_per_chunk", [1, 100])
    def test_it_gives_the_same_as_torch(self, model, monkeypatch, tokens_per_chunk):
        monkeypatch.setattr(cross_entropy, "LOGITS_PER_CHUNK", {"cpu": VOCABULARY * tokens_per_chunk})
        hidden_NH, targets_N = hidden_and_targets(model)
        found = with_liger(model.head.weight, hidden_NH.requires_grad_(), targets_N)
        assert_same(found, with_torch(model, hidden_NH, targets_N))
        assert not any(part.requires_grad for part in found)

    def test_of_equal_logits_the_first_is_the_largest(self, model):
        hidden_NH, targets_N = hidden_and_targets(model)
        equal_VH = torch.ones_like(model.head.weight)
        targets_N[0] = 0
        assert with_liger(equal_VH, hidden_NH, targets_N)[1].tolist() == (targets_N == 0).tolist()

    @pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device: elsewhere the kernel is never taken")
    def test_it_is_taken_for_plain_heads_alone(self, model, monkeypatch):
        taken: list[Tensor] = []
        monkeypatch.setattr(cross_entropy, "with_liger", lambda weight, hidden, targets: taken.append(weight))
        hidden_NH, targets_N = hidden_and_targets(model)
        cross_entropy_and_gradient(model, hidden_NH, targets_N)
        assert taken == [model.head.weight]
        model.head = with_bias(model)
        cross_entropy_and_gradient(model, hidden_NH, targets_N)
        assert len(taken) == 1
