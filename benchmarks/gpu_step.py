"""Measures how fast the engine steps on this GPU, compared with the published step and the device's peak.

Uses real shapes with random weights in bfloat16 and random tokens; needs only the `tasks` package. For each shape and
length it measures:

- capsweep: a BatchedEngine with as many probes of that length as fit into a step. The recipe is the default one with
  almost no turn and endless patience, so that no probe grows or leaves.
- published: the step of the paper's public code. It has one text, computes logits at every position, keeps the hidden
  states of every layer and a key-value cache, uses autograd and AdamW, and reads loss and accuracy on the host. In one
  respect it is faster here: its weights are bfloat16, while the public code casts float32 weights at every step.

Utilization is operations_per_token (model_shapes.py) times tokens per second over the device's peak, which is a large
matrix product measured here, or the value of --peak-tflops. A step that does not fit into device memory is repeated
with half as many slots.

Source: github.com/yurakuratov/hidden_capacity (train.py, model.py) for the published step.
"""

# Axes: L tokens of the text, D embedding width, V vocabulary.

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Annotated, Any, cast

import torch
import typer
from model_shapes import SHAPES, Shape, operations_per_token, random_model
from transformers import PreTrainedModel

from tasks.cross_entropy import LIGER_IS_INSTALLED
from tasks.device_room import GPU_MOST_TOKENS
from tasks.engine import BatchedEngine
from tasks.language_model import LanguageModel
from tasks.layout import Cramming
from tasks.values import EngineSettings, Probe, Question

CPU_TOKENS = 2048
WARM_UP_STEPS = 3
GIGA = 1e9
NEVER = 1_000_000_000
"""A limit on steps that no measurement reaches."""

