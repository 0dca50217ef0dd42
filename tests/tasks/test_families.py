"""Conformance: a tiny random model of each family of transformers does all that the engine asks of a model."""

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from tasks.certificate import LayoutProver
from tasks.contract import EngineSettings, Lossless, Probe, Question
from tasks.cramming import CrammingTask
from tasks.cross_entropy import cross_entropy_and_gradient
from tasks.engine import BatchedEngine
from tasks.language_model import LanguageModel
from tasks.layout import Cramming, OneStep, pick_inputs

VOCABULARY = 24
PLAIN: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
ONE_KIND_OF_HEAD = {name: value for name, value in PLAIN.items() if name != "num_key_value_heads"}
GPT2: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
STATE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT-NeoX (Pythia)": ("GPTNeoX", ONE_KIND_OF_HEAD),
    "Llama (SmolLM, Sheared-LLaMA)": ("Llama", {**PLAIN, "num_key_value_heads": 1}),
    "OPT, embeddings narrower than its layers": (
        "OPT",
        {**ONE_KIND_OF_HEAD, "ffn_dim": 32, "word_embed_proj_dim": 8, "pad_token_id": 0},
    ),
    "OLMo": ("Olmo", PLAIN),
    "OLMo 2": ("Olmo2", PLAIN),
    "GPT-2": ("GPT2", GPT2),
    "GPT-Neo": (
        "GPTNeo",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 16,
            "num_layers": 2,
            "num_heads": 2,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": 64,
            "window_size": 8,
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
    ),
    "GPT-J": ("GPTJ", {**GPT2, "rotary_dim": 4}),
    "Qwen 2": ("Qwen2", PLAIN),
    "Qwen 3": ("Qwen3", {**PLAIN, "head_dim": 8}),
    "Gemma, embeddings scaled": ("Gemma", {**PLAIN, "head_dim": 8, "pad_token_id": 0}),
    "Gemma 2, logits capped": ("Gemma2", {**PLAIN, "head_dim": 8, "pad_token_id": 0, "final_logit_softcapping": 1.0}),
    "Gemma 3": ("Gemma3", {**PLAIN, "head_dim": 8, "pad_token_id": 0}),
    "Mistral": ("Mistral", {**PLAIN, "sliding_window": 8}),
    "Phi": ("Phi", PLAIN),
    "Falcon": ("Falcon", {**ONE_KIND_OF_HEAD, "new_decoder_architecture": False}),
    "SmolLM 3": ("SmolLM3", {**PLAIN, "pad_token_id": 0}),
    "Mamba": ("Mamba", {**STATE, "state_size": 4}),
    "Mamba 2": ("Mamba2", {**STATE, "state_size": 4, "num_heads": 4, "head_dim": 8, "n_groups": 1, "chunk_size": 8}),
    "RWKV 4": ("Rwkv", {**STATE, "attention_hidden_size": 16, "context_length": 64}),
}
"""Name for people -> name of its classes in transformers, and a small configuration."""
OWN_PATH = {"Gemma 2, logits capped"}
"""Families whose head does more than multiply: the model's own logits are taken."""


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> tuple[str, LanguageModel, Any]:
    kind, settings = FAMILIES[request.param]
    torch.manual_seed(0)
    config_class = "Gemma3TextConfig" if kind == "Gemma3" else f"{kind}Config"
    config = getattr(transformers, config_class)(**settings)
    made = getattr(transformers, "GPT2LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for name, weights in made.named_parameters():
            # As they begin, random models repeat one token for ever.
            if weights.ndim == 2 and "A_log" not in name:
                weights.mul_(6)
    return request.param, LanguageModel(made, device="cpu"), made


def memories(model: LanguageModel, num_slots: int, num_vectors: int) -> Tensor:
    shape = (num_slots, num_vectors, model.embedding_width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(num_vectors)) * model.embedding_std


def decoded_from(model: LanguageModel, memory_BKD: Tensor, length: int) -> Tensor:
    """What the model decodes greedily from these memories (B, L)."""
    nothing = torch.zeros(len(memory_BKD), length, dtype=torch.long)
    return Cramming(Question()).prove(model, memory_BKD, nothing).tokens_BL


def inputs_of(model: LanguageModel, memory_BKD: Tensor, tokens_BL: Tensor) -> Tensor:
    inputs = Cramming(Question()).build_inputs(memory_BKD.shape[1], tokens_BL.shape[1])
    return pick_inputs(model, memory_BKD, tokens_BL, torch.tensor([inputs] * len(tokens_BL)), prefix=False)


@pytest.mark.parametrize("num_vectors", [1, 4])
def test_the_gradient_reaches_the_memory_and_no_weight(family, num_vectors):
    _, model, made = family
    memory_BKD = memories(model, 2, num_vectors).requires_grad_()
    tokens_BL = torch.arange(12).view(2, 6)
    hidden_NH = model.hidden(inputs_of(model, memory_BKD, tokens_BL))[:, num_vectors - 1 :].flatten(0, 1)
    nats_N, _, gradient_NH = cross_entropy_and_gradient(model, hidden_NH, tokens_BL.flatten())
    (gradient_BKD,) = torch.autograd.grad(hidden_NH, memory_BKD, gradient_NH)
    assert gradient_BKD.isfinite().all()
    assert (gradient_BKD.abs().sum(2) > 0).all()
    assert all(not weights.requires_grad and weights.grad is None for weights in made.parameters())
    # The same as the model's own loss, differentiated by autograd from end to end.
    logits = made(inputs_embeds=inputs_of(model, memory_BKD, tokens_BL), use_cache=False).logits[:, num_vectors - 1 :]
    own = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), tokens_BL.flatten(), reduction="sum")
    torch.testing.assert_close(nats_N.sum(), own, rtol=1e-4, atol=1e-4)
    (own_gradient,) = torch.autograd.grad(own, memory_BKD)
    torch.testing.assert_close(gradient_BKD, own_gradient, rtol=1e-3, atol=1e-4 * float(own_gradient.abs().max()))


