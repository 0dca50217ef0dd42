"""What the engine reads is what plain transformers reads from token ids, for models that read in unusual ways."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from tasks.language_model import LanguageModel
from tasks.layout import Cramming
from tasks.load_checks import check_ways
from tasks.scoring import score_without_memory
from tasks.values import Model, Question, WrongModelError

VOCABULARY = 24
LLAMA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
GPT2: dict[str, Any] = {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
LONGROPE: dict[str, Any] = {
    **LLAMA,
    "original_max_position_embeddings": 8,
    "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [9.0] * 4},
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "CTRL: writes to its input embeddings": ("CTRLLMHeadModel", {**GPT2, "dff": 32}),
    "Phi 3: other RoPE factors beyond 8 positions": ("Phi3ForCausalLM", LONGROPE),
    "RWKV: cannot be read with its state": (
        "RwkvForCausalLM",
        {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "attention_hidden_size": 16},
    ),
    "RecurrentGemma: cannot be read with a cache": (
        "RecurrentGemmaForCausalLM",
        {**LLAMA, "num_hidden_layers": 3, "lru_width": 16, "attention_window_size": 8},
    ),
    "RoBERTa: with a cache, every position is the first": ("RobertaForCausalLM", {**LLAMA, "is_decoder": True}),
    "OPT: positions begin at 2": (
        "OPTForCausalLM",
        {**LLAMA, "ffn_dim": 32, "word_embed_proj_dim": 8},
    ),
    "Gemma: embeddings scaled": ("GemmaForCausalLM", {**LLAMA, "num_key_value_heads": 2, "head_dim": 8}),
    "Mistral: a window of 8": ("MistralForCausalLM", {**LLAMA, "num_key_value_heads": 2, "sliding_window": 8}),
    "Bloom: biased by distance": ("BloomForCausalLM", {"vocab_size": VOCABULARY, "hidden_size": 16, "n_head": 2}),
    "Mixtral: experts": ("MixtralForCausalLM", {**LLAMA, "num_key_value_heads": 2, "num_local_experts": 4}),
    "Mamba: no attention": (
        "MambaForCausalLM",
        {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
    ),
    "GPT-2": ("GPT2LMHeadModel", GPT2),
}  # fmt: skip
WITHOUT_CACHE = ("RWKV", "RecurrentGemma", "RoBERTa")


def make(kind: str, settings: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    made_class = getattr(transformers, kind)
    made = made_class(made_class.config_class(**settings)).eval()
    with torch.no_grad():
        for name, weights in made.named_parameters():
            if weights.ndim == 2 and "A_log" not in name:
                weights.mul_(6)  # as they begin, random models repeat one token for ever
    return made


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest) -> tuple[str, Any, LanguageModel]:
    """The model as transformers alone uses it, and another copy of it as the engine does."""
    plain = make(*MODELS[request.param])
    return request.param, plain, LanguageModel(copy.deepcopy(plain), device="cpu")


def text_for(model: LanguageModel, length: int = 12) -> list[int]:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(3, VOCABULARY, (min(length, model.context or length),), generator=generator).tolist()


def test_the_bits_of_a_text_are_those_of_its_ids(pair):
    _, plain, model = pair
    tokens = text_for(model)
    with torch.no_grad():
        logits_TV = plain(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, :-1]
    own = torch.nn.functional.cross_entropy(logits_TV.float(), torch.tensor(tokens[1:]), reduction="sum")
    found = score_without_memory(model, tokens, question=Question())
    assert found.nats == pytest.approx(float(own) + math.log(VOCABULARY), rel=1e-4)


def test_a_memory_made_of_embeddings_decodes_to_what_its_ids_continue_with(pair):
    _, plain, model = pair
    ids = text_for(model, 3)
    with torch.no_grad():
        memory_BKD = model.embed(torch.tensor([ids])).clone()
        before_BKD = memory_BKD.clone()
        decoded = Cramming(Question()).decode(
            model, memory_BKD, *torch.zeros(1, 5, dtype=torch.long).tensor_split([5], dim=1)
        )
        for _ in range(5):
            ids = [*ids, int(plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())]
    assert decoded.tokens_BL[0].tolist() == ids[3:]
    assert torch.equal(memory_BKD, before_BKD), "the memory was written to"


def test_the_differences_are_known_and_what_is_slower_is_said(pair):
    name, _, model = pair
    assert 0 <= model.readings.largest_difference < 1e-5
    slower = name.startswith(WITHOUT_CACHE)
    assert [note for note in model.readings.notes if "decoding reads everything again" in note] == [
        *model.readings.notes
    ]
    assert bool(model.readings.notes) == slower


def test_loading_leaves_the_weights_as_they_are():
    made = make(*MODELS["CTRL: writes to its input embeddings"])
    before = [weights.clone() for weights in made.parameters()]
    LanguageModel(made, device="cpu")
    assert all(map(torch.equal, made.parameters(), before))


def test_texts_end_where_the_factors_change():
    made = make("Phi3ForCausalLM", {**LONGROPE, "original_max_position_embeddings": 32})
    assert LanguageModel(made, device="cpu").context == 32
    with pytest.raises(WrongModelError, match=r"once a text has more than 32 positions.*max_position_embeddings: 32"):
        check_ways(made, "phi", device=torch.device("cpu"), context=64)


def test_texts_end_where_positions_do_whatever_they_are_called():
    """MPT has as many biases as its `max_seq_len`, and cannot read beyond."""
    model = LanguageModel(
        make("MptForCausalLM", {"vocab_size": 24, "d_model": 16, "n_heads": 2, "n_layers": 1, "max_seq_len": 32}),
        device="cpu",
    )
    assert model.context == 32
    model.hidden(model.embed(torch.zeros(1, 32, dtype=torch.long)))
    with pytest.raises(RuntimeError):
        model.hidden(model.embed(torch.zeros(1, 33, dtype=torch.long)))


class Unsteady(LlamaForCausalLM):
    """Drops out a tenth of its logits, even in evaluation mode."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output: Any = super().forward(*args, **kwargs)
        output.logits = torch.nn.functional.dropout(output.logits, 0.1)
        return output


