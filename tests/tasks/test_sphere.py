"""The sphere on a planted sink: a model whose first layer writes a huge vector over whatever stands first.

Trained transformers do so; a free memory is gone after that layer, and one on a sphere that the layer cannot move is
read. Here the weights are set by hand, so that the mechanism is guarded without a trained model.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers

from tasks.contract import Engine
from tasks.cramming import CrammingTask
from tasks.engine import BatchedEngine
from tasks.language_model import LanguageModel
from tasks.layout import Cramming
from tasks.optimizer import sphere_step
from tasks.radius import RADII, choose_radius
from tasks.recipe import SphereRecipe
from tasks.values import EngineSettings, Finished, Lossless, Lossy, Measurement, Probe, Question
from tests.device import DEVICE

WIDTH, VOCABULARY, MARK = 48, 32, 0
"""MARK is the dimension that marks the first position."""
SINK = 2000.0
"""Length of what the first layer adds at the first position: some hundred times the embeddings there."""


def model_with_a_sink() -> LanguageModel:
    torch.manual_seed(3)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=3, n_head=4, n_positions=64, initializer_range=0.25
    )
    model: Any = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        transformer = model.transformer
        # 1. No embedding has the mark; the position 0 has nothing else.
        transformer.wte.weight[:, MARK] = 0.0
        transformer.wpe.weight[:, MARK] = 0.0
        transformer.wpe.weight[0, MARK] = 8.0
        # 2. One unit of the first layer reads the mark, where it is large among the normalized values, and writes.
        mlp = transformer.h[0].mlp
        mlp.c_fc.weight[:, 0] = 0.0
        mlp.c_fc.weight[MARK, 0] = 10.0
        mlp.c_fc.bias[0] = -10.0
        sink = torch.randn(WIDTH)
        mlp.c_proj.weight[0] = SINK / 10 * sink / sink.norm()
    return LanguageModel(model, device=DEVICE)


@pytest.fixture(scope="module")
def sink() -> LanguageModel:
    return model_with_a_sink()


def outcomes(model: LanguageModel, recipe: dict[str, Any], *, num_vectors: int = 1) -> list[Finished]:
    task = CrammingTask()
    question = Question(recipe=task.recipe(recipe), growth=None)
    engine = BatchedEngine(model, Cramming(question), question, EngineSettings(device=DEVICE))
    generator = torch.Generator().manual_seed(7)
    texts = [torch.randint(VOCABULARY, (4,), generator=generator).tolist() for _ in range(3)]
    engine.submit(
        [
            Probe(
                probe_id=f"probe {number}",
                search_id=f"search {number}",
                number=0,
                sample_id=f"{number}",
                tokens=tuple(text),
                length=4,
                num_vectors=num_vectors,
            )
            for number, text in enumerate(texts)
        ],
        num_open=3,
    )
    finished: list[Finished] = []
    while engine.num_held:
        finished += engine.step()
    return finished


def test_the_layers_write_over_a_memory_as_long_as_an_embedding(sink):
    direction = torch.randn(8, 1, WIDTH, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    direction = direction / direction.norm(dim=-1, keepdim=True) * sink.cold_length
    short, long = (sink.residual_lengths(radius * direction).mean(1) for radius in (1.0, 1000.0))
    assert float(short.max() / short[0]) > 50
    assert float(long.max() / long[0]) < 1.5


def test_the_radius_is_one_that_the_layers_leave_as_it_is(sink):
    radius = choose_radius(sink)
    assert radius in RADII
    assert radius >= 100


def test_the_sphere_succeeds_where_a_free_memory_fails(sink):
    free = outcomes(sink, {"optimizer": "adamw", "steps": 60, "patience": 60})
    held = outcomes(sink, {"radius": choose_radius(sink), "steps": 100})
    assert [item.outcome.measurement.exact_prefix for item in free if isinstance(item.outcome, Lossy)] == [0, 0, 0]
    assert all(isinstance(item.outcome, Lossless) for item in held)


def test_two_vectors_lie_each_on_its_own_sphere(sink):
    radius = choose_radius(sink)
    for item in outcomes(sink, {"radius": radius, "steps": 100}, num_vectors=2):
        assert isinstance(item.outcome, Lossless)
        memory = torch.frombuffer(bytearray(item.outcome.measurement.memory or b""), dtype=torch.float32)
        lengths = memory.view(2, WIDTH).norm(dim=-1)
        torch.testing.assert_close(lengths, torch.full((2,), radius * sink.cold_length), rtol=1e-5, atol=0)


@pytest.mark.slow
def test_a_probe_resumes_from_its_snapshot_as_if_nothing_had_happened(open_engine, story_probes, run_engine):
    """One that grows and retreats, one that begins again, one from a given memory: each counter is in the snapshot."""
    recipe = {"radius": 30.0, "steps": 60, "patience": 25, "retreat_steps": 6, "restart_steps": 3, "restart_below": 8}
    question = Question(recipe=recipe, growth=None)
    cold = story_probes(2, longest=40)
    memory = torch.randn(64, generator=torch.Generator().manual_seed(0)).numpy().tobytes()
    warm = replace(cold[0], probe_id="warm", search_id="warm", start="another", start_memory=memory)

    def measurements(engine: Engine, probes: list[Probe]) -> dict[str, Measurement]:
        found = run_engine(engine, probes)
        return {name: replace(item.outcome.measurement, seconds=0.0) for name, item in found.items()}

    probes = [*cold, warm]
    whole = measurements(open_engine(question), probes)
    engine = open_engine(question)
    engine.submit(probes, num_open=3)
    for _ in range(17):
        assert not engine.step()
    states = {snapshot.probe_id: snapshot.state for snapshot in engine.snapshots()}
    resumed = measurements(open_engine(question), [replace(p, snapshot=states[p.probe_id]) for p in probes])
    assert resumed == whole


@pytest.mark.parametrize("num_vectors", [1, 2])
def test_deterministic_probes_do_not_depend_on_their_neighbours(open_engine, story_probes, run_engine, num_vectors):
    question = Question(recipe={"radius": 30.0, "steps": 20, "patience": 10, "restart_steps": 4}, growth=None)

    def memories(probes: list[Probe]) -> dict[str, tuple[int, bytes | None]]:
        found = run_engine(open_engine(question, deterministic=True), probes)
        return {name: (item.outcome.measurement.steps, item.outcome.measurement.memory) for name, item in found.items()}

    (probe,) = story_probes(1, longest=14, num_vectors=num_vectors)
    alone = memories([probe])
    together = memories([*story_probes(2, longest=20, num_vectors=3 - num_vectors), probe])
    assert alone.items() <= together.items()


def test_vectors_that_pad_a_memory_stay_zero_and_a_step_is_a_turn():
    radius, generator = 7.0, torch.Generator().manual_seed(0)
    memory_BKD = torch.randn(2, 2, 16, generator=generator)
    memory_BKD *= radius / memory_BKD.norm(dim=-1, keepdim=True)
    memory_BKD[1, 1] = 0.0
    gradient_BKD = torch.randn(2, 2, 16, generator=generator)
    gradient_BKD[1, 1] = 0.0
    before, first, second = memory_BKD.clone(), torch.zeros(2, 2, 16), torch.zeros(2, 2, 16)
    turn_B = torch.tensor([0.3, 0.3])
    sphere_step(
        memory_BKD,
        gradient_BKD,
        first,
        second,
        torch.ones(2),
        turn_B,
        recipe=SphereRecipe(radius=radius),
        radius=radius,
    )
    assert bool((memory_BKD[1, 1] == 0).all())
    lengths = memory_BKD.norm(dim=-1).flatten()[:3]
    torch.testing.assert_close(lengths, torch.full((3,), radius))
    cosine = (memory_BKD * before).sum(-1).flatten()[:3] / radius**2
    # Adam's first step is as long in every element as the turn allows: at most tan(angle) = .3.
    assert bool((cosine.acos() > 0.2).all())
    assert bool((cosine.acos() < 0.3).all())
    # Downhill, in the tangent plane.
    moved = memory_BKD - before
    assert bool(((moved * gradient_BKD).sum(-1).flatten()[:3] < 0).all())
