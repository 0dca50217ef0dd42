"""How much of a bare forward and backward pass the engine's whole step is worth, in tokens a second, in turn.

    python benchmarks/step_share.py MODEL --texts FILE.jsonl [--slots 24] [--begun 2000] [--budget 2500] [--runs 5]

Bare: transformers as it comes on 24 slots of 16 tokens, cross-entropy of every token, gradient of the inputs; nothing
else. Engine: texts from `--begun` to `--budget` trained tokens each, so that slots have unlike lengths: head, verdicts,
update, growth, and the certificate of each at the end. Their way to `--begun` is not timed; `--states` keeps it, so
that runs of several commits begin from the same. Run it on an idle machine.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

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


def engine_runs(arguments: argparse.Namespace, settings: EngineSettings) -> Callable[[], tuple[float, float]]:
    """Runs of the engine: trained tokens a second of its whole steps, and the mean length of a slot."""
    task, model = CrammingTask(), Model(name=arguments.model)
    recipe, _ = task.recipe_for(model, task.facts(model), task.recipe({"patience": 1000}))
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
            max_trained_tokens=arguments.budget,
        )
        for number, line in enumerate(lines)
    ]
    engine = task.open_engine(model, Question(recipe=recipe, growth=None), settings)
    states: dict[str, bytes] = {}
    if arguments.states is not None and arguments.states.exists():
        states = torch.load(arguments.states)
    elif arguments.begun:
        engine.submit(probes, num_open=len(probes))
        while engine.stats().trained_tokens < arguments.begun * len(probes):
            engine.step()
        states = {snapshot.probe_id: snapshot.state for snapshot in engine.snapshots()}
        if arguments.states is not None:
            torch.save(states, arguments.states)
        engine = task.open_engine(model, Question(recipe=recipe, growth=None), settings)
    begun = [replace(probe, snapshot=states.get(probe.probe_id)) for probe in probes]

    def run() -> tuple[float, float]:
        before = engine.stats()
        engine.submit(begun, num_open=len(begun))
        while engine.num_held:
            engine.step()
        after = engine.stats()
        trained = after.trained_tokens - before.trained_tokens
        return trained / (after.step_seconds - before.step_seconds), trained / (after.slot_steps - before.slot_steps)

    return run


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--slots", type=int, default=SLOTS)
    parser.add_argument("--begun", type=int, default=2000, help="trained tokens a text before the clock runs")
    parser.add_argument("--budget", type=int, default=2500, help="trained tokens a text in all")
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
        tokens, length = run()
        around = (before + bare(plain)) / 2
        shares.append(tokens / around)
        print(f"bare {around:,.1f} tokens/s, engine {tokens:,.1f} (slots of {length:.1f} tokens): {shares[-1]:.2f}")
    print(
        f"{Path(arguments.model).name}: the engine's whole step reaches {np.mean(shares):.2f} of a bare pass "
        f"({min(shares):.2f} to {max(shares):.2f}, {arguments.runs} runs in turn, {arguments.threads} threads)"
    )


if __name__ == "__main__":
    main()
