"""Compares capsweep with rivals on the same model and texts, in the same arithmetic, at equal trained tokens per text.

    python benchmarks/rivals.py run LEDGER --model FOLDER --texts FILE.jsonl --count 6 --budgets 6000 25000 \
        [--rivals capsweep published progressive low_rank] [--to-the-end]
    python benchmarks/rivals.py table LEDGER [LEDGER ..]

All compute in float32, with their texts in one batch. A text has a row at each budget that it crosses, and with
`--to-the-end` one at its own end. Rows are written as they are found, and states every minute, so that a second `run`
resumes.

- published: AdamW at 0.01, plain loss, t_1 given, one length at a time from a fresh memory, lengths by bisection.
  Source: "Cramming 1568 Tokens into a Single Vector and Back Again" (ACL 2025).
- progressive: AdamW at 0.1 with a cosine schedule, every token predicted, one token more at each exact match.
  Source: "Progressive Cramming" (ICML 2026).
- low_rank: as progressive, but the memory is e = W z + b with 256 columns, and W, z and b are trained: that paper's
  strongest row.

The rivals are implemented from the papers' protocols. A step is a forward and backward pass of one text; a text that
matches takes no update, so the memory that counts is the one that matched. A claim is teacher forced; at each row, the
claimed tokens are decoded from the memory alone, by capsweep's certificate and by transformers.
"""

# Axes: B texts, L tokens, D embedding width, H hidden size, M columns of W, N scored tokens of all texts.

import argparse
import hashlib
import io
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from ledger import SAVE_SECONDS, SETTINGS, Ledger, commit, key_of, rows_by_line
from torch import Tensor
from transformers import AutoModelForCausalLM

from orchestrator.report.intervals import bootstrap_mean
from tasks.contract import Prover
from tasks.cramming import CrammingTask
from tasks.values import Model, Question


@dataclass(kw_only=True)
class Racer:
    """One text optimized by one rival's recipe."""

    key: str
    tokens: tuple[int, ...]
    seed: int
    length: int
    """Tokens asked for now."""
    parameters: dict[str, Tensor] = field(default_factory=dict)
    optimizer: torch.optim.Optimizer | None = None
    steps: int = 0
    trained_tokens: int = 0
    """Sum over the steps of the tokens asked for, t_1 included."""
    seconds: float = 0.0
    steps_at_length: int = 0
    best_accuracy: float = 0.0
    since_better: int = 0
    claimed: int = 0
    """Longest length that matched, teacher forced."""
    claimed_memory_D: Tensor | None = None
    failed: int | None = None
    """Shortest length that was given up on; bisection only."""
    is_over: bool = False
    steps_by_length: list[int] = field(default_factory=list)
    trained_tokens_by_length: list[int] = field(default_factory=list)
    marks: list[tuple[int, int, int, Tensor]] = field(default_factory=list)
    """Steps, trained tokens, the length claimed by then, and its memory."""

    def claim(self, memory_D: Tensor) -> None:
        """Note that the length asked for matched."""
        new = self.length - len(self.steps_by_length)
        self.steps_by_length += [self.steps] * new
        self.trained_tokens_by_length += [self.trained_tokens] * new
        self.claimed, self.claimed_memory_D = self.length, memory_D.detach().clone()


@dataclass(frozen=True, kw_only=True)
class Published:
    """Constants and protocol of the ACL 2025 paper; lengths double from 8, then bisect, and each is tried once."""

    num_given: int = 1
    """Tokens of the text that are neither trained nor scored."""
    first_length: int = 8
    learning_rate: float = 0.01
    betas: tuple[float, float] = (0.9, 0.9)
    weight_decay: float = 0.01
    steps: int = 5000
    patience: int = 2000

    def begin(self, racer: Racer, table_VD: Tensor) -> None:
        """Give the text a fresh memory of normal numbers with the standard deviation of the embedding table."""
        memory_D = torch.randn(table_VD.shape[1], generator=generator_of(racer)) * table_VD.std()
        prepare(racer, self, {"memory": memory_D})

    def memory(self, parameters: dict[str, Tensor]) -> Tensor:
        """The memory, (D,)."""
        return parameters["memory"]

    def rate(self, step: int) -> float:
        """Learning rate, which is constant."""
        del step
        return self.learning_rate

    def judge(self, racer: Racer, accuracy: float, memory_D: Tensor) -> bool:
        """Decide what follows a step; returns whether another length begins from a fresh memory."""
        if accuracy == 1.0:
            racer.claim(memory_D)
        else:
            racer.since_better = 0 if accuracy > racer.best_accuracy else racer.since_better + 1
            racer.best_accuracy = max(racer.best_accuracy, accuracy)
            if racer.steps_at_length < self.steps and racer.since_better < self.patience:
                return False
            racer.failed = racer.length
        # t_1 is given, so a length of one token always counts as proven.
        proven, limit = max(1, racer.claimed), len(racer.tokens)
        failed = racer.failed or limit + 1
        racer.is_over = failed - proven <= 1
        racer.length = min(2 * proven, limit) if racer.failed is None else (proven + failed) // 2
        return not racer.is_over


