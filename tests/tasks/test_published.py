"""recipe: published, held against a straightforward computation of the same protocol, one text at a time."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import Tensor
from transformers import AutoModelForCausalLM

import tasks.engine as engine_module
from tasks.cramming import CrammingTask
from tasks.engine import BatchedEngine
from tasks.language_model import LanguageModel
from tasks.layout import Cramming
from tasks.optimizer import cold_memory
from tasks.step import StepResult
from tasks.stopping import StepNumbers
from tasks.values import EngineSettings, Lossless, Lossy, Model, Probe, Question
from tests.device import DEVICE

SHORT, LONG = 4, 40
"""Tokens far below and far above what one vector of stories260K holds after so few steps as here."""


@dataclass
class Reference:
    """What the published procedure finds for one text at one length."""

    memories: list[Tensor]
    """Before each step, (D,)."""
    losses: list[float]
    """Mean cross-entropy over t_2 .. t_L at each step, in nats."""
    best_accuracy: float
    """Over t_2 .. t_L."""
    loss_at_best: float
    steps: int


def reference(model: Any, tokens: tuple[int, ...], memory_D: Tensor, *, most_steps: int, patience: int) -> Reference:
    """Optimize one vector before one text with torch's AdamW: t_1 is fed, and neither trained nor scored."""
    memory = torch.nn.Parameter(memory_D.clone()[None, None])
    optimizer = torch.optim.AdamW([memory], lr=0.01, betas=(0.9, 0.9), weight_decay=0.01)
    text = torch.tensor([tokens])
    embedded = model.get_input_embeddings()(text)
    found = Reference(memories=[], losses=[], best_accuracy=-1.0, loss_at_best=math.nan, steps=0)
    since_better = 0
    while found.steps < most_steps and since_better < patience:
        found.memories.append(memory.detach()[0, 0].clone())
        logits = model(inputs_embeds=torch.cat([memory.to(embedded.dtype), embedded], dim=1)).logits
        # Position 0 is the memory, position 1 is t_1: it predicts t_2.
        scored, wanted = logits[0, 1:-1], text[0, 1:]
        loss = torch.nn.functional.cross_entropy(scored, wanted)
        accuracy = float((scored.argmax(-1) == wanted).float().mean())
        found.losses.append(float(loss.detach()))
        found.steps += 1
        since_better += 1
        if accuracy > found.best_accuracy:
            found.best_accuracy, found.loss_at_best, since_better = accuracy, found.losses[-1], 0
        if accuracy == 1.0:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return found


@pytest.fixture(scope="module")
def plain(stories_model: Path) -> Any:
    """In float64, as the engine's model here: in float32 the order of sums moves a gradient's last bits, AdamW divides
    them by their own size, and after 50 steps a memory is off by up to a fifth of a step of .01."""
    return AutoModelForCausalLM.from_pretrained(stories_model, dtype=torch.float64).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def open_published(stories_model: Path) -> Callable[[Question], BatchedEngine]:
    frozen = LanguageModel(AutoModelForCausalLM.from_pretrained(stories_model, dtype=torch.float64), device=DEVICE)
    return lambda asked: BatchedEngine(frozen, Cramming(asked), asked, EngineSettings(device=DEVICE))


def question(**changes: Any) -> Question:
    recipe = {**CrammingTask().recipe("published"), **changes}
    return Question(criterion=0.99, decode_from="memory+first_token", recipe=recipe)


@pytest.fixture(scope="module")
def texts(story_probes) -> list[tuple[int, ...]]:
    return [probe.tokens for probe in story_probes(4, longest=70)]


def probe_of(tokens: tuple[int, ...], number: int = 0) -> Probe:
    return Probe(
        probe_id=f"published {number}",
        search_id=f"search {number}",
        number=0,
        sample_id=f"sample {number}",
        tokens=tokens,
        length=len(tokens),
        num_vectors=1,
    )


def start_of(probe: Probe, plain: Any) -> Tensor:
    std = float(plain.get_input_embeddings().weight.std())
    return cold_memory(probe.probe_id, (1, plain.config.hidden_size), std=std)[0]