def test_right_padding_changes_nothing(family):
    _, model, _ = family
    tokens_BL = torch.arange(8)[None]
    padded_BL = torch.cat([tokens_BL, torch.zeros(1, 9, dtype=torch.long)], dim=1)
    memory_BKD = memories(model, 1, 2)
    with torch.no_grad():
        plain = model.head(model.hidden(inputs_of(model, memory_BKD, tokens_BL)))
        padded = model.head(model.hidden(inputs_of(model, memory_BKD, padded_BL)))[:, : plain.shape[1]]
    torch.testing.assert_close(padded, plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))


def test_the_head_is_the_models_or_its_own_path_is_taken(family):
    name, model, made = family
    assert isinstance(model.head, torch.nn.Identity) == (name in OWN_PATH)
    with torch.no_grad():
        inputs = inputs_of(model, memories(model, 2, 1), torch.arange(12).view(2, 6))
        own = made(inputs_embeds=inputs, use_cache=False).logits
        torch.testing.assert_close(model.head(model.hidden(inputs)), own, rtol=1e-4, atol=1e-4)
    assert model.vocabulary == VOCABULARY


def test_decoding_with_a_cache_is_reading_everything_again(family):
    _, model, made = family
    memory_BKD = memories(model, 3, 2)
    tokens_BL = decoded_from(model, memory_BKD, 10)
    found = Cramming(Question()).prove(model, memory_BKD, tokens_BL)
    assert found.exact_prefix_B.tolist() == [10, 10, 10]
    with torch.no_grad():
        logits = made(inputs_embeds=inputs_of(model, memory_BKD, tokens_BL), use_cache=False).logits[:, 1:].float()
    nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens_BL, reduction="none")
    torch.testing.assert_close(found.nats_BL, nats, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("layout", "num_vectors"), [(Cramming, 1), (Cramming, 4), (OneStep, 2)])
def test_verdict_and_certificate_agree(family, layout, num_vectors):
    _, model, _ = family
    layout = layout(Question())
    question = Question(recipe=CrammingTask().recipe({"steps": 150, "patience": 100}))
    engine = BatchedEngine(model, layout, question, EngineSettings(device="cpu"))
    # What the model itself decodes from some memory can be reached; 40 random tokens cannot.
    memory_BKD = memories(model, 1, num_vectors)
    reachable = layout.prove(model, memory_BKD, torch.zeros(1, 6, dtype=torch.long)).tokens_BL[0]
    out_of_reach = torch.randint(VOCABULARY, (40,), generator=torch.Generator().manual_seed(1))
    probes = [
        Probe(
            probe_id=f"{number} {num_vectors}",
            search_id=str(number),
            number=0,
            sample_id=str(number),
            tokens=tuple(text.tolist()),
            length=len(text),
            num_vectors=num_vectors,
            start="some" if number == 0 else "cold",
            start_memory=memory_BKD.numpy().tobytes() if number == 0 else None,
        )
        for number, text in enumerate((reachable, out_of_reach))
    ]
    engine.submit(probes, num_open=2)
    outcomes: dict[str, Any] = {}
    while engine.num_held:
        outcomes.update({item.probe.search_id: item for item in engine.step()})
    assert isinstance(outcomes["0"].outcome, Lossless)
    assert not isinstance(outcomes["1"].outcome, Lossless)
    for item in outcomes.values():
        measured = item.outcome.measurement
        if measured.memory is not None:
            proof = LayoutProver(model, layout, question)(
                measured.memory, num_vectors=num_vectors, tokens=item.probe.tokens
            )
            assert proof.exact_prefix >= measured.exact_prefix
            if measured.proven_length == item.probe.length:
                assert proof.exact_prefix == measured.exact_prefix == measured.proven_length