ShapeOption = Annotated[list[str] | None, typer.Option("--shape", help=f"One of {', '.join(SHAPES)}; may be repeated.")]
LengthOption = Annotated[list[int], typer.Option("--length", min=2, help="Tokens of a slot; may be repeated.")]
SecondsOption = Annotated[float, typer.Option(min=0, help="Seconds of one measurement, warm-up apart.")]
TokensOption = Annotated[
    int | None, typer.Option(min=1, help="Tokens of all slots in a step; else the engine's choice.")
]
PeakOption = Annotated[float | None, typer.Option(min=0, help="The device's peak in TFLOP/s; else measured.")]
DeviceOption = Annotated[str, typer.Option(help="cuda; or cpu, for the shape tiny, to try the benchmark itself.")]
CompileOption = Annotated[
    bool, typer.Option("--compile", help="Compile the layers of the engine's model, once for each length.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Settings of every measurement."""

    device: torch.device
    dtype: torch.dtype
    lengths: tuple[int, ...]
    seconds: float
    """Of one measurement."""
    tokens_per_step: int
    compile_model: bool
    peak: float
    """Operations per second that the device can do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The rates of one side, capsweep or published, at one length."""

    num_slots: int
    steps_per_second: float
    tokens_per_second: float
    peak_bytes: int
    """Most device memory allocated, weights included; 0 on a CPU."""


def timed(step: Callable[[], object], *, num_slots: int, length: int, seconds: float, device: torch.device) -> Rate:
    """Call `step` for `seconds`, after a few calls to warm up."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(WARM_UP_STEPS):
        step()
    if on_gpu:
        torch.cuda.synchronize(device)
    started, steps = time.perf_counter(), 0
    while steps == 0 or time.perf_counter() - started < seconds:
        step()
        steps += 1
    if on_gpu:
        torch.cuda.synchronize(device)
    per_second = steps / (time.perf_counter() - started)
    return Rate(
        num_slots=num_slots,
        steps_per_second=per_second,
        tokens_per_second=per_second * num_slots * length,
        peak_bytes=torch.cuda.max_memory_allocated(device) if on_gpu else 0,
    )


def random_tokens(model: LanguageModel, length: int, seed: int) -> list[int]:
    """Token ids of a random text."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(model.vocabulary, (length,), generator=generator).tolist()


def measure_engine(model: LanguageModel, length: int, *, num_slots: int, seconds: float) -> Rate:
    """The rate of the engine with `num_slots` slots in a step."""
    question = Question(recipe={"radius": 1000.0, "turn": 1e-9, "restart_below": 0, "steps": NEVER, "patience": NEVER})
    settings = EngineSettings(tokens_per_step=num_slots * length)
    engine = BatchedEngine(model, Cramming(question), question, settings)
    engine.submit(
        [
            Probe(
                probe_id=f"probe {slot}",
                search_id=f"search {slot}",
                number=0,
                sample_id=f"sample {slot}",
                tokens=tuple(random_tokens(model, length, seed=slot)),
                length=length,
                num_vectors=1,
            )
            for slot in range(num_slots)
        ],
        num_open=num_slots,
    )
    rate = timed(engine.step, num_slots=num_slots, length=length, seconds=seconds, device=model.device)
    assert engine.num_held == num_slots, "no probe of this benchmark ends"
    assert engine.stats().slots_busy == 1, "every slot is in every step"
    return rate


def measure_published(model: PreTrainedModel, tokens: list[int], *, seconds: float) -> Rate:
    """The rate of the paper's public code, which steps one text at a time."""
    embedding: Any = model.get_input_embeddings()
    tokens_L = torch.tensor(tokens, device=model.device)
    memory_KD = torch.nn.Parameter(torch.randn(1, embedding.weight.shape[1], device=model.device) * 0.02)
    optimizer = torch.optim.AdamW([memory_KD], lr=0.01, betas=(0.9, 0.9), weight_decay=0.01)

    def step() -> tuple[float, float]:
        text_LD = embedding(tokens_L)
        inputs = torch.cat([memory_KD.to(text_LD.dtype), text_LD])[None]
        output = model(inputs_embeds=inputs, output_hidden_states=True, use_cache=True)
        logits_LV = output.logits[0, 1:-1]
        loss = torch.nn.functional.cross_entropy(logits_LV.float(), tokens_L[1:])
        accuracy = (logits_LV.argmax(-1) == tokens_L[1:]).float().mean().item()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item(), accuracy

    return timed(step, num_slots=1, length=len(tokens), seconds=seconds, device=model.device)


def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a large square matrix product of random numbers."""
    width = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(width, width, device=device, dtype=dtype) for _ in range(2))
    rate = timed(lambda: left @ right, num_slots=1, length=1, seconds=1, device=device)
    return rate.steps_per_second * 2 * width**3


def first_that_fits(attempts: Iterable[Callable[[], Rate]]) -> Rate | None:
    """The first measurement that does not run out of device memory; None if all do."""
    for attempt in attempts:
        try:
            return attempt()
        except torch.OutOfMemoryError:
            pass
        # Outside the handler, so that nothing of the failed step is still held.
        torch.cuda.empty_cache()
    return None


def halvings(count: int) -> Iterator[int]:
    """So many, half of that, and on down to one."""
    while count:
        yield count
        count //= 2


def measure_shape(name: str, setup: Setup) -> Iterator[str]:
    """Lines of the table, one for each length as soon as it is measured."""
    built = random_model(SHAPES[name], device=str(setup.device), dtype=setup.dtype)
    model = LanguageModel(built, device=str(setup.device))
    published = {
        length: first_that_fits(
            [partial(measure_published, built, random_tokens(model, length, seed=0), seconds=setup.seconds)]
        )
        for length in setup.lengths
    }
    if setup.compile_model:
        # Layer by layer: in a whole compiled model, transformers gives attention an explicit mask, which rules out
        # flash kernels.
        for layer in cast(Any, built.base_model).layers:
            layer.compile(dynamic=False)
    for length in setup.lengths:
        ours = first_that_fits(
            partial(measure_engine, model, length, num_slots=num_slots, seconds=setup.seconds)
            for num_slots in halvings(max(1, setup.tokens_per_step // length))
        )
        of_peak = operations_per_token(built, length) / setup.peak
        yield line(name, length, ours, published[length], of_peak=of_peak, shape=SHAPES[name])


def line(name: str, length: int, ours: Rate | None, published: Rate | None, *, of_peak: float, shape: Shape) -> str:
    """One line of the table; `of_peak` is the share of the peak at one token per second."""
    if ours is None:
        return f"| {name} | {length} | out of memory |"
    utilization = ours.tokens_per_second * of_peak
    goals: list[str] = []
    cells = ["-"] * 3
    if published is not None:
        ratio = ours.tokens_per_second / published.tokens_per_second
        cells = [
            f"{published.tokens_per_second:,.0f}",
            f"{published.peak_bytes / GIGA:.1f}" if published.peak_bytes else "-",
            f"{ratio:.1f}x",
        ]
        if shape.least_ratio is not None:
            goals.append(f"{shape.least_ratio:g}x: {'met' if ratio >= shape.least_ratio else 'missed'}")
    if shape.least_utilization is not None:
        met = utilization >= shape.least_utilization
        goals.append(f"{shape.least_utilization:.0%}: {'met' if met else 'missed'}")
    device_memory = f"{ours.peak_bytes / GIGA:.1f}" if ours.peak_bytes else "-"
    return (
        f"| {name} | {length} | {ours.num_slots} | {ours.steps_per_second:.2f} | {ours.tokens_per_second:,.0f} "
        f"| {utilization:.1%} | {device_memory} | {' | '.join(cells)} | {', '.join(goals) or '-'} |"
    )


HEAD = """\
| shape | length | slots | steps/s | tokens/s | of peak | GB | published tokens/s | published GB | ratio | goals |
|---|---|---|---|---|---|---|---|---|---|---|"""


def main(
    shape: ShapeOption = None,
    length: LengthOption = [64, 512, 1568],  # noqa: B006 typer copies it
    seconds: SecondsOption = 5.0,
    tokens_per_step: TokensOption = None,
    peak_tflops: PeakOption = None,
    device: DeviceOption = "cuda",
    compile_model: CompileOption = False,
) -> None:
    """Measure the engine's step on real shapes with random weights."""
    names = shape or [name for name in SHAPES if name != "tiny"]
    if unknown := [name for name in names if name not in SHAPES]:
        raise typer.BadParameter(f"{unknown[0]!r} is not a shape; known: {', '.join(SHAPES)}.", param_hint="--shape")
    on_gpu = device.startswith("cuda") and torch.cuda.is_available()
    if not on_gpu and (device != "cpu" or names != ["tiny"]):
        typer.echo("No CUDA device here: nothing measured. To try the benchmark itself: --device cpu --shape tiny.")
        return
    place, dtype = torch.device(device), torch.bfloat16 if on_gpu else torch.float32
    setup = Setup(
        device=place,
        dtype=dtype,
        lengths=tuple(length),
        seconds=seconds,
        tokens_per_step=tokens_per_step or (GPU_MOST_TOKENS if on_gpu else CPU_TOKENS),
        compile_model=compile_model,
        peak=peak_tflops * 1e12 if peak_tflops else measure_peak(place, dtype),
    )
    chip = torch.cuda.get_device_name(place) if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    typer.echo(
        f"{chip}; {dtype}; torch {version('torch')}, transformers {version('transformers')}, "
        f"{'with' if LIGER_IS_INSTALLED and on_gpu else 'without'} liger-kernel; "
        f"{'' if compile_model else 'not '}compiled\n"
        f"peak {setup.peak / 1e12:.2f} TFLOP/s, {'as given' if peak_tflops else 'a matrix product measured here'}\n\n"
        f"{HEAD}"
    )
    for name in names:
        for found in measure_shape(name, setup):
            typer.echo(found)


if __name__ == "__main__":
    typer.run(main)
