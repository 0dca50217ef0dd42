"""The task one_step, on stories260K: the engine that crams optimizes it too."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tasks.cramming import CrammingTask
from tasks.layout import OneStep, pick_inputs
from tasks.one_step import OneStepTask
from tasks.values import EngineSettings, Lossless, Model, Probe, Question, TaskError
from tests.device import DEVICE

TASK = OneStepTask()


@pytest.fixture(scope="module")
def outcomes(model: Model, story_probes: Callable[..., list[Probe]], run_engine):
    engine = TASK.open_engine(
        model, Question(recipe={"optimizer": "adamw", "steps": 40, "patience": 12}), EngineSettings(device=DEVICE)
    )
    return list(run_engine(engine, story_probes(2, longest=24, length=2, num_vectors=2)).values())


def test_what_is_proven_comes_out_of_one_forward_pass_of_plain_torch(language_model, outcomes):
    for item in outcomes:
        assert isinstance(item.outcome, Lossless)
        found = item.outcome.measurement
        assert found.memory is not None
        e, m = torch.frombuffer(bytearray(found.memory), dtype=torch.float32).view(2, -1).to(DEVICE)
        inputs = torch.stack([e, *[m] * (found.exact_prefix - 1)])[None]
        decoded = language_model.head(language_model.hidden(inputs)).argmax(-1)[0]
        assert tuple(decoded.tolist()) == item.probe.tokens[: found.exact_prefix]
        assert (found.margin or 0) > 0


def test_the_prover_agrees(model, outcomes):
    prove = TASK.open_prover(model, Question(), DEVICE)
    for item in outcomes:
        found = item.outcome.measurement
        proof = prove(found.memory, num_vectors=2, tokens=item.probe.tokens[: found.exact_prefix])
        assert proof.exact_prefix == found.exact_prefix
        assert proof.margin == pytest.approx(found.margin, abs=1e-4)
        with pytest.raises(TaskError, match="reads no token that has come out"):
            prove.prompt(found.memory, num_vectors=2)


def test_its_memories_are_shorter_than_those_that_the_layers_leave_as_they_are(model):
    facts, recipe = TASK.facts(model), TASK.recipe("default")
    assert recipe["optimizer"] == "sphere"
    measured = CrammingTask().examine(model, facts, recipe).recipe["radius"]
    examined = TASK.examine(model, facts, recipe).recipe
    assert examined["radius"] == measured / 10 == 1.0
    # What a run keeps is not divided again, nor is what a user names.
    kept = replace(model, radius=examined["radius"])
    assert TASK.examine(kept, facts, recipe).recipe["radius"] == 1.0
    assert TASK.examine(model, facts, {**recipe, "radius": 30.0}).recipe["radius"] == 30.0


def test_a_bos_may_stand_before_it(model, story_probes, run_engine):
    question = Question(prefix="bos", recipe={"optimizer": "adamw"})
    engine = TASK.open_engine(model, question, EngineSettings(device=DEVICE))
    (item,) = run_engine(engine, story_probes(1, longest=2, length=2, num_vectors=2)).values()
    assert isinstance(item.outcome, Lossless)


def test_a_vector_at_many_positions_gets_the_same_gradient_each_time(language_model):
    """The sum of the gradients at its positions: on CUDA, too, in one order."""
    length, layout = 200, OneStep(Question())
    generator = torch.Generator().manual_seed(0)
    memory_BKD = torch.randn(3, 2, 64, generator=generator).to(DEVICE).requires_grad_()
    weights_BTD = torch.randn(3, length, 64, generator=generator).to(DEVICE)
    tokens_BL = torch.zeros(3, 1, dtype=torch.int64, device=DEVICE)
    inputs_BT = torch.tensor([layout.build_inputs(2, length)] * 3, device=DEVICE)

    def gradient() -> torch.Tensor:
        inputs_BTD = pick_inputs(language_model, memory_BKD, tokens_BL, inputs_BT, tokens_BL[:, :0])
        return torch.autograd.grad((inputs_BTD * weights_BTD).sum(), memory_BKD)[0]

    gradients = [gradient() for _ in range(5)]
    wanted_BD = weights_BTD[:, 1:].sum(1)
    torch.testing.assert_close(gradients[0][:, 1], wanted_BD, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(each, gradients[0]) for each in gradients[1:])


def test_the_context_holds_as_many_tokens_as_positions(model):
    facts = TASK.facts(model)
    assert TASK.longest_text(facts, num_vectors=2, question=Question()) == facts.context == 512
    assert TASK.longest_text(replace(facts, context=None), num_vectors=2, question=Question()) is None


@pytest.mark.parametrize(
    ("num_vectors", "question", "message"),
    [(1, Question(), r"Wanted \[2\]"), (2, Question(decode_from="memory+first_token"), "Wanted memory")],
)
def test_what_it_cannot_be_asked(model, num_vectors, question, message):
    with pytest.raises(TaskError, match=message):
        TASK.longest_text(TASK.facts(model), num_vectors=num_vectors, question=question)