class ReadsIds(LlamaForCausalLM):
    """Adds something for each token id that its embedding does not hold, as Gemma 3n does."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output: Any = super().forward(*args, **kwargs)
        if (ids := kwargs.get("input_ids")) is not None:
            output.logits = output.logits + torch.sin(ids)[..., None] * torch.arange(VOCABULARY)
        return output


class Learns(LlamaForCausalLM):
    """Its weights shrink a little whenever it reads."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.lm_head.weight.mul_(1 - 1e-6)
        return super().forward(*args, **kwargs)


class Crowded(LlamaForCausalLM):
    """Mixes the texts of a batch."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output: Any = super().forward(*args, **kwargs)
        output.logits = output.logits + output.logits.mean(0, keepdim=True)
        return output


class Grows(LlamaForCausalLM):
    """Scales by the number of tokens that it is given at once, as some code from the hub does."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output: Any = super().forward(*args, **kwargs)
        output.logits = output.logits * math.log(1 + output.logits.shape[1])
        return output


def has_read(given: dict[str, Any]) -> int:
    """Positions in the cache that a model is given."""
    cache = given.get("past_key_values")
    return cache.get_seq_length() if isinstance(cache, DynamicCache) else 0


class Forgets(LlamaForCausalLM):
    """Takes everything that follows a cache of so many positions for the first position."""

    after = 1

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if has_read(kwargs) >= self.after:
            kwargs["position_ids"] = torch.zeros(1, 1, dtype=torch.long)
        return super().forward(*args, **kwargs)


class ForgetsLater(Forgets):
    """Does so after 8 positions."""

    after = 8


class TurnsSecond(LlamaForCausalLM):
    """With its cache, gives the second text's logits in another order."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output: Any = super().forward(*args, **kwargs)
        if has_read(kwargs):
            output.logits[1:2] = output.logits[1:2].roll(1, -1)
        return output


class TurnsAlone(LlamaForCausalLM):
    """With its cache, gives the logits of a text that is alone in another order."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output: Any = super().forward(*args, **kwargs)
        if has_read(kwargs) and len(output.logits) == 1:
            output.logits = output.logits.roll(1, -1)
        return output


class Spoils(LlamaForCausalLM):
    """Gives NaN for what `is_spoiled` names."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        spoiled = self.is_spoiled(kwargs)
        output: Any = super().forward(*args, **kwargs)
        if spoiled:
            output.logits = output.logits * math.nan
        return output

    def is_spoiled(self, given: dict[str, Any]) -> bool:
        raise NotImplementedError


class SpoilsCached(Spoils):
    """Gives NaN once its cache holds something."""

    def is_spoiled(self, given: dict[str, Any]) -> bool:
        return has_read(given) > 0


class SpoilsEmbeddings(Spoils):
    """Gives NaN for embeddings."""

    def is_spoiled(self, given: dict[str, Any]) -> bool:
        return given.get("inputs_embeds") is not None


class SpoilsLong(Spoils):
    """Gives NaN beyond 40 positions."""

    def is_spoiled(self, given: dict[str, Any]) -> bool:
        positions = given.get("position_ids")
        return positions is not None and int(positions.max()) >= 40


class Fails(LlamaForCausalLM):
    """Reads nothing."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("not for inference")


