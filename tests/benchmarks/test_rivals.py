"""The rivals of the benchmark: batched as alone, resumed as if never stopped, lengths as their papers ask for them."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rival_recipes import RIVALS, Published, Racer, advance
from rivals import decode_in_float32, state_of
from transformers import AutoModelForCausalLM

QUICKSTART = Path(__file__).parents[2] / "sweeps" / "quickstart" / "model"
TEXTS = (tuple(range(40, 70)), tuple(range(100, 120)))


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(QUICKSTART, dtype=torch.float32).requires_grad_(False).eval()


def begun(name: str, model: Any, *texts: tuple[int, ...]) -> list[Racer]:
    racers = [Racer(key=f"{text}", tokens=text, seed=0, length=RIVALS[name].first_length) for text in texts]
    for racer in racers:
        RIVALS[name].begin(racer, model.get_input_embeddings().weight)
    return racers


def run(name: str, model: Any, racers: list[Racer], steps: int) -> None:
    for _ in range(steps):
        advance(model, RIVALS[name], racers)


@pytest.mark.parametrize("name", RIVALS)
def test_a_text_goes_beside_others_as_it_goes_alone(name, model):
    beside, (alone,) = begun(name, model, *TEXTS), begun(name, model, TEXTS[0])
    beside[1].length += 7
    run(name, model, beside, 12)
    run(name, model, [alone], 12)
    assert beside[0].trained_tokens == alone.trained_tokens
    for part, value in alone.parameters.items():
        torch.testing.assert_close(beside[0].parameters[part], value, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", RIVALS)
def test_a_saved_state_continues_bit_for_bit(name, model):
    whole, stopped = begun(name, model, TEXTS[0]), begun(name, model, TEXTS[0])
    run(name, model, whole, 20)
    run(name, model, stopped, 9)
    resumed = [torch.load(io.BytesIO(state_of(stopped[0])), weights_only=False)]
    run(name, model, resumed, 11)
    assert (resumed[0].length, resumed[0].claimed) == (whole[0].length, whole[0].claimed)
    for part, value in whole[0].parameters.items():
        assert torch.equal(resumed[0].parameters[part], value)


def test_what_is_claimed_comes_out_of_the_memory_that_matched(model):
    racers = begun("progressive", model, TEXTS[1])
    run("progressive", model, racers, 150)
    (racer,) = racers
    assert racer.claimed >= 1
    assert decode_in_float32(model, racer.claimed_memory_D, TEXTS[1][: racer.claimed]) == racer.claimed


def lengths_asked(capacity: int, *, limit: int) -> list[int]:
    """Lengths that bisection asks for where all up to `capacity` match at once and no other ever does."""
    rival = Published(steps=1)
    racer = Racer(key="", tokens=tuple(range(limit)), seed=0, length=8)
    asked: list[int] = []
    while not racer.is_over:
        asked.append(racer.length)
        racer.steps_at_length = 1
        rival.judge(racer, 1.0 if racer.length <= capacity else 0.5, torch.zeros(1))
    assert max(1, racer.claimed) == min(capacity, limit)
    return asked


def test_bisection_doubles_then_halves():
    assert lengths_asked(21, limit=100) == [8, 16, 32, 24, 20, 22, 21]
    assert lengths_asked(1, limit=100) == [8, 4, 2]
    assert lengths_asked(40, limit=20) == [8, 16, 20]


def test_the_rate_warms_up_and_ends_low():
    rate = RIVALS["progressive"].rate
    assert rate(0) == pytest.approx(0.001)
    assert rate(99) == pytest.approx(0.1)
    assert rate(10_000) == pytest.approx(0.001)
