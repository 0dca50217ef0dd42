"""Conformance: a tiny random model of each family of transformers does all that the engine asks of a model.

Long, as each family has its configuration here.
"""

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from tasks.cramming import CrammingTask
from tasks.cross_entropy import cross_entropy_and_gradient
from tasks.engine import BatchedEngine
from tasks.language_model import LanguageModel
from tasks.layout import Cramming, OneStep, pick_inputs
from tasks.packing import pack
from tasks.prover import LayoutProver
from tasks.radius import RADII, choose_radius
from tasks.values import EngineSettings, Failed, Lossless, Lossy, Probe, Question
from tests.device import DEVICE
from tests.tasks.conftest import DEEPSEEK

VOCABULARY = 24
NO_LENGTH = ("RWKV 4",)
NOT_PACKED = (
    *("OPT, embeddings narrower than its layers", "Falcon", "Mamba", "Mamba 2", "RWKV 4"),
    *("GPT-OSS", "Bamba", "Jamba", "Zamba 2", "Falcon-H1", "LFM 2", "Qwen 3 Next"),
)
"""Families of states, and those whose attention mask does not follow the positions."""
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
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
PADDED: dict[str, Any] = {**PLAIN, "pad_token_id": 0}
HYBRID: dict[str, Any] = {
    **PADDED,
    "mamba_n_heads": 4,
    "mamba_d_head": 8,
    "mamba_d_state": 4,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT-NeoX (Pythia)": ("GPTNeoX", ONE_KIND_OF_HEAD),
    "Llama (SmolLM, Sheared-LLaMA)": ("Llama", {**PLAIN, "num_key_value_heads": 1}),
    "OPT, embeddings narrower than its layers": (
        "OPT",
        {**ONE_KIND_OF_HEAD, "ffn_dim": 32, "word_embed_proj_dim": 8, "pad_token_id": 0},
    ),
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
    "Qwen 2": ("Qwen2", PLAIN),
    "Gemma, embeddings scaled": ("Gemma", {**PLAIN, "head_dim": 8, "pad_token_id": 0}),
    "Gemma 2, logits capped": ("Gemma2", {**PLAIN, "head_dim": 8, "pad_token_id": 0, "final_logit_softcapping": 1.0}),
    "Gemma 3": ("Gemma3", {**PLAIN, "head_dim": 8, "pad_token_id": 0}),
    "Mistral": ("Mistral", {**PLAIN, "sliding_window": 8}),
    "Mamba": ("Mamba", {**STATE, "state_size": 4}),
    "Mamba 2": ("Mamba2", {**STATE, "state_size": 4, "num_heads": 4, "head_dim": 8, "n_groups": 1, "chunk_size": 8}),
    "RWKV 4": ("Rwkv", {**STATE, "attention_hidden_size": 16, "context_length": 64}),
}
"""Name for people -> name of its classes in transformers, and a small configuration."""
SLOW_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "OLMo": ("Olmo", PLAIN),
    "OLMo 2": ("Olmo2", PLAIN),
    "GPT-J": ("GPTJ", {**GPT2, "rotary_dim": 4}),
    "Qwen 3": ("Qwen3", {**PLAIN, "head_dim": 8}),
    "Phi": ("Phi", PLAIN),
    "SmolLM 3": ("SmolLM3", {**PLAIN, "pad_token_id": 0}),
    "Falcon": ("Falcon", {**ONE_KIND_OF_HEAD, "new_decoder_architecture": False}),
    "Mixtral": ("Mixtral", {**PLAIN, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "Qwen 2 MoE": ("Qwen2Moe", {**PLAIN, **EXPERTS, "shared_expert_intermediate_size": 16}),
    "Qwen 3 MoE": ("Qwen3Moe", {**PLAIN, **EXPERTS, "head_dim": 8}),
    "OLMoE": ("Olmoe", {**PLAIN, "num_experts": 4, "num_experts_per_tok": 2}),
    "DeepSeek V3": ("DeepseekV3", {**PLAIN, **DEEPSEEK}),
    "GPT-OSS": (
        "GptOss",
        {**PADDED, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
    ),
    "Granite": ("Granite", PLAIN),
    "Phi 3": ("Phi3", PADDED),
    "StableLM": ("StableLm", PLAIN),
    "Bamba": ("Bamba", {**HYBRID, "attn_layer_indices": [1]}),
    "Jamba": (
        "Jamba",
        {
            **PADDED,
            "num_experts": 2,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "mamba_d_state": 4,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
    ),
    "Zamba 2": (
        "Zamba2",
        {
            **PADDED,
            "num_hidden_layers": 3,
            "layers_block_type": ["mamba", "mamba", "hybrid"],
            "mamba_d_state": 4,
            "mamba_headdim": 8,
            "n_mamba_heads": 4,
            "mamba_ngroups": 1,
            "chunk_size": 8,
            "num_mem_blocks": 1,
            "use_mem_rope": True,
        },
    ),
    "Falcon-H1": ("FalconH1", {**HYBRID, "head_dim": 8, "mamba_d_ssm": 32}),
    "LFM 2": ("Lfm2", {**PADDED, "layer_types": ["conv", "full_attention"], "conv_L_cache": 3}),
    "Qwen 3 Next": (
        "Qwen3Next",
        {
            **PLAIN,
            **EXPERTS,
            "head_dim": 8,
            "shared_expert_intermediate_size": 16,
            "layer_types": ["linear_attention", "full_attention"],
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
        },
    ),
}
"""The same, for `make test-all`: relatives of those above, mixtures of experts, attention among layers of states."""
CHANGES_INPUTS = {
    *("OPT, embeddings narrower than its layers", "Gemma, embeddings scaled", "Gemma 2, logits capped", "Gemma 3")
}
"""Families that scale, normalize or project embeddings before their first layer: servers differ in where they do so."""
OWN_PATH = {"Gemma 2, logits capped"}
"""Families whose head does more than multiply: the model's own logits are taken."""


@pytest.fixture(
    scope="module", params=[*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_FAMILIES)]
)
def family(request: pytest.FixtureRequest) -> tuple[str, LanguageModel, Any]:
    kind, settings = {**FAMILIES, **SLOW_FAMILIES}[request.param]
    torch.manual_seed(0)
    config_class = "Gemma3TextConfig" if kind == "Gemma3" else f"{kind}Config"
    config = getattr(transformers, config_class)(**settings)
    made = getattr(transformers, "GPT2LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for name, weights in made.named_parameters():
            # As they begin, random models repeat one token for ever.
            if weights.ndim == 2 and "A_log" not in name:
                weights.mul_(6)
    return request.param, LanguageModel(made, device=DEVICE), made


def memories(model: LanguageModel, num_slots: int, num_vectors: int) -> Tensor:
    shape = (num_slots, num_vectors, model.embedding_width)
    return (torch.randn(shape, generator=torch.Generator().manual_seed(num_vectors)) * model.embedding_std).to(DEVICE)


def decoded_from(model: LanguageModel, memory_BKD: Tensor, length: int) -> Tensor:
    """What the model decodes greedily from these memories (B, L)."""
    nothing = torch.zeros(len(memory_BKD), length, dtype=torch.long, device=DEVICE)
    return Cramming(Question()).decode(model, memory_BKD, nothing, nothing[:, :0]).tokens_BL


def inputs_of(model: LanguageModel, memory_BKD: Tensor, tokens_BL: Tensor) -> Tensor:
    inputs = Cramming(Question()).build_inputs(memory_BKD.shape[1], tokens_BL.shape[1])
    inputs_BT = torch.tensor([inputs] * len(tokens_BL), device=DEVICE)
    return pick_inputs(model, memory_BKD, tokens_BL, inputs_BT, tokens_BL[:, :0])


def test_changes_to_inputs_before_the_first_layer_are_seen(family):
    name, model, _ = family
    assert bool(model.change_to_inputs()) == (name in CHANGES_INPUTS)


@pytest.mark.parametrize("num_vectors", [1, 4])
def test_the_gradient_reaches_the_memory_and_no_weight(family, num_vectors):
    _, model, made = family
    memory_BKD = memories(model, 2, num_vectors).requires_grad_()
    tokens_BL = torch.arange(12, device=DEVICE).view(2, 6)
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
    tokens_BL = torch.arange(8, device=DEVICE)[None]
    padded_BL = torch.nn.functional.pad(tokens_BL, (0, 9))
    memory_BKD = memories(model, 1, 2)
    with torch.no_grad():
        plain = model.head(model.hidden(inputs_of(model, memory_BKD, tokens_BL)))
        padded = model.head(model.hidden(inputs_of(model, memory_BKD, padded_BL)))[:, : plain.shape[1]]
    torch.testing.assert_close(padded, plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))


def test_packed_texts_are_read_as_if_alone_or_are_not_packed(family):
    name, model, _ = family
    assert model.can_pack() == (name not in NOT_PACKED)
    if name in NOT_PACKED:
        return
    lengths = [9, 1, 14, 5]
    tokens_BL = torch.arange(56, device=DEVICE).view(4, 14) * 7 % VOCABULARY
    memory_BKD = memories(model, 4, 2).requires_grad_()
    inputs_BTD = inputs_of(model, memory_BKD, tokens_BL)
    rows = pack([length + 1 for length in lengths])
    slot_N = torch.arange(4).repeat_interleave(torch.tensor(lengths))
    token_N = torch.cat([torch.arange(length) for length in lengths])
    packed_XH = model.hidden(*rows.lay(inputs_BTD)).flatten(0, 1)
    both: list[tuple[Tensor, Tensor]] = []
    for hidden_NH in (packed_XH[rows.place(slot_N, token_N + 1)], model.hidden(inputs_BTD)[slot_N, token_N + 1]):
        _, _, gradient_NH = cross_entropy_and_gradient(model, hidden_NH, tokens_BL[slot_N, token_N])
        (gradient_BKD,) = torch.autograd.grad(hidden_NH, memory_BKD, gradient_NH, retain_graph=True)
        both.append((hidden_NH, gradient_BKD))
    for packed, alone in zip(*both, strict=True):
        torch.testing.assert_close(packed, alone, rtol=1e-3, atol=1e-4 * float(alone.detach().abs().max()))


def test_the_head_is_the_models_or_its_own_path_is_taken(family):
    name, model, made = family
    assert isinstance(model.head, torch.nn.Identity) == (name in OWN_PATH)
    with torch.no_grad():
        inputs = inputs_of(model, memories(model, 2, 1), torch.arange(12, device=DEVICE).view(2, 6))
        own = made(inputs_embeds=inputs, use_cache=False).logits
        torch.testing.assert_close(model.head(model.hidden(inputs)), own, rtol=1e-4, atol=1e-4)
    assert model.vocabulary == VOCABULARY


@pytest.mark.parametrize("num_vectors", [1, 2])
def test_decoding_with_a_cache_is_reading_everything_again(family, num_vectors):
    _, model, made = family
    memory_BKD = memories(model, 3, num_vectors)
    tokens_BL = decoded_from(model, memory_BKD, 10)
    found = Cramming(Question()).decode(model, memory_BKD, tokens_BL, tokens_BL[:, :0])
    assert found.exact_prefix_B.tolist() == [10, 10, 10]
    with torch.no_grad():
        logits = made(inputs_embeds=inputs_of(model, memory_BKD, tokens_BL), use_cache=False).logits
        logits = logits[:, num_vectors - 1 :].float()
    nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens_BL, reduction="none")
    torch.testing.assert_close(found.nats_BL, nats, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("layout", "num_vectors"), [(Cramming, 1), (Cramming, 4), (OneStep, 2)])
def test_verdict_and_certificate_agree(family, layout, num_vectors, run_engine):
    _, model, _ = family
    layout = layout(Question())
    question = Question(recipe=CrammingTask().recipe({"optimizer": "adamw", "steps": 3}))
    engine = BatchedEngine(model, layout, question, EngineSettings(device=DEVICE))
    # Both begin with memories that give their first 6 tokens. The one has no more; the other's rest takes many steps.
    memory_BKD = memories(model, 2, num_vectors)
    given_BL = layout.decode(
        model, memory_BKD, *torch.zeros(2, 7, dtype=torch.long, device=DEVICE).tensor_split([7], dim=1)
    ).tokens_BL.tolist()
    seventh = (given_BL[1][6] + 1) % VOCABULARY
    rest = torch.randint(VOCABULARY, (9,), generator=torch.Generator().manual_seed(1)).tolist()
    texts = {"reachable": given_BL[0][:6], "out of reach": [*given_BL[1][:6], seventh, *rest]}
    probes = [
        Probe(
            probe_id=f"{name} {num_vectors}",
            search_id=name,
            number=0,
            sample_id=name,
            tokens=tuple(text),
            length=len(text),
            num_vectors=num_vectors,
            start="some",
            start_memory=memory_KD.cpu().numpy().tobytes(),
        )
        for (name, text), memory_KD in zip(texts.items(), memory_BKD, strict=True)
    ]
    outcomes = {item.probe.search_id: item.outcome for item in run_engine(engine, probes).values()}
    reachable, out_of_reach = outcomes["reachable"], outcomes["out of reach"]
    assert isinstance(reachable, Lossless)
    assert (reachable.measurement.exact_prefix, reachable.measurement.steps_to_proof) == (6, 0)
    assert reachable.measurement.memory == probes[0].start_memory
    assert isinstance(out_of_reach, Lossy)
    assert 6 <= out_of_reach.measurement.exact_prefix < 16
    prove = LayoutProver(model, layout, question)
    for probe, outcome in zip(probes, (reachable, out_of_reach), strict=True):
        measured = outcome.measurement
        assert measured.memory is not None
        proof = prove(measured.memory, num_vectors=num_vectors, tokens=probe.tokens)
        assert proof.exact_prefix == measured.exact_prefix


def test_a_radius_is_found_or_length_means_nothing_and_steps_on_the_sphere_stay_finite(family, run_engine):
    name, model, _ = family
    radius = choose_radius(model)
    assert radius in (*RADII, 0.0)
    # RWKV normalizes its inputs: however long a memory is, its first layer reads the same.
    assert (radius == 0.0) == (name in NO_LENGTH)
    question = Question(
        recipe=CrammingTask().recipe({"radius": radius or 30.0, "steps": 5, "patience": 5}), growth=None
    )
    engine = BatchedEngine(model, Cramming(question), question, EngineSettings(device=DEVICE))
    generator = torch.Generator().manual_seed(5)
    probes = [
        Probe(
            probe_id=f"{number}",
            search_id=f"{number}",
            number=0,
            sample_id="",
            tokens=tuple(torch.randint(VOCABULARY, (8,), generator=generator).tolist()),
            length=8,
            num_vectors=number,
        )
        for number in (1, 2)
    ]
    for item in run_engine(engine, probes).values():
        assert not isinstance(item.outcome, Failed)
        assert item.outcome.measurement.steps == 5
