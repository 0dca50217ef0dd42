"""Compares capsweep with rivals on the same model and texts, in the same arithmetic, at equal trained tokens per text.

    python benchmarks/rivals.py run LEDGER --model FOLDER --texts FILE.jsonl --count 6 --budgets 6000 25000 \
        [--rivals capsweep published progressive low_rank] [--to-the-end]
    python benchmarks/rivals.py table LEDGER [LEDGER ..]

All compute in float32, with their texts in one batch. A text has a row at each budget that it crosses, and with
`--to-the-end` one at its own end. Rows are written as they are found, and states every minute, so that a second `run`
resumes.

The rivals are those of rival_recipes.py. A claim is teacher forced; at each row, the claimed tokens are decoded from
the memory alone, by capsweep's certificate and by transformers.
"""

# Axes: L tokens, D embedding width.

import argparse
import io
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from ledger import SAVE_SECONDS, SETTINGS, Ledger, commit, key_of, rows_by_line
from rival_recipes import RIVALS, Racer, advance
from torch import Tensor
from transformers import AutoModelForCausalLM

from orchestrator.report.intervals import bootstrap_mean
from tasks.contract import Prover
from tasks.cramming import CrammingTask
from tasks.values import Model, Question

SAME = ("ledger", "model", "texts", "first", "count", "seed", "longest", "threads")
"""Options that capsweep shares with its rivals."""


def decode_in_float32(model: Any, memory_D: Tensor | None, tokens: Sequence[int], *, num_given: int = 0) -> int:
    """How many tokens transformers gives back, greedily, from the memory alone or with the first `num_given` tokens."""
    if memory_D is None:
        return 0
    embedding, cache = model.get_input_embeddings(), None
    inputs_1LD = torch.cat([memory_D[None, None], embedding(torch.tensor([tokens[:num_given]]).long())], dim=1)
    with torch.no_grad():
        for number in range(num_given, len(tokens)):
            answer = model(inputs_embeds=inputs_1LD, past_key_values=cache, use_cache=True)
            cache, best = answer.past_key_values, int(answer.logits[0, -1].argmax())
            if best != tokens[number]:
                return number
            inputs_1LD = embedding(torch.tensor([[best]]))
    return len(tokens)


def certified(prover: Prover, memory_D: Tensor | None, tokens: Sequence[int]) -> int:
    """How many of the claimed tokens the memory alone gives back."""
    if memory_D is None:
        return 0
    return prover(memory_D.numpy().tobytes(), num_vectors=1, tokens=tokens).exact_prefix


def row_of(racer: Racer, *, model: Any, prover: Prover, num_given: int) -> dict[str, Any]:
    """The row of one text, with its claims decoded; for a rival that is given t_1, also from memory and t_1."""
    memory_D, text = racer.claimed_memory_D, racer.tokens[: racer.claimed]
    return {
        "key": racer.key,
        "source_tokens": json.dumps(list(racer.tokens[:8])),
        "exact_prefix": certified(prover, memory_D, text),
        "teacher_forced": racer.claimed,
        "steps": racer.steps,
        "trained_tokens": racer.trained_tokens,
        "seconds": racer.seconds,
        "ended_at_limit": racer.claimed == len(racer.tokens),
        "steps_by_length": racer.steps_by_length,
        "trained_tokens_by_length": racer.trained_tokens_by_length,
        "certified_steps": [steps for steps, *_ in racer.marks],
        "certified_trained_tokens": [trained for _, trained, *_ in racer.marks],
        "certified_lengths": [certified(prover, kept_D, racer.tokens[:claim]) for *_, claim, kept_D in racer.marks],
        "exact_in_float32": decode_in_float32(model, memory_D, text),
        "exact_given_first": decode_in_float32(model, memory_D, text, num_given=1) if num_given else None,
        "memory": None if memory_D is None else memory_D.numpy().tobytes(),
    }


def budgets_of(arguments: argparse.Namespace) -> list[int | None]:
    """The budgets that were asked for, the smallest first; None is the rival's own end."""
    return [*sorted(arguments.budgets), *([None] if arguments.to_the_end else [])]


