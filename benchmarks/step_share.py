"""How much of a bare forward and backward pass the engine's whole step is worth, in tokens a second, in turn.

    python benchmarks/step_share.py MODEL --texts FILE.jsonl [--slots 24] [--begun 2000] [--steps 20] [--runs 5]

Bare: transformers as it comes on 24 slots of 16 tokens, cross-entropy of every token, gradient of the inputs; nothing
else. Engine: as many slots, all of them busy, after `--begun` trained tokens each, so that they have unlike lengths:
head, verdicts, update and growth. Then the certificates of all slots, which a search pays once: their time is spread
over `--search` trained tokens. The way to `--begun` is not timed; `--states` keeps it, so that runs of several commits
begin from the same. Run it on an idle machine.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from tasks.contract import Engine
from tasks.cramming import CrammingTask
from tasks.values import EngineSettings, Model, Probe, Question

SLOTS, LENGTH, BARE_PASSES = 24, 16, 4


def bare(model: Any) -> float:
    """Tokens a second of passes alone."""
    generator = torch.Generator().manual_seed(0)
    tokens_BL = torch.randint(model.config.vocab_size, (SLOTS, LENGTH), generator=generator)
    seconds: list[float] = []
    for _ in range(BARE_PASSES):
        started = time.perf_counter()
        inputs_BLD = model.get_input_embeddings()(tokens_BL).requires_grad_()
        logits_BLV = model(inputs_embeds=inputs_BLD, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits_BLV.flatten(0, 1), tokens_BL.flatten())
        torch.autograd.grad(loss, inputs_BLD)
        seconds.append(time.perf_counter() - started)
    return SLOTS * LENGTH / float(np.median(seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTimes:
    """Seconds of an engine whose slots are all busy, and of their certificates."""

    seconds_per_token: float
    """Of its steps, without certificates."""
    slot_tokens: float
    """Mean length of a slot."""
    certificate_seconds: float
    """Of one slot, when all are certified together."""

    def tokens_per_second(self, search_tokens: int) -> float:
        """Trained tokens a second of a search that trains on so many, its certificate included."""
        return search_tokens / (search_tokens * self.seconds_per_token + self.certificate_seconds)


def engine_runs(arguments: argparse.Namespace, settings: EngineSettings) -> Callable[[], EngineTimes]:
    """A measurement that begins at the same states every time."""
    task, model = CrammingTask(), Model(name=arguments.model)
    recipe = task.examine(model, task.facts(model), task.recipe({"patience": 1000})).recipe
    question = Question(recipe=recipe, growth=None)
    codec = task.codec(model)
    lines = arguments.texts.read_text().splitlines()[: arguments.slots]
    probes = [
        Probe(
            probe_id=f"{number}",
            search_id=f"{number}",
            number=0,
            sample_id=f"{number}",
            tokens=codec.encode(json.loads(line)["text"]).tokens[:200],
            length=4,
            num_vectors=1,
        )
        for number, line in enumerate(lines)
    ]
    states = states_at_begun(task.open_engine(model, question, settings), probes, arguments)
    begun = [replace(probe, snapshot=states.get(probe.probe_id)) for probe in probes]

    def run() -> EngineTimes:
        engine = task.open_engine(model, question, settings)
        engine.submit(begun, num_open=len(begun))
        engine.step()  # lets them in
        before = engine.stats()
        for _ in range(arguments.steps):
            engine.step()
        after = engine.stats()
        # With a budget that they have spent, they leave after one more step.
        started = time.perf_counter()
        certified = task.open_engine(model, question, settings)
        states = {snapshot.probe_id: snapshot.state for snapshot in engine.snapshots()}
        spent = [replace(probe, snapshot=states[probe.probe_id], max_trained_tokens=1) for probe in begun]
        certified.submit(spent, num_open=len(spent))
        started = time.perf_counter()
        while certified.num_held:
            certified.step()
        step_seconds = (after.step_seconds - before.step_seconds) / arguments.steps
        trained = after.trained_tokens - before.trained_tokens
        return EngineTimes(
            seconds_per_token=(after.step_seconds - before.step_seconds) / trained,
            slot_tokens=trained / (after.slot_steps - before.slot_steps),
            certificate_seconds=(time.perf_counter() - started - step_seconds) / len(spent),
        )

    return run


def states_at_begun(engine: Engine, probes: Sequence[Probe], arguments: argparse.Namespace) -> dict[str, bytes]:
    """The slots of these probes after `--begun` trained tokens each, by probe_id."""
    if arguments.states is not None and arguments.states.exists():
        return torch.load(arguments.states)
    engine.submit([replace(probe, max_trained_tokens=arguments.begun) for probe in probes], num_open=len(probes))
    states: dict[str, bytes] = {}
    while engine.num_busy:
        # Those that have just spent their budget wait for their certificate, with their last state.
        engine.step()
        states |= {snapshot.probe_id: snapshot.state for snapshot in engine.snapshots()}
    if arguments.states is not None:
        torch.save(states, arguments.states)
    return states


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--slots", type=int, default=SLOTS)
    parser.add_argument("--begun", type=int, default=2000, help="trained tokens a text before the clock runs")
    parser.add_argument("--steps", type=int, default=20, help="timed steps")
    parser.add_argument("--search", type=int, default=6000, help="trained tokens over which a certificate is spread")
    parser.add_argument("--states", type=Path, default=None, help="file of the texts at --begun; made if missing")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    plain: Any = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
    plain.requires_grad_(False).eval()
    run = engine_runs(arguments, EngineSettings(device="cpu", cpus=arguments.threads))
    shares: list[float] = []
    for _ in range(arguments.runs):
        before = bare(plain)
        engine = run()
        around = (before + bare(plain)) / 2
        whole = engine.tokens_per_second(arguments.search)
        shares.append(whole / around)
        print(
            f"bare {around:,.1f} tokens/s, steps {1 / engine.seconds_per_token:,.1f} (slots of "
            f"{engine.slot_tokens:.1f} tokens), certificate {engine.certificate_seconds:.2f} s a text, "
            f"in all {whole:,.1f} tokens/s: {shares[-1]:.2f}"
        )
    print(
        f"{Path(arguments.model).name}: the engine's whole step reaches {np.mean(shares):.2f} of a bare pass "
        f"({min(shares):.2f} to {max(shares):.2f}, {arguments.runs} runs in turn, {arguments.threads} threads)"
    )


if __name__ == "__main__":
    main()