@dataclass(frozen=True, kw_only=True)
class Progressive:
    """Constants and protocol of the ICML 2026 paper: one token more at each exact match, the optimizer carried over."""

    num_given: int = 0
    first_length: int = 1
    learning_rate: float = 0.1
    last_rate: float = 0.001
    warm_up: int = 100
    betas: tuple[float, float] = (0.9, 0.9)
    weight_decay: float = 0.01
    steps: int = 10_000
    steps_a_token: int = 1_000
    init_scale: float = 0.02
    columns: int = 0
    """Columns of W; 0: the memory itself is trained."""

    def begin(self, racer: Racer, table_VD: Tensor) -> None:
        """Give the text a fresh memory, or a fresh W, b and z."""
        width, generator = table_VD.shape[1], generator_of(racer)

        def uniform(*shape: int, low: float, high: float) -> Tensor:
            return torch.rand(shape, generator=generator) * (high - low) + low

        if not self.columns:
            prepare(racer, self, {"memory": uniform(width, low=0.0, high=self.init_scale)})
            return
        bound = self.columns**-0.5
        parameters = {
            "W": uniform(width, self.columns, low=-bound, high=bound),
            "b": uniform(width, low=-bound, high=bound),
            "z": uniform(self.columns, low=0.0, high=self.init_scale),
        }
        prepare(racer, self, parameters)

    def memory(self, parameters: dict[str, Tensor]) -> Tensor:
        """The memory, (D,)."""
        if not self.columns:
            return parameters["memory"]
        return parameters["W"] @ parameters["z"] + parameters["b"]

    def rate(self, step: int) -> float:
        """Learning rate of step `step` of a text, from 0: warm-up, then half a cosine over the other steps."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        share = (step - self.warm_up) / (self.steps - self.warm_up)
        return self.last_rate + (self.learning_rate - self.last_rate) * (1 + math.cos(math.pi * share)) / 2

    def judge(self, racer: Racer, accuracy: float, memory_D: Tensor) -> bool:
        """Ask for one token more at a match; returns False, because no memory is ever replaced."""
        if accuracy == 1.0:
            racer.claim(memory_D)
            racer.is_over = racer.length == len(racer.tokens)
            racer.length, racer.steps_at_length = min(racer.length + 1, len(racer.tokens)), 0
        racer.is_over |= racer.steps_at_length >= self.steps_a_token or racer.steps >= self.steps
        return False


SAME = ("ledger", "model", "texts", "first", "count", "seed", "longest", "threads")
"""Options that capsweep shares with its rivals."""
RIVALS: dict[str, Published | Progressive] = {
    "published": Published(),
    "progressive": Progressive(),
    "low_rank": Progressive(columns=256),
}


def generator_of(racer: Racer) -> torch.Generator:
    """Random numbers of a fresh memory, decided by the text, the seed and the steps taken."""
    number = hashlib.sha256(f"{racer.key}/{racer.seed}/{racer.steps}".encode()).digest()[:7]
    return torch.Generator().manual_seed(int.from_bytes(number, "little"))


def prepare(racer: Racer, rival: Published | Progressive, parameters: dict[str, Tensor]) -> None:
    """Begin to optimize from these parameters."""
    racer.parameters = {name: torch.nn.Parameter(value) for name, value in parameters.items()}
    racer.optimizer = torch.optim.AdamW(
        racer.parameters.values(), lr=rival.learning_rate, betas=rival.betas, weight_decay=rival.weight_decay
    )
    racer.steps_at_length, racer.best_accuracy, racer.since_better = 0, 0.0, 0


def advance(model: Any, rival: Published | Progressive, racers: Sequence[Racer]) -> None:
    """One forward and backward pass of all racers together, and an update of each that did not match."""
    started = time.perf_counter()
    embedding = model.get_input_embeddings()
    lengths_B = torch.tensor([racer.length for racer in racers])
    longest = int(lengths_B.max())
    tokens_BL = torch.tensor([[*racer.tokens[:longest], *[0] * (longest - len(racer.tokens))] for racer in racers])
    memory_BD = torch.stack([rival.memory(racer.parameters) for racer in racers])
    inputs_BLD = torch.cat([memory_BD[:, None], embedding(tokens_BL[:, :-1])], dim=1)
    hidden_BLH = model.base_model(inputs_embeds=inputs_BLD, use_cache=False).last_hidden_state
    place_L = torch.arange(longest)
    scored_BL = (place_L < lengths_B[:, None]) & (place_L >= rival.num_given)
    of_text_N = scored_BL.nonzero()[:, 0]
    logits_NV = model.get_output_embeddings()(hidden_BLH[scored_BL])
    targets_N = tokens_BL[scored_BL]
    correct_N = logits_NV.argmax(-1) == targets_N
    nats_N = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="none")
    scored_B = scored_BL.sum(1)
    accuracy_B = torch.zeros(len(racers)).index_add(0, of_text_N, correct_N.float()) / scored_B
    loss_B = torch.zeros(len(racers)).index_add(0, of_text_N, nats_N) / scored_B
    moves = [accuracy < 1.0 for accuracy in accuracy_B.tolist()]
    if any(moves):
        loss_B[torch.tensor(moves)].sum().backward()
    seconds = (time.perf_counter() - started) / int(lengths_B.sum())
    for racer, memory_D, accuracy, move in zip(racers, memory_BD, accuracy_B.tolist(), moves, strict=True):
        racer.steps, racer.steps_at_length = racer.steps + 1, racer.steps_at_length + 1
        racer.trained_tokens += racer.length
        racer.seconds += seconds * racer.length
        assert racer.optimizer is not None
        if move:
            for group in racer.optimizer.param_groups:
                group["lr"] = rival.rate(racer.steps - 1)
            racer.optimizer.step()
        racer.optimizer.zero_grad()
        # The judged memory is the measured one, from before the step.
        if rival.judge(racer, accuracy, memory_D):
            rival.begin(racer, embedding.weight)
        if racer.steps in measure.STEPS and racer.claimed_memory_D is not None:
            racer.marks.append((racer.steps, racer.trained_tokens, racer.claimed, racer.claimed_memory_D))


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
    prover = task.prove(Model(name=arguments.model, dtype="float32"), Question(), "cpu")
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