def test_memory_and_loss_over_the_first_steps(open_published, plain, texts, monkeypatch):
    """At every step, of texts of unlike lengths in one batch.

    The engine keeps memory and AdamW's means in float32, as it does always: what is left is their rounding.
    """
    engine = open_published(question())
    probes = [probe_of(tokens[:length], length) for tokens, length in zip(texts, (20, 40, 70), strict=False)]
    references = [
        reference(plain, probe.tokens, start_of(probe, plain), most_steps=13, patience=100) for probe in probes
    ]
    nats: list[Tensor] = []
    read = engine_module._read

    def read_and_keep(measured: StepResult) -> StepNumbers:
        nats.append(measured.nats_B.double())
        return read(measured)

    monkeypatch.setattr(engine_module, "_read", read_and_keep)
    engine.submit(probes, num_open=len(probes))
    scored_B = torch.tensor([probe.length - 1 for probe in probes])
    for step in range(12):
        assert engine.step() == []
        wanted_B = torch.tensor([wanted.losses[step] for wanted in references], dtype=torch.float64)
        losses_B = nats[step].cpu() / scored_B
        torch.testing.assert_close(losses_B, wanted_B, rtol=1e-6, atol=2e-7, msg=lambda m: f"step {step}: {m}")  # noqa: B023
        # The engine has taken its step: its memory is the one that the next step measures.
        memories_BD = torch.stack([load(snapshot.state)["memory_BKD"][0, 0] for snapshot in engine.snapshots()])
        wanted_BD = torch.stack([wanted.memories[step + 1] for wanted in references])
        torch.testing.assert_close(memories_BD, wanted_BD, rtol=0, atol=5e-7, msg=lambda m: f"step {step}: {m}")  # noqa: B023


@pytest.mark.parametrize("length", [SHORT, LONG])
def test_outcomes_and_gains(open_published, plain, texts, run_engine, length):
    patience = 12  # of 2,000, so that the test stays short; the same on both sides
    probes = [probe_of(tokens[:length], number) for number, tokens in enumerate(texts[:2])]
    finished = run_engine(open_published(question(patience=patience)), probes)
    for probe in probes:
        wanted = reference(plain, probe.tokens, start_of(probe, plain), most_steps=5000, patience=patience)
        outcome = finished[probe.probe_id].outcome
        assert isinstance(outcome, Lossless if length == SHORT else Lossy)
        assert isinstance(outcome, Lossless) == (wanted.best_accuracy > 0.99)
        found = outcome.measurement
        # What the text costs by itself, and how much of it is correct, over t_2 .. t_L.
        text = torch.tensor([probe.tokens])
        scored = plain(input_ids=text).logits[0, :-1].detach()
        nats_without_memory = float(torch.nn.functional.cross_entropy(scored, text[0, 1:], reduction="sum"))
        correct_without_memory = int((scored.argmax(-1) == text[0, 1:]).sum())
        assert found.nats_without_memory == pytest.approx(nats_without_memory, rel=1e-5)
        assert found.token_accuracy_without_memory == pytest.approx((correct_without_memory + 1) / length)
        gain = round(found.token_accuracy * length) - round(found.token_accuracy_without_memory * length)
        wanted_gain = round(wanted.best_accuracy * (length - 1)) - correct_without_memory
        assert (gain, found.steps) == (wanted_gain, wanted.steps)
        assert found.nats_with_memory == pytest.approx(wanted.loss_at_best * (length - 1), rel=1e-4)


@pytest.mark.parametrize(
    ("correct", "length", "met"), [(198, 200, False), (199, 200, True), (199, 201, True), (1, 1, True)]
)
def test_the_criterion_is_the_mean_over_what_is_scored(correct, length, met):
    """197 of 199 are .98995, and would pass if t_1 counted as the 198th of 200; 198 of 200 are .99."""
    assert question().is_met(correct / length, length) == met
    assert Question(criterion=0.99).is_met(correct / length, length) == (correct >= 0.99 * length)


def test_the_engine_counts_what_is_scored(model: Model, texts, run_engine):
    """Half of t_2 .. t_8 are 4 tokens, with t_1 5; half of t_1 .. t_8 would be 4."""
    recipe = {**CrammingTask().recipe("published"), "stop_at": "criterion"}
    asked = Question(criterion=0.5, decode_from="memory+first_token", recipe=recipe)
    engine = CrammingTask().open_engine(model, asked, EngineSettings(device=DEVICE))
    finished = run_engine(engine, [probe_of(tokens[:8], number) for number, tokens in enumerate(texts)])
    correct = [round(item.outcome.measurement.token_accuracy * 8) for item in finished.values()]
    assert min(correct) == 5


def test_a_probe_continues_until_every_token_is_correct_though_99_percent_would_do(model: Model, texts, run_engine):
    tokens = texts[0][:12]

    def steps(stop_at: str) -> int:
        asked = Question(criterion=0.5, recipe=CrammingTask().recipe({"radius": 30.0, "stop_at": stop_at}), growth=1.5)
        engine = CrammingTask().open_engine(model, asked, EngineSettings(device=DEVICE))
        (item,) = run_engine(engine, [probe_of(tokens)]).values()
        assert isinstance(item.outcome, Lossless)
        return item.outcome.measurement.steps

    assert steps("criterion") < steps("every_token")
