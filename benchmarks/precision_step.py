"""Processor seconds of an optimizer step of two texts in each precision of a model, in turn, on one thread of a CPU.

    python benchmarks/precision_step.py MODEL --texts FILE.jsonl [--length 16] [--rounds 5]

Processor time, so that other work on the machine counts less. Needs the extra `quantized`.
"""

import argparse
import time
from pathlib import Path
from statistics import median

from orchestrator.planning.planner import make_plan
from orchestrator.spec.sweep_file import sweep_of
from tasks.contract import Engine
from tasks.values import EngineSettings, Probe

PRECISIONS = ({}, {"quantization": "int8"}, {"quantization": "nf4"}, {"dtype": "bfloat16"})
"""What the entry of the model has besides its name; the first is what the others are compared with."""
TEXTS, STEPS = 2, 2
"""Texts of a step, and steps of a round."""
SETTINGS = EngineSettings(device="cpu", cpus=1, tokens_per_step=256, batch_cost_tokens=16)


def opened(arguments: argparse.Namespace) -> dict[str, Engine]:
    """An engine for each precision, by the name of its model, whose slots have taken a step."""
    sweep = {
        "name": "precision",
        "models": [{"name": arguments.model, **precision} for precision in PRECISIONS],
        "texts": [{"source": "files", "path": str(arguments.texts), "samples": TEXTS}],
        "recipe": {"radius": 100.0},  # a step takes as long with any
    }
    plan = make_plan(sweep_of(sweep), measure=False)
    engines: dict[str, Engine] = {}
    for model in plan.models:
        engine = plan.task.open_engine(model.model, plan.question_of(model.name), SETTINGS)
        texts = [sample.tokens[: arguments.length] for sample in plan.samples.values() if sample.model == model.name]
        probes = [
            Probe(
                probe_id=str(number),
                search_id=str(number),
                number=0,
                sample_id=str(number),
                tokens=tokens,
                length=arguments.length,
                num_vectors=1,
            )
            for number, tokens in enumerate(texts)
        ]
        engine.submit(probes, num_open=len(probes))
        engine.step()
        engines[model.name] = engine
    return engines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--length", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    engines = opened(arguments)
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(arguments.rounds):
        for name, engine in engines.items():
            started = time.process_time()
            for _ in range(STEPS):
                engine.step()
            if engine.num_busy != TEXTS:
                raise SystemExit(f"{name}: a text is done, so its step is another. Wanted a larger --length.")
            seconds[name].append((time.process_time() - started) / STEPS)
    first = next(iter(seconds.values()))
    for name, measured in seconds.items():
        ratios = [mine / theirs for mine, theirs in zip(measured, first, strict=True)]
        print(
            f"{name}: {median(measured):.2f} s a step [{min(measured):.2f}, {max(measured):.2f}], "
            f"{median(ratios):.1f} times the first [{min(ratios):.1f}, {max(ratios):.1f}]"
        )


if __name__ == "__main__":
    main()