def made_of(made_class: type[LlamaForCausalLM]) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return made_class(LlamaConfig(**LLAMA, initializer_range=0.5))


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "BERT": (lambda: make("BertLMHeadModel", LLAMA), "a later token changes the model's output before it"),
    "XLNet": (
        lambda: make("XLNetLMHeadModel", {"vocab_size": 24, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 8}),
        "a later token changes|otherwise than within the text",
    ),
    "dropout left on": (lambda: made_of(Unsteady), "other outputs when it reads the same tokens again"),
    "ids beside embeddings": (lambda: made_of(ReadsIds), "input embeddings unlike the token ids.*differ by up to"),
    "weights written to": (lambda: made_of(Learns), "reading it changes its weights"),
    "texts mixed": (lambda: made_of(Crowded), "otherwise than within the text, or beside another|same tokens again"),
    "by the length at once": (lambda: made_of(Grows), "the beginning of a text otherwise than within the text"),
    "heads that do not fit": (
        lambda: make("GemmaForCausalLM", {**LLAMA, "num_key_value_heads": 16, "head_dim": 8}),
        r"cannot read tokens with it \(.*must match",
    ),
    "embeddings not finite": (lambda: made_of(SpoilsEmbeddings), "otherwise than within the text, .*not finite"),
    "long texts not finite": (lambda: made_of(SpoilsLong), "otherwise once a text has more than 40 positions"),
    "no reading at all": (lambda: made_of(Fails), r"cannot read tokens with it \(not for inference\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_agrees_nowhere_is_refused(case):
    make_model, message = REFUSED[case]
    with pytest.raises(WrongModelError, match=message) as error:
        LanguageModel(make_model(), device="cpu")
    assert "Wanted" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("made_class", [Forgets, ForgetsLater, TurnsSecond, TurnsAlone])
def test_a_cache_that_disagrees_is_not_used(made_class, dtype):
    made = made_of(made_class).to(dtype)
    model = LanguageModel(made, device="cpu")
    (note,) = model.readings.notes
    assert "decoding reads everything again at every token" in note
    inputs = model.embed(torch.tensor([[3, 4]]))
    decoded = model.decode(inputs, torch.zeros(1, 12, dtype=torch.long)).tokens_BL[0].tolist()
    ids = [3, 4]
    with torch.no_grad():
        for _ in range(12):
            ids = [*ids, int(made(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())]
    assert decoded == ids[2:]


class ForgetsAndMasks(Forgets):
    """Never gives its last token."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output: Any = super().forward(*args, **kwargs)
        output.logits[..., -1] = -math.inf
        return output


@pytest.mark.parametrize("made_class", [SpoilsCached, ForgetsAndMasks])
def test_a_number_that_is_not_finite_hides_no_cache_that_disagrees(made_class):
    (note,) = LanguageModel(made_of(made_class), device="cpu").readings.notes
    assert "decoding reads everything again at every token" in note


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_head_that_caps_a_little_is_not_taken_for_one_that_only_multiplies(dtype):
    settings = {**LLAMA, "num_key_value_heads": 2, "head_dim": 8, "final_logit_softcapping": 30.0}
    model = LanguageModel(make("Gemma2ForCausalLM", settings).to(dtype), device="cpu")
    assert isinstance(model.head, torch.nn.Identity)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_coarse_arithmetic_is_no_reason_to_refuse(dtype):
    for kind in ("GPT-2", "Mixtral: experts", "Gemma: embeddings scaled"):
        made = make(*MODELS[kind]).to(dtype)
        readings = LanguageModel(made, device="cpu").readings
        assert readings.notes == ()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_trained_model_keeps_its_cache_in_coarse_arithmetic(stories_model, dtype):
    assert LanguageModel(Model(name=str(stories_model), dtype=dtype), device="cpu").readings.notes == ()


def test_numbers_that_are_not_finite_are_left_to_the_engine():
    made = made_of(LlamaForCausalLM)
    with torch.no_grad():
        made.model.embed_tokens.weight[5:] = math.inf
    assert LanguageModel(made, device="cpu").readings.largest_difference < 1e-5


def test_the_check_is_cheap():
    made = made_of(LlamaForCausalLM)
    read: list[int] = []

    def count(module: Any, args: Any, kwargs: dict[str, Tensor]) -> None:
        given = kwargs.get("input_ids")
        given = kwargs["inputs_embeds"] if given is None else given
        read.append(given.shape[0] * given.shape[1])

    made.model.register_forward_pre_hook(count, with_kwargs=True)
    LanguageModel(made, device="cpu")
    assert len(read) <= 11
    assert sum(read) <= 195