def race(name: str, arguments: argparse.Namespace) -> None:
    """Measure the texts that lack a row under this rival, side by side."""
    rival, ledger = RIVALS[name], Ledger(Path(arguments.ledger))
    shared = {
        "label": name,
        "model": Path(arguments.model).name,
        "texts": Path(arguments.texts).name,
        "recipe": json.dumps(asdict(rival), sort_keys=True),
        "num_vectors": 1,
        "budget": None,
        "longest": arguments.longest,
    }
    task = CrammingTask()
    codec = task.codec(Model(name=arguments.model))
    lines = Path(arguments.texts).read_text().splitlines()[arguments.first : arguments.first + arguments.count]
    budgets = budgets_of(arguments)
    keys: dict[str, dict[int | None, str]] = {}
    racers: list[Racer] = []
    for line in lines:
        tokens = codec.encode(json.loads(line)["text"]).tokens[: arguments.longest]
        # Budgets do not change how a text is optimized, so its state has the key without a budget.
        key = key_of(shared, tokens, arguments.seed)
        keys[key] = {at: key_of({**shared, "budget": at}, tokens, arguments.seed) for at in budgets}
        if all(ledger.has(of_row) for of_row in keys[key].values()):
            continue
        state = ledger.state_of(key)
        racer = Racer(key=key, tokens=tuple(tokens), seed=arguments.seed, length=rival.first_length)
        racers.append(racer if state is None else torch.load(io.BytesIO(state), weights_only=False))
    print(f"{name}: {len(lines) - len(racers)} of {len(lines)} texts are measured", flush=True)
    if not racers:
        return
    torch.set_num_threads(arguments.threads)
    model: Any = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
    model.requires_grad_(False).eval()
    prover = task.open_prover(Model(name=arguments.model, dtype="float32"), Question(), "cpu")
    for racer in racers:
        if racer.optimizer is None:
            rival.begin(racer, model.get_input_embeddings().weight)

    def note(racer: Racer, budget: int | None) -> None:
        found = row_of(racer, model=model, prover=prover, num_given=rival.num_given)
        row = {**shared, "budget": budget, "seed": racer.seed, "commit": commit(), **found}
        ledger.add({**row, "key": keys[racer.key][budget]})
        claim = f"{row['teacher_forced']} tokens claimed, {row['exact_prefix']} certified"
        end = f"at {budget:,} trained tokens" if budget else "at its end"
        print(f"{name} {end}: {claim}, {racer.steps} steps, {racer.seconds:.0f} s", flush=True)

    race_to_budgets(partial(advance, model, rival), racers, ledger, keys=keys, note=note)


def race_to_budgets(
    step: Callable[[Sequence[Racer]], None],
    racers: list[Racer],
    ledger: Ledger,
    *,
    keys: Mapping[str, Mapping[int | None, str]],
    note: Callable[[Racer, int | None], None],
) -> None:
    """Step the texts side by side until each has crossed all of its budgets.

    Args:
        step: Advances texts by one step each.
        racers: The texts.
        ledger: Takes the states; a row that it has is not noted again.
        keys: Key of a text -> budget (None: its own end) -> key of the row.
        note: Writes the row of a text at a budget.
    """
    saved = time.monotonic()
    while racers:
        step(racers)
        rest: list[Racer] = []
        for racer in racers:
            budgets = keys[racer.key]
            crossed = [at for at in budgets if racer.is_over or (at and racer.trained_tokens >= at)]
            for budget in crossed:
                if not ledger.has(budgets[budget]):
                    note(racer, budget)
            if len(crossed) < len(budgets):
                rest.append(racer)
            elif not racer.is_over:
                # A later call may ask for a larger budget.
                ledger.save({racer.key: state_of(racer)})
        racers = rest
        if time.monotonic() - saved > SAVE_SECONDS:
            ledger.save({racer.key: state_of(racer) for racer in racers})
            saved = time.monotonic()


def state_of(racer: Racer) -> bytes:
    """The whole state of a text in flight, for torch.load."""
    state = io.BytesIO()
    torch.save(racer, state)
    return state.getvalue()


def table(paths: list[str]) -> None:
    """Print one line per rival and budget."""
    groups = rows_by_line(paths)
    print(
        "| | n | tokens claimed | certified in the run | by transformers in float32 | with t_1 given | steps "
        "| trained tokens | seconds |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for key, rows in sorted(groups.items(), key=lambda group: (group[0][5] or math.inf, group[0][0])):
        settings = dict(zip(SETTINGS, key, strict=True))
        end = "to its own end" if settings["budget"] is None else f"{settings['budget']:,} trained tokens"
        cells = [f"{settings['label']}, {end}", str(len(rows))]
        for name in ("teacher_forced", "exact_prefix", "exact_in_float32", "exact_given_first"):
            if any(row.get(name) is None for row in rows):
                cells.append("-")
                continue
            values = [float(row[name]) for row in rows]
            interval = bootstrap_mean(values, [row["key"] for row in rows])
            cells.append(f"{np.mean(values):.1f}" + (f" [{interval[0]:.1f}, {interval[1]:.1f}]" if interval else ""))
        cells += [f"{np.mean([row[name] for row in rows]):,.0f}" for name in ("steps", "trained_tokens", "seconds")]
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run")
    run.add_argument("ledger")
    run.add_argument("--model", required=True)
    run.add_argument("--texts", required=True)
    run.add_argument("--rivals", nargs="+", choices=["capsweep", *RIVALS], default=["capsweep", *RIVALS])
    run.add_argument("--first", type=int, default=0)
    run.add_argument("--count", type=int, default=6)
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--budgets", type=int, nargs="*", default=[], help="trained tokens a text")
    run.add_argument("--to-the-end", action="store_true", help="also to each rival's own end")
    run.add_argument("--longest", type=int, default=300)
    run.add_argument("--threads", type=int, default=2)
    verbs.add_parser("table").add_argument("ledgers", nargs="+")
    arguments = parser.parse_args()
    if arguments.verb == "table":
        table(arguments.ledgers)
        return
    if not (arguments.budgets or arguments.to_the_end):
        parser.error("--budgets or --to-the-end, or both")
    for name in arguments.rivals:
        if name != "capsweep":
            race(name, arguments)
            continue
        for budget in budgets_of(arguments):
            # With a budget, the budget must end a probe, not its patience.
            recipe = json.dumps({"patience": 400} if budget else {})
            same = {part: getattr(arguments, part) for part in SAME}
            settings = measure.Settings(label=name, recipe=recipe, budget=budget, side_by_side=arguments.count, **same)
            measure.measure(settings)
    table([arguments.ledger])


if __name__ == "__main__":
    main()
